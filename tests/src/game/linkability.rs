//! The linkability game, played: worlds, tallies, and what was found.

use num_bigint::BigUint;
use postern_credentials::blind_token::{PendingToken, VerifyingKey, challenge_digest};
use postern_protocol::ids::RefundSecret;
use postern_protocol::tokens::TokenChallenge;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::events::{Event, Kind, Slip};
use super::linking::{LEARNED, Learned, Link, Round, WAYS, World};
use super::players::{known_factor, play};
use super::statistics::{Estimate, Tally};
use crate::world::{ISSUER, RELAY};

/// A slip, and the link and the way by which it must be seen.
pub type Bite = (Slip, Link, &'static str);

/// Every way, with a slip that it sees.
pub const BITES: [Bite; 23] = [
    (Slip::AccountHeader, Link::RegistrationSend, "equal bytes"),
    (Slip::AccountHeader, Link::RegistrationExchange, "equal fields"),
    (Slip::AccountHeader, Link::ExchangeSend, "equal bytes"),
    (Slip::AccountHeader, Link::RegistrationReply, "equal fields"),
    (Slip::AccountHeader, Link::RegistrationClaim, "equal fields"),
    (Slip::AtOnce, Link::SessionExchange, LEARNED),
    (Slip::SameConnection, Link::RegistrationSend, "connection"),
    (Slip::SameConnection, Link::SessionSend, "connection"),
    (Slip::SameConnection, Link::SessionExchange, "connection"),
    (Slip::SameConnection, Link::RegistrationClaim, "connection"),
    (Slip::HeaderOrder, Link::SendSend, "headers"),
    (Slip::Length, Link::SendSend, "length"),
    (Slip::InOrder, Link::SendSend, "order"),
    (Slip::InOrder, Link::ReplyReply, "order of rows"),
    (Slip::MarkedKeys, Link::RegistrationSend, "token key"),
    (Slip::KnownBlinding, Link::RegistrationSend, "equal bytes"),
    (Slip::KnownBlinding, Link::ExchangeSend, "equal bytes"),
    (Slip::Repeats, Link::SendSend, "repetitions"),
    (Slip::SameSlot, Link::ReplyReply, "equal bytes"),
    (Slip::OwnEpoch, Link::ReplyReply, "epoch and route"),
    (Slip::AtOnce, Link::SessionExchange, "time"),
    (Slip::AtOnce, Link::SessionExchange, "order"),
    (Slip::SaysDecline, Link::AcceptDecline, "epoch and route"),
];

/// One way's outcome for one link.
#[derive(Debug)]
pub struct Finding {
    /// What was to be linked.
    pub link: Link,
    /// By which way.
    pub way: &'static str,
    /// How many rounds.
    pub rounds: usize,
    /// `2 · share of rounds in which the right one was picked − 1`, with the interval of Clopper and Pearson.
    pub advantage: Estimate,
}

/// Rounds of a game by link, in order of worlds.
pub struct Game {
    by_link: Vec<(Link, Vec<Round>)>,
}

impl Game {
    /// Plays worlds until there are so many rounds of each of these links.
    pub fn play(slip: Slip, links: &[Link], people: usize, at_least: usize, mut told: impl FnMut(usize)) -> Self {
        let mut by_link: Vec<(Link, Vec<Round>)> = links.iter().map(|link| (*link, Vec::new())).collect();
        let mut seed = 1000 * (slip as u64 + 1);
        while by_link.iter().any(|(_, rounds)| rounds.len() < at_least) {
            let (events, key) = play(people, seed, slip);
            let derived = |event: &Event| if slip == Slip::KnownBlinding { derived(event, &key) } else { Vec::new() };
            let world = World::new(&events, &derived);
            by_link.iter_mut().for_each(|(link, all)| all.extend(world.rounds(*link)));
            seed += 1;
            told(by_link.first().map_or(0, |(_, rounds)| rounds.len()));
        }
        Self { by_link }
    }

    /// Every way's advantage for each link, at this confidence for each by itself.
    pub fn findings(&self, confidence: f64) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (link, all) in &self.by_link {
            for (n, way) in WAYS.iter().enumerate() {
                let verdicts = all.iter().map(|round| round.own[n] - round.other[n]);
                findings.push(finding(*link, way, verdicts, confidence));
            }
            // Learned from the one half, tried on the other.
            let (known, asked) = all.split_at(all.len() / 2);
            let learned = Learned::from(known);
            findings.push(finding(*link, LEARNED, asked.iter().map(|round| learned.verdict(round)), confidence));
        }
        findings
    }
}

/// Confidence for each of so many intervals, so that all of them together hold with 99% (Bonferroni).
pub fn confidence(intervals: usize) -> f64 {
    1.0 - 0.01 / intervals as f64
}

/// How many intervals a game about all links has.
pub const INTERVALS: usize = Link::ALL.len() * (WAYS.len() + 1);

fn finding(link: Link, way: &'static str, verdicts: impl Iterator<Item = f64>, confidence: f64) -> Finding {
    let mut tally = Tally::new(2, link as u64);
    // What is a coin's throw anyway is decided by lot there, and which of the two comes first by lot here.
    let mut lots = StdRng::seed_from_u64(link as u64 + 99);
    for verdict in verdicts {
        let secret = lots.random_range(0..2);
        let mut scores = [0.0; 2];
        scores[secret] = verdict;
        tally.add(&scores, secret);
    }
    let rate = tally.hit_rate(confidence);
    let twice = |share: f64| 2.0 * share - 1.0;
    let advantage = Estimate { value: twice(rate.value), low: twice(rate.low), high: twice(rate.high) };
    Finding { link, way, rounds: tally.rounds(), advantage }
}

/// With a blinding factor that the adversary knows: every token that it signed.
fn derived(event: &Event, key: &VerifyingKey) -> Vec<Vec<u8>> {
    let mut tokens = Vec::new();
    if !matches!(event.kind, Kind::Registration | Kind::Exchange) {
        return tokens;
    }
    for exchange in &event.exchanges {
        let Ok(json) = serde_json::from_slice::<serde_json::Value>(&exchange.answer) else { continue };
        let many = json["blind_signatures"].as_array().cloned().unwrap_or_default();
        let all = many.into_iter().chain([json["blind_signature"].clone()]);
        for signature in all.filter_map(|signature| Some(signature.as_str()?.to_owned())) {
            tokens.push(unblinded(&postern_protocol::ids::decode_base64(&signature).unwrap(), key));
        }
    }
    tokens
}

fn unblinded(signature: &[u8], key: &VerifyingKey) -> Vec<u8> {
    let inverse = BigUint::from_bytes_be(&inverse(key));
    let token = BigUint::from_bytes_be(signature) * inverse % BigUint::from_bytes_be(&modulus(key));
    let bytes = token.to_bytes_be();
    [vec![0; 256 - bytes.len()], bytes].concat()
}

/// Of the blinding factor that [`known_factor`] gives.
fn inverse(key: &VerifyingKey) -> Vec<u8> {
    let digest = challenge_digest(&TokenChallenge::for_relay(ISSUER, RELAY)).unwrap();
    let (_, pending) = PendingToken::begin(&mut known_factor(), key, digest, &RefundSecret::new([0; 32])).unwrap();
    pending.to_bytes()[PendingToken::STORED_LEN - 256..].to_vec()
}

/// The 256 bytes before the exponent, which ends the key's DER.
fn modulus(key: &VerifyingKey) -> Vec<u8> {
    let spki = key.spki();
    spki[spki.len() - 5 - 256..spki.len() - 5].to_vec()
}
