//! `P` of the epochs that replies come in by: making it is a tenth of checking a presentation, and all replies to a mailbox in an epoch
//! share it. Nothing in here is secret, and losing it costs microseconds.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use postern_credentials::reply_credential::{Context, EpochBase};

/// As many mailboxes, each with a current epoch, as a process keeps: about 250 bytes each.
const MOST: usize = 8192;

/// Kept bases, by context.
#[derive(Default)]
pub(crate) struct EpochBases(Mutex<HashMap<Context, EpochBase>>);

impl EpochBases {
    /// The base of a context, kept or made.
    pub(crate) fn of(&self, ctx: &Context) -> EpochBase {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(ctx).copied();
        kept.unwrap_or_else(|| EpochBase::new(ctx))
    }

    /// Keeps it: of presentations that held only, so that junk drives nothing out.
    pub(crate) fn keep(&self, base: EpochBase) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MOST && !kept.contains_key(base.context()) {
            let newest = base.context().epoch;
            kept.retain(|ctx, _| ctx.epoch >= newest);
            if kept.len() >= MOST {
                kept.clear();
            }
        }
        kept.insert(*base.context(), base);
    }
}

#[cfg(test)]
mod tests {
    use postern_credentials::reply_credential::KeyPeriod;
    use postern_protocol::ids::MailboxId;

    use super::*;

    fn ctx(mailbox: usize, epoch: u32) -> Context {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&mailbox.to_be_bytes());
        Context { relay: [1; 32], of: KeyPeriod { mailbox: MailboxId(id), key_version: 1, period: 2 }, epoch }
    }

    #[test]
    fn past_epochs_make_room_and_the_number_is_bounded() {
        let bases = EpochBases::default();
        let len = || bases.0.lock().unwrap().len();
        bases.of(&ctx(0, 1));
        assert_eq!(len(), 0, "asking keeps nothing");
        for mailbox in 0..MOST - 1 {
            bases.keep(EpochBase::new(&ctx(mailbox, 1)));
        }
        bases.keep(EpochBase::new(&ctx(0, 2)));
        assert_eq!(len(), MOST);
        bases.keep(EpochBase::new(&ctx(1, 2)));
        assert_eq!(len(), 2, "those of the past epoch are gone");
        assert_eq!(bases.of(&ctx(1, 2)).context(), &ctx(1, 2));
        for mailbox in 0..MOST {
            bases.keep(EpochBase::new(&ctx(mailbox, 2)));
        }
        assert_eq!(len(), MOST);
        bases.keep(EpochBase::new(&ctx(MOST, 2)));
        assert_eq!(len(), 1, "of one epoch no more are kept than have room");
    }
}
