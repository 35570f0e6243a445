//! Accounts before the run, several at a time.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use super::Setup;
use crate::account::{Account, Login, Session};
use crate::measure::{Outcome, Recorder};
use crate::pace::{self, Limit, Pace};
use crate::wire::{Called, nonsense};

/// How many are made at a time: enough to keep the issuer busy.
const AT_ONCE: usize = 8;

/// Does `work` for 0, 1, … `count`, and gives the results back in this order.
///
/// # Errors
/// The first unexpected outcome; then nothing more is begun.
pub(super) async fn each<T, W, F>(setup: &Arc<Setup>, count: u32, work: W) -> Called<Vec<T>>
where
    T: Send + 'static,
    W: Fn(Arc<Setup>, u32) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Called<T>> + Send + 'static,
{
    let made = Arc::new(Mutex::new((Vec::new(), None)));
    let (setup_of_work, into) = (Arc::clone(setup), Arc::clone(&made));
    let once = move |number: u64| {
        let (setup, into, work) = (Arc::clone(&setup_of_work), Arc::clone(&into), work.clone());
        async move {
            let done = work(Arc::clone(&setup), u32::try_from(number).unwrap_or(u32::MAX)).await;
            let mut into = into.lock().unwrap_or_else(PoisonError::into_inner);
            match done {
                Ok(thing) => into.0.push((number, thing)),
                Err(outcome) => {
                    into.1.get_or_insert(outcome);
                    setup.stop.stop();
                }
            }
            Outcome::Done(0)
        }
    };
    let limit = Limit { count: Some(count.into()), duration: None };
    let recorder = Arc::new(Recorder::default());
    pace::run(Pace::Closed { in_flight: AT_ONCE }, limit, &setup.stop, &recorder, "prepare", once).await;
    let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(outcome) = made.1.take() {
        return Err(outcome);
    }
    let mut things = std::mem::take(&mut made.0);
    if things.len() as u64 != u64::from(count) {
        return Err(nonsense("stopped before everything was ready"));
    }
    things.sort_unstable_by_key(|(number, _)| *number);
    Ok(things.into_iter().map(|(_, thing)| thing).collect())
}

/// The `index`th account of the run, registered.
pub(super) async fn account(setup: &Setup, index: u32, tokens: u32, login: Login) -> Called<Account> {
    let number = setup.first_number.saturating_add(index);
    Account::register(&setup.wire, &setup.terms, &mut setup.seeds.generator(), number, tokens, login).await
}

/// The same with an open mailbox and a session that has its first JWT.
pub(super) async fn owner(setup: &Setup, index: u32, tokens: u32) -> Called<(Account, Session)> {
    let account = account(setup, index, tokens, Login::Possible).await?;
    account.open_mailbox(&setup.wire).await?;
    let mut session = account.log_in(&setup.wire, &setup.terms, &mut setup.seeds.generator()).await?;
    session.authorization(&setup.wire, setup.clock.now()).await?;
    Ok((account, session))
}
