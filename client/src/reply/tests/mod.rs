//! Two people, a relay that really verifies, and a clock that stands still until somebody moves it.

mod blocking;
mod conversation;
mod keys;
mod receiving;
mod slots;

use postern_protocol::ids::SigningPublicKey;

use super::*;
use crate::error::{Error, Result};
use crate::read::{Folder, Message};
use crate::send::{Delivery, NoReply, Paid, Sent, Target};
use crate::testing::{Asked, Fault, NOW, Person, Town};

const ALICE: &str = "+41791234567";
const BOB: &str = "+41791234568";
const HOUR: u64 = 3600;
const WEEK: u64 = 7 * 24 * HOUR;

struct Pair {
    town: Town,
    alice: Person,
    bob: Person,
}

impl Pair {
    async fn strangers() -> Self {
        let town = Town::new();
        let alice = town.person("alice", ALICE).await;
        let bob = town.person("bob", BOB).await;
        Self { town, alice, bob }
    }

    /// Alice wrote for a token, Bob accepted and answered: both hold credentials, nothing is on its way.
    async fn acquainted() -> Self {
        let mut pair = Self::strangers().await;
        pair.alice_writes("hello").await.unwrap();
        pair.bob.sync().await.unwrap();
        let request = only(&pair.bob, Folder::Requests);
        pair.bob.accept(&request.id).unwrap();
        pair.bob_writes("yes?").await.unwrap();
        pair.alice.sync().await.unwrap();
        pair.bob.sync().await.unwrap();
        pair
    }

    // A second later each time, so that there is an order in which they came.
    async fn alice_writes(&mut self, text: &str) -> Result<Sent> {
        self.pass(1);
        let target = Target::Link(self.bob.card_link().unwrap());
        self.alice.send(&target, text).await
    }

    async fn bob_writes(&mut self, text: &str) -> Result<Sent> {
        self.pass(1);
        self.bob.send(&Target::Contact(ALICE.into()), text).await
    }

    /// What Alice reads of Bob, oldest first, after fetching.
    async fn alice_reads(&mut self) -> Vec<String> {
        self.alice.fetch().await.unwrap();
        texts(&self.alice, Folder::Inbox)
    }

    /// What Bob holds of Alice's.
    fn bobs(&self) -> HeldRecord {
        self.bob.profile.get(&key(&self.alice)).unwrap().unwrap()
    }

    fn bob_keeps(&mut self, held: &HeldRecord) {
        let alice = key(&self.alice);
        self.bob.profile.tx(&mut self.bob.rng, |t| t.put(&alice, held)).unwrap();
    }

    /// Everything that was posted to a mailbox.
    fn posts(&self) -> Vec<Asked> {
        let asked = self.town.server.asked("/messages");
        asked.into_iter().filter(|asked| asked.method == "POST").collect()
    }

    fn pass(&self, seconds: u64) {
        self.town.clock.advance_seconds(seconds);
    }
}

fn identity(person: &Person) -> SigningPublicKey {
    person.account().unwrap().identity.public()
}

fn key(person: &Person) -> String {
    identity(person).to_string()
}

fn texts(person: &Person, folder: Folder) -> Vec<String> {
    let messages = person.messages(&[folder]).unwrap();
    messages.into_iter().map(|message| message.text.unwrap_or_default()).collect()
}

fn only(person: &Person, folder: Folder) -> Message {
    let mut messages = person.messages(&[folder]).unwrap();
    assert_eq!(messages.len(), 1);
    messages.remove(0)
}

fn is_free(sent: &Sent) -> bool {
    matches!((&sent.paid, &sent.delivery), (Paid::Reply { .. }, Delivery::Delivered))
}

/// The other one's clock, so many seconds off.
fn clock_at(seconds: u64) -> std::sync::Arc<postern_protocol::time::MockClock> {
    let at = postern_protocol::time::Timestamp::from_seconds(seconds);
    std::sync::Arc::new(postern_protocol::time::MockClock::new(at))
}
