//! What happens in a world of the linkability game, and what a client can do wrong in it.

use super::capture::Exchange;

/// So many contacts a mailbox has that replies come to.
pub const CONTACTS: usize = 2;
/// The most that [`Slip::Repeats`] repeats, and one.
pub const REPEATS: usize = 24;

/// What a client does wrong. Each is a switch of these tests only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Slip {
    /// Nothing: the client of this version.
    None,
    /// One connection for everything.
    SameConnection,
    /// A header with a name of the account's own.
    AccountHeader,
    /// Which headers there are differs between clients.
    HeaderOrder,
    /// How long requests are differs between clients.
    Length,
    /// Everybody does everything in the same order.
    InOrder,
    /// The issuer shows every few accounts a key of their own.
    MarkedKeys,
    /// Tokens are blinded with a factor that everybody knows.
    KnownBlinding,
    /// Each client repeats its requests in its own way.
    Repeats,
    /// A contact shows the same slot twice.
    SameSlot,
    /// Contacts show their replies for an epoch of their own.
    OwnEpoch,
    /// Tokens are exchanged just after the client came with its session.
    AtOnce,
    /// The relay is told of declining by its own name.
    SaysDecline,
}

/// What people do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Registers and opens a mailbox.
    Registration,
    /// Comes with a session: publishes, or reads.
    Session,
    /// Writes to a stranger: card, prekey, message.
    ColdSend,
    /// Reads and acknowledges, and later gives the token back: by accepting, every second one by declining.
    Verdict,
    /// Has the token exchanged.
    Exchange,
    /// Writes to another stranger, with the token that was exchanged for.
    NextSend,
    /// Replies to a contact.
    Reply,
    /// Once more.
    NextReply,
}

/// One thing that somebody did.
#[derive(Debug)]
pub struct Event {
    /// What.
    pub kind: Kind,
    /// Whose.
    pub player: usize,
    /// How many of this kind came before.
    pub place: usize,
    /// What both servers saw of it.
    pub exchanges: Vec<Exchange>,
    /// The greatest rowid that each table had got by it, if it got any: by table.
    pub rows: Vec<(String, i64)>,
}

/// Whether somebody declines instead of accepting.
pub const fn declines(player: usize) -> bool {
    player % 2 == 1
}

/// Whose mailbox somebody replies to: that of the same one for [`CONTACTS`] neighbours.
pub fn owner_of(player: usize, people: usize) -> usize {
    (player / CONTACTS * CONTACTS + CONTACTS) % people
}
