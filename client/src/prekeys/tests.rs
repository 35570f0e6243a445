use postern_credentials::certificate::{CertificateAuthority, CertifiedSubject};
use postern_credentials::envelope;
use postern_protocol::send::QueuedMessage;
use postern_protocol::time::Timestamp;
use vodozemac::olm::OlmMessage;

use super::*;
use crate::payload::Inner;
use crate::read::Folder;
use crate::send::{Delivery, Sent, Target};
use crate::testing::{Asked, Fault, ISSUER_NAME, NOW, Person, Supply, Town};

const ALICE: &str = "+41791234567";
const BOB: &str = "+41791234568";
const DAY: u64 = 24 * 3600;

struct Pair {
    town: Town,
    alice: Person,
    bob: Person,
}

impl Pair {
    async fn new() -> Self {
        let town = Town::new();
        let alice = town.person("alice", ALICE).await;
        let bob = town.person("bob", BOB).await;
        Self { town, alice, bob }
    }

    async fn alice_writes(&mut self, text: &str) -> Sent {
        self.town.clock.advance_seconds(1);
        let target = Target::Link(self.bob.card_link().unwrap());
        let sent = self.alice.send(&target, text).await.unwrap();
        assert!(matches!(sent.delivery, Delivery::Delivered));
        sent
    }

    async fn bob_reads(&mut self) -> Vec<String> {
        self.bob.fetch().await.unwrap();
        let messages = self.bob.messages(&[Folder::Inbox, Folder::Requests]).unwrap();
        messages.into_iter().map(|message| message.text.unwrap_or_default()).collect()
    }

    fn bobs_supply<T>(&self, look: impl FnOnce(&mut Supply) -> T) -> T {
        let mailbox = self.bob.account().unwrap().mailbox;
        look(self.town.relay.lock().unwrap().prekeys.entry(mailbox).or_default())
    }

    fn left(&self) -> usize {
        self.bobs_supply(|supply| supply.unclaimed.len())
    }

    /// What lies in Bob's mailbox.
    fn queue(&self) -> Vec<QueuedMessage> {
        let mailbox = self.bob.account().unwrap().mailbox;
        self.town.relay.lock().unwrap().queue.get(&mailbox).cloned().unwrap_or_default()
    }

    fn set_queue(&self, queue: Vec<QueuedMessage>) {
        let mailbox = self.bob.account().unwrap().mailbox;
        self.town.relay.lock().unwrap().queue.insert(mailbox, queue);
    }

    fn claims(&self) -> usize {
        self.town.server.asked("/prekey").iter().filter(|asked| asked.method == "POST").count()
    }

    fn uploads(&self) -> Vec<Asked> {
        let asked = self.town.server.asked(OWN_PREKEYS_PATH);
        asked.into_iter().filter(|asked| asked.method == "PUT").collect()
    }
}

/// One-time keys whose private half is in the profile.
fn stored(person: &Person) -> usize {
    olm::own_account(&person.profile).unwrap().stored_one_time_key_count()
}

/// What a thief of the unlocked profile makes of a recorded first message, with every key that is left in it.
fn opened_by_thief(person: &Person, recorded: &QueuedMessage) -> Option<String> {
    let account = person.account().unwrap();
    let keys = person.sealing_keys().unwrap();
    let inner = keys.iter().find_map(|key| envelope::open(key, &account.mailbox, &recorded.envelope.0).ok()).unwrap();
    let inner = Inner::decode(&inner).unwrap();
    let sessions = person.profile.list::<olm::OlmSessionRecord>().unwrap();
    let by_session = sessions.iter().find_map(|(_, row)| row.session().unwrap().decrypt(&inner.message).ok());
    let OlmMessage::PreKey(message) = &inner.message else { panic!("a first message") };
    let by_account = olm::inbound(&person.profile, message).unwrap().map(|made| made.plain.to_vec());
    let plain = by_session.or(by_account)?;
    Some(crate::payload::Payload::decode(&plain).unwrap().text.expose().to_owned())
}

#[tokio::test]
async fn a_first_message_takes_one_prekey_the_next_ones_none_and_the_key_goes_when_it_is_read() {
    let mut pair = Pair::new().await;
    assert_eq!((pair.left(), stored(&pair.bob)), (100, 100));
    assert_eq!(pair.alice_writes("one").await.first_key, Some(FirstKey::OneTime));
    assert_eq!((pair.left(), stored(&pair.bob)), (99, 100));
    assert_eq!(pair.bob_reads().await, ["one"]);
    assert_eq!(stored(&pair.bob), 99);
    // Still a pre-key message, for nothing came back.
    assert_eq!(pair.alice_writes("two").await.first_key, None);
    assert_eq!(pair.bob_reads().await, ["one", "two"]);
    assert_eq!((pair.claims(), stored(&pair.bob)), (1, 99));
    let claim = pair.town.server.asked("/prekey").into_iter().find(|asked| asked.method == "POST").unwrap();
    assert_eq!((claim.authorization.as_str(), claim.body.len()), ("", 32), "nothing in it names who claims");
}

