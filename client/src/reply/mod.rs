//! Replies (M5, M10, M15–M17, design §3): both sides of a conversation write without tokens, and the relay cannot tell who wrote.
//!
//! | file | whose side | what |
//! |---|---|---|
//! | `group` | the owner's | the group secrets: made at registration, uploaded, replaced |
//! | `issue` | the owner's | what each contact was handed, and handing over what is missing |
//! | `admit` | the owner's | by what right a message came in, and whose: `who` |
//! | `strike` | the owner's | `block`, `unblock`, and the lists that make the relay refuse silently |
//! | `held` | the contact's | credentials at hand, and which slots are used |
//! | `hello` | the contact's | a message without text that hands credentials to somebody who was accepted |
//!
//! Credentials travel inside ordinary messages, four periods ahead, so that whoever was away for three weeks can still write. Each message
//! says what its writer holds; only what is missing is handed over.

mod admit;
mod group;
mod held;
mod hello;
mod issue;
mod strike;
#[cfg(test)]
mod tests;

pub use self::admit::{By, Who};
pub use self::group::Rotated;
pub use self::strike::{BlockChange, StrikeRun};

pub(crate) use self::admit::{Arrival, Traced};
pub(crate) use self::group::GroupRecord;
pub(crate) use self::held::{HeldRecord, Right, TakenSlot};
pub(crate) use self::hello::HelloJob;
pub(crate) use self::issue::IssuedRecord;
