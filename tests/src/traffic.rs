//! People who write to each other for as long as a test lasts, and check all that they are told.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use postern_credentials::reply_credential::Params;
use postern_protocol::exchange::ExchangeResponse;
use postern_protocol::ids::MessageId;
use postern_protocol::release::{ACK_PATH, RELEASE_PATH};
use postern_protocol::send::Accepted;
use tokio::time::Instant;

use crate::actor::Actor;
use crate::world::Place;

/// How long somebody waits for one answer: longer than a server does.
const LONGEST: Duration = Duration::from_secs(45);

/// What one pair of people did, as they saw it.
#[derive(Debug, Default)]
pub struct History {
    /// Messages that the relay took.
    pub acknowledged_sends: BTreeSet<MessageId>,
    /// When each of them was.
    pub acknowledged_at: Vec<Instant>,
    /// How many of them had to be sent more than once, because an answer was lost or said to do so.
    pub repeated_sends: usize,
    /// Messages that came.
    pub read: BTreeSet<MessageId>,
    /// Tokens that came back.
    pub exchanges: usize,
}

/// Sends, reads, releases and exchanges until told to stop, then finishes what is under way.
async fn correspond(mut alice: Actor, mut bob: Actor, stop: Arc<AtomicBool>) -> History {
    let mut history = History::default();
    let mut round = 0;
    while !stop.load(Ordering::SeqCst) || round == 0 {
        round += 1;
        let to = bob.mailbox();
        let spent = alice.tokens.remove(0);
        let envelope = alice.envelope(&to, &format!("round {round}"));
        let reply = alice.send(&to, &spent.token, &envelope).await;
        let accepted: Accepted = reply.json();
        assert!(history.acknowledged_sends.insert(accepted.message), "two tokens were taken for one");
        history.acknowledged_at.push(Instant::now());
        history.repeated_sends += usize::from(reply.repeated > 0);

        let inbox = bob.inbox().await;
        let ids: Vec<MessageId> = inbox.messages.iter().map(|m| m.message).collect();
        assert!(ids.contains(&accepted.message), "acknowledged, but not in the mailbox");
        history.read.extend(&ids);
        assert_eq!(bob.verdict(RELEASE_PATH, &ids).await.refused, []);
        bob.verdict(ACK_PATH, &ids).await;

        let blinded = alice.blind(1).remove(0);
        let request = alice.exchange_request(&spent, &blinded);
        let response: ExchangeResponse = alice.send_exchange(&request).await.json();
        alice.tokens.push(alice.unblind(&blinded, &response.blind_signature));
        history.exchanges += 1;
    }
    assert_eq!(alice.tokens.len(), 5, "everybody ends with as many tokens as they began with");
    history
}

/// Somebody who repeats what gets no answer, on a connection of its own for each request: who balances connections balances requests.
async fn person(place: &Place, phone: &str) -> Actor {
    let mut actor = Actor::new(place, phone).await;
    actor.patient = true;
    actor.http = reqwest::Client::builder().pool_max_idle_per_host(0).timeout(LONGEST).build().unwrap();
    actor.register(place, 5).await;
    actor.open_mailbox().await;
    actor.login().await;
    actor
}

/// Two people register, while servers may be falling already, and correspond.
pub async fn pair(place: Place, i: usize, stop: Arc<AtomicBool>) -> History {
    let alice = person(&place, &format!("+4179124{:04}", 2 * i)).await;
    let bob = person(&place, &format!("+4179124{:04}", 2 * i + 1)).await;
    correspond(alice, bob, stop).await
}

/// An owner and somebody who writes back by credential, each slot once, until told to stop. Returns all that was answered.
pub async fn write_back(place: Place, i: usize, stop: Arc<AtomicBool>) -> BTreeSet<MessageId> {
    let mut owner = person(&place, &format!("+4179125{:04}", 2 * i)).await;
    let mut contact = person(&place, &format!("+4179125{:04}", 2 * i + 1)).await;
    owner.open_group().await;
    let to = owner.mailbox();
    let (mut issued, mut slots) = (owner.issue().await, 0..Params::default().k());
    let mut answered = BTreeSet::new();
    while !stop.load(Ordering::SeqCst) || answered.is_empty() {
        let Some(slot) = slots.next() else {
            // The epoch outlasts the test: who has used all slots is issued to anew, as another contact.
            (issued, slots) = (owner.issue().await, 0..Params::default().k());
            continue;
        };
        let envelope = contact.envelope(&to, &format!("reply {}", answered.len()));
        let shown = contact.present(&issued, slot, &envelope);
        let accepted: Accepted = contact.reply(&to, &shown, &envelope).await.json();
        assert_eq!(accepted.message, issued.message_id(&shown));
        assert!(answered.insert(accepted.message), "two slots were answered alike");

        // All before it was acknowledged, and sent once more after that: if any of it came back, it would be here.
        let inbox = owner.inbox().await.messages;
        assert!(inbox.len() == 1 && inbox[0].message == accepted.message, "{} messages wait", inbox.len());
        assert!(inbox[0].envelope.0 == envelope);
        assert_eq!(owner.verdict(ACK_PATH, &[accepted.message]).await.done, [accepted.message]);
        assert_eq!(contact.reply(&to, &shown, &envelope).await.json::<Accepted>(), accepted);
    }
    assert!(owner.inbox().await.messages.is_empty());
    answered
}