#[tokio::test]
async fn a_recorded_first_message_opens_no_more_once_it_was_read_unless_the_fallback_key_served() {
    let mut pair = Pair::new().await;
    pair.alice_writes("by a one-time key").await;
    let recorded = pair.queue().remove(0);
    assert_eq!(opened_by_thief(&pair.bob, &recorded).as_deref(), Some("by a one-time key"), "not read yet");
    pair.bob_reads().await;
    assert_eq!(opened_by_thief(&pair.bob, &recorded), None);
    let bob = pair.town.reopen("bob", pair.bob);
    assert_eq!(opened_by_thief(&bob, &recorded), None, "nor by what is on disk");

    // The control: the same thief, and a message to the fallback key.
    let mut pair = Pair::new().await;
    pair.bobs_supply(|supply| supply.unclaimed.clear());
    assert_eq!(pair.alice_writes("by the fallback key").await.first_key, Some(FirstKey::UsedUp));
    let recorded = pair.queue().remove(0);
    pair.bob_reads().await;
    assert_eq!(opened_by_thief(&pair.bob, &recorded).as_deref(), Some("by the fallback key"));
}

#[tokio::test]
async fn whatever_goes_wrong_with_a_claim_the_message_goes_by_the_fallback_key() {
    let carol_s = |pair: &Pair, carol: &Person| {
        let mailbox = carol.account().unwrap().mailbox;
        pair.town.relay.lock().unwrap().prekeys[&mailbox].unclaimed[0]
    };
    for (what, expected) in [
        ("used up", FirstKey::UsedUp),
        ("unknown", FirstKey::Unavailable),
        ("before", FirstKey::Unavailable),
        ("after", FirstKey::Unavailable),
        ("junk", FirstKey::NotTheirs),
        ("carol's", FirstKey::NotTheirs),
        ("unsound", FirstKey::NotTheirs),
    ] {
        let mut pair = Pair::new().await;
        let carol = pair.town.person("carol", "+41791234569").await;
        match what {
            "used up" => pair.bobs_supply(|supply| supply.unclaimed.clear()),
            "unknown" => pair.bobs_supply(|supply| supply.unknown = true),
            "before" => pair.town.server.fail_next("/prekey", Fault::Before),
            "after" => pair.town.server.fail_next("/prekey", Fault::After),
            "junk" => pair.bobs_supply(|supply| supply.unclaimed[0].0[100] ^= 1),
            "unsound" => {
                // Signed by Bob himself, and of small order.
                let (account, zero) = (pair.bob.account().unwrap(), DhPublicKey([0; 32]));
                let sealed = seal_prekey(&mut pair.bob.rng, &account.identity, &account.mailbox, zero).unwrap();
                pair.bobs_supply(|supply| supply.unclaimed[0] = sealed);
            }
            _ => {
                let other = carol_s(&pair, &carol);
                pair.bobs_supply(|supply| supply.unclaimed[0] = other);
            }
        }
        assert_eq!(pair.alice_writes("hello").await.first_key, Some(expected), "{what}");
        assert_eq!(pair.bob_reads().await, ["hello"], "{what}");
        assert_eq!(stored(&pair.bob), 100, "{what}");
    }
}

#[tokio::test]
async fn looking_at_a_card_claims_nothing() {
    let mut pair = Pair::new().await;
    let link = pair.bob.card_link().unwrap();
    pair.alice.fetch_card(&link).await.unwrap();
    assert_eq!((pair.claims(), pair.left()), (0, 100));
}

#[tokio::test]
async fn messages_of_a_first_session_open_in_any_order_and_once() {
    let mut pair = Pair::new().await;
    for text in ["one", "two", "three"] {
        pair.alice_writes(text).await;
    }
    let [one, two, three] = <[QueuedMessage; 3]>::try_from(pair.queue()).unwrap();
    for (queued, expected) in [(&two, 1), (&one, 2), (&two, 2), (&three, 3), (&one, 3)] {
        pair.set_queue(vec![queued.clone()]);
        assert_eq!(pair.bob_reads().await.len(), expected);
    }
    assert_eq!((stored(&pair.bob), pair.claims()), (99, 1));
    assert!(pair.bob.messages(&[Folder::Junk]).unwrap().is_empty());
}

#[tokio::test]
async fn a_message_read_but_not_acknowledged_comes_again_and_needs_its_key_no_more() {
    let mut pair = Pair::new().await;
    pair.alice_writes("hello").await;
    pair.town.server.fail_next("/v1/mailbox/ack", Fault::Before);
    assert!(pair.bob.fetch().await.is_err());
    pair.bob = pair.town.reopen("bob", pair.bob);
    assert_eq!(stored(&pair.bob), 99, "gone in the transaction that stored the message");
    assert_eq!(pair.bob_reads().await, ["hello"]);
    assert!(pair.bob.messages(&[Folder::Junk]).unwrap().is_empty());
}

#[tokio::test]
async fn a_sender_who_is_not_certified_uses_the_key_up_and_is_believed_once_he_is() {
    let mut pair = Pair::new().await;
    let account = pair.alice.account().unwrap();
    let (from, until) = (Timestamp::from_seconds(NOW - 9), Timestamp::from_seconds(NOW + 99_999));
    let false_ca = CertificateAuthority::create([66; 32], ISSUER_NAME, from, until).unwrap();
    let subject = CertifiedSubject { phone: account.phone.clone(), key: account.identity.public() };
    pair.alice.replace_certificate(false_ca.issue(&subject, [1; 16], from, until).unwrap()).unwrap();
    pair.alice_writes("trust me").await;
    let recorded = pair.queue().remove(0);
    assert_eq!(pair.bob.fetch().await.unwrap().junk, 1);
    assert_eq!((stored(&pair.bob), opened_by_thief(&pair.bob, &recorded)), (99, None));

    pair.alice.replace_certificate(account.certificate).unwrap();
    assert_eq!(pair.alice_writes("now?").await.first_key, None, "the same session");
    assert_eq!(pair.bob_reads().await, ["now?"]);
    assert_eq!(pair.bob.messages(&[Folder::Requests]).unwrap()[0].from.as_deref(), Some(ALICE));
}

#[tokio::test]
async fn sync_fills_the_supply_when_fewer_than_half_are_left_and_not_all_the_time() {
    let mut pair = Pair::new().await;
    pair.bobs_supply(|supply| supply.unclaimed.truncate(50));
    pair.town.clock.advance_seconds(DAY);
    assert_eq!(pair.bob.sync().await.unwrap().prekeys, 0, "half is enough");
    pair.bobs_supply(|supply| supply.unclaimed.truncate(49));
    assert_eq!(pair.bob.sync().await.unwrap().prekeys, 51);
    assert_eq!((pair.left(), stored(&pair.bob)), (100, 151));
    // Somebody claims all of them at once, again and again.
    pair.bobs_supply(|supply| supply.unclaimed.clear());
    pair.town.clock.advance_seconds(18 * 3600);
    assert_eq!((pair.bob.sync().await.unwrap().prekeys, pair.left()), (0, 0));
    pair.town.clock.advance_seconds(3600);
    assert_eq!((pair.bob.sync().await.unwrap().prekeys, pair.left()), (100, 100));
    assert_eq!(pair.alice_writes("hello").await.first_key, Some(FirstKey::OneTime));
    assert_eq!(pair.bob_reads().await, ["hello"]);
}

#[test]
fn who_fills_up_as_often_as_allowed_loses_no_key_before_a_message_to_it_must_have_come() {
    let mut account = vodozemac::olm::Account::new();
    let first = account.generate_one_time_keys(MAX_PREKEYS).created[0];
    for _ in 0..FULL_SUPPLIES {
        assert!(account.generate_one_time_keys(MAX_PREKEYS).removed.is_empty());
    }
    assert_eq!(account.generate_one_time_keys(1).removed, [first], "one more, and the oldest is thrown away");
}

#[tokio::test]
async fn an_upload_whose_answer_was_lost_goes_again_byte_for_byte_after_a_restart() {
    for fault in [Fault::Before, Fault::After] {
        let mut pair = Pair::new().await;
        pair.bobs_supply(|supply| supply.unclaimed.clear());
        pair.town.clock.advance_seconds(DAY);
        pair.bob.refill_and_lose_the_answer(&pair.town, fault).await;
        assert_eq!(stored(&pair.bob), 200, "on disk before anything was sent");
        pair.bob = pair.town.reopen("bob", pair.bob);
        assert_eq!(pair.bob.sync().await.unwrap().prekeys, 100);
        let uploads = pair.uploads();
        let [.., lost, again] = uploads.as_slice() else { panic!("two uploads") };
        assert_eq!(lost, again, "{fault:?}");
        assert_eq!((pair.left(), stored(&pair.bob)), (100, 200));
        assert_eq!(pair.bob.sync().await.unwrap().prekeys, 0);
    }
}

impl Person {
    /// Makes a full supply, and meets a fault when it uploads.
    async fn refill_and_lose_the_answer(&mut self, town: &Town, fault: Fault) {
        let account = self.account().unwrap();
        let supply = self.own_supply(&account).await.unwrap().unwrap();
        let (record, upload) = self.make_prekeys(&account, supply.batch + 1, 100).unwrap();
        town.server.fail_next(OWN_PREKEYS_PATH, fault);
        assert!(self.upload_prekeys(&account, record, upload).await.is_err());
    }
}

#[tokio::test]
async fn a_prekey_outlives_the_weekly_keys_and_a_session_that_nothing_came_through_does_not_outlive_it() {
    let mut pair = Pair::new().await;
    pair.alice_writes("before").await;
    let late = pair.queue();
    pair.set_queue(Vec::new());
    pair.town.clock.advance_seconds(7 * DAY - 2);
    pair.bob.sync().await.unwrap();
    // The fallback key is another now; the one-time key is not, and so the session goes on.
    assert_eq!(pair.alice_writes("after").await.first_key, None);
    let queue = pair.queue().into_iter().chain(late).collect();
    pair.set_queue(queue);
    assert_eq!(pair.bob_reads().await.len(), 2);
    pair.town.clock.advance_seconds(7 * DAY);
    assert_eq!(pair.alice_writes("much later").await.first_key, Some(FirstKey::OneTime));
    assert_eq!(pair.bob_reads().await.len(), 3);
}

#[tokio::test]
async fn a_session_s_row_from_before_there_were_prekeys_is_still_read() {
    let mut pair = Pair::new().await;
    pair.bobs_supply(|supply| supply.unclaimed.clear());
    pair.alice_writes("hello").await;
    let (name, row) = pair.alice.profile.list::<olm::OlmSessionRecord>().unwrap().remove(0);
    let mut old = serde_json::to_value(&row).unwrap();
    assert_eq!(old.as_object_mut().unwrap().remove("one_time_since"), Some(serde_json::Value::Null));
    let read: olm::OlmSessionRecord = serde_json::from_value(old).unwrap();
    assert!(read.peer == Some(pair.bob.card_link().unwrap().identity));
    pair.alice.profile.tx(&mut pair.alice.rng, |t| t.put(&name, &read)).unwrap();
    assert_eq!(pair.alice_writes("again").await.first_key, None);
    assert_eq!(pair.bob_reads().await, ["hello", "again"]);
}

#[tokio::test]
async fn at_a_relay_that_knows_no_prekeys_everything_goes_on() {
    let mut pair = Pair::new().await;
    pair.bobs_supply(|supply| supply.unknown = true);
    pair.town.clock.advance_seconds(DAY);
    let report = pair.bob.sync().await.unwrap();
    assert!(report.prekeys == 0 && report.failures.is_empty(), "{report:?}");
    assert_eq!(pair.alice_writes("hello").await.first_key, Some(FirstKey::Unavailable));
    assert_eq!(pair.bob_reads().await, ["hello"]);
}

#[tokio::test]
async fn a_relay_that_has_forgotten_an_upload_or_knows_a_later_one_gets_another() {
    let mut pair = Pair::new().await;
    let account = pair.bob.account().unwrap();
    // As if an older copy of this profile had been used: its number is taken.
    let (record, upload) = pair.bob.make_prekeys(&account, 1, 1).unwrap();
    let refused = pair.bob.upload_prekeys(&account, record, upload).await.unwrap_err();
    assert_eq!(refused.refusal(), Some(ProblemKind::PrekeyBatch));
    pair.bobs_supply(|supply| {
        let mad = PrekeyUpload { batch: i64::MAX as u64, prekeys: Vec::new() };
        *supply = Supply { last: Some(mad), ..Supply::default() };
    });
    pair.town.clock.advance_seconds(DAY);
    let report = pair.bob.sync().await.unwrap();
    assert!(matches!(report.failures.as_slice(), [Error::Misbehaved(_)]), "{report:?}");
    pair.bobs_supply(|supply| *supply = Supply::default());
    pair.town.clock.advance_seconds(DAY);
    assert_eq!((pair.bob.sync().await.unwrap().prekeys, pair.left()), (100, 100));
}
