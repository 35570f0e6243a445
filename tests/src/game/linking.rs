//! The adversary of the linkability game: from two things that two people did, and a third that one of them did, it says which of the two
//! belongs to the third.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use postern_protocol::ids::decode_base64;
use postern_protocol::internal::KEYS_PATH;

use super::capture::{Exchange, Server};
use super::events::{CONTACTS, Event, Kind, declines};
use super::evidence::fields;

/// Which two things are to be linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Link {
    /// Registration → first message to a stranger: who sent it?
    RegistrationSend,
    /// First message → second one: the same sender?
    SendSend,
    /// A message → an exchange: which spend is exchanged? Not promised: the relay must know.
    SendExchange,
    /// Registration → exchange: whose token was it?
    RegistrationExchange,
    /// Exchange → the message that the new token pays for.
    ExchangeSend,
    /// Registration → reply: who replied?
    RegistrationReply,
    /// Reply → reply to the same mailbox: the same contact?
    ReplyReply,
    /// Registration → prekey claim: who claims?
    RegistrationClaim,
    /// JWT and session → an anonymous message: of one client?
    SessionSend,
    /// JWT and session → exchange.
    SessionExchange,
    /// Which of two verdicts was to decline?
    AcceptDecline,
}

impl Link {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::RegistrationSend,
        Self::SendSend,
        Self::SendExchange,
        Self::RegistrationExchange,
        Self::ExchangeSend,
        Self::RegistrationReply,
        Self::ReplyReply,
        Self::RegistrationClaim,
        Self::SessionSend,
        Self::SessionExchange,
        Self::AcceptDecline,
    ];

    /// What is compared, the candidates' first.
    const fn kinds(self) -> (Kind, Kind) {
        match self {
            Self::RegistrationSend | Self::RegistrationClaim => (Kind::Registration, Kind::ColdSend),
            Self::SendSend => (Kind::ColdSend, Kind::NextSend),
            Self::SendExchange => (Kind::ColdSend, Kind::Exchange),
            Self::RegistrationExchange => (Kind::Registration, Kind::Exchange),
            Self::ExchangeSend => (Kind::Exchange, Kind::NextSend),
            Self::RegistrationReply => (Kind::Registration, Kind::Reply),
            Self::ReplyReply => (Kind::Reply, Kind::NextReply),
            Self::SessionSend => (Kind::Session, Kind::ColdSend),
            Self::SessionExchange => (Kind::Session, Kind::Exchange),
            Self::AcceptDecline => (Kind::Verdict, Kind::Verdict),
        }
    }

    /// Whether the design promises that it cannot be told.
    pub const fn is_promised(self) -> bool {
        !matches!(self, Self::SendExchange)
    }
}

/// What is compared, and what a difference of a feature is called.
pub const WAYS: [&str; 11] = [
    "equal bytes",
    "equal fields",
    "order",
    "time",
    "length",
    "connection",
    "headers",
    "token key",
    "order of rows",
    "repetitions",
    "epoch and route",
];
/// The name of the logistic regression on all ways.
pub const LEARNED: &str = "learned";

/// How alike two things are, in each of [`WAYS`]: more is more alike.
pub type Likeness = [f64; WAYS.len()];

/// What is computed of an event once.
struct Seen {
    /// Every four bytes that follow each other in some field, in order.
    windows: Vec<u32>,
    fields: BTreeSet<Vec<u8>>,
    place: f64,
    at: f64,
    length: f64,
    connections: Vec<(Server, u64)>,
    headers: BTreeSet<Vec<String>>,
    names: BTreeSet<String>,
    keys: BTreeSet<Vec<u8>>,
    rows: Vec<(String, i64)>,
    repeated: f64,
    rights: BTreeSet<String>,
}

fn seen(event: &Event, is_claim: bool, world: &World<'_>) -> Seen {
    let exchanges = event.exchanges.iter().filter(|exchange| !is_claim || exchange.path.ends_with("/prekey"));
    // That the relay asks for keys now and then is nobody's doing.
    let exchanges: Vec<&Exchange> = exchanges.filter(|exchange| exchange.path != KEYS_PATH).collect();
    let mut all = BTreeSet::new();
    for exchange in &exchanges {
        all.extend(fields(&exchange.body));
        all.extend(fields(&exchange.answer));
        all.extend(fields(exchange.path.as_bytes()));
        all.extend(fields(exchange.log.as_bytes()));
        exchange.headers.iter().for_each(|(_, value)| all.extend(fields(value)));
    }
    all.extend((world.derived)(event));
    let window = |window: &[u8]| u32::from_be_bytes(window.try_into().unwrap());
    let mut windows: Vec<u32> = all.iter().flat_map(|field| field.windows(4)).map(window).collect();
    windows.sort_unstable();
    windows.dedup();
    let names = |exchange: &&Exchange| exchange.headers.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    let mut bodies = std::collections::BTreeMap::<_, f64>::new();
    exchanges.iter().for_each(|exchange| *bodies.entry((&exchange.path, &exchange.body)).or_default() += 1.0);
    let length = |exchange: &&Exchange| -> usize {
        let headers = exchange.headers.iter().chain(&exchange.answer_headers);
        let headers: usize = headers.map(|(name, value)| name.len() + value.len()).sum();
        exchange.path.len() + headers + exchange.body.len() + exchange.answer.len()
    };
    Seen {
        keys: world.key_ids.iter().filter(|id| holds(&all, id)).cloned().collect(),
        windows,
        place: event.place as f64,
        at: exchanges.first().map_or(0.0, |exchange| exchange.at.0 as f64),
        length: exchanges.iter().map(length).sum::<usize>() as f64,
        connections: exchanges.iter().map(|exchange| (exchange.server, exchange.connection)).collect(),
        headers: exchanges.iter().map(names).collect(),
        names: exchanges.iter().flat_map(names).collect(),
        rows: event.rows.iter().map(|(table, row)| (table.clone(), row - world.first_row(event.kind, table))).collect(),
        repeated: bodies.values().copied().fold(0.0, f64::max),
        rights: exchanges.iter().map(right).collect(),
        fields: all,
    }
}

/// Whether one of these fields has this inside.
fn holds(fields: &BTreeSet<Vec<u8>>, id: &[u8]) -> bool {
    fields.iter().any(|field| field.windows(id.len()).any(|window| window == id))
}

/// Everything of a request's right and route that is not random: scheme, version and epoch.
fn right(exchange: &&Exchange) -> String {
    let right = exchange.header("authorization").unwrap_or_default();
    let of_reply = right.strip_prefix("PosternReply").unwrap_or_default();
    let short: Vec<&str> = of_reply.split([',', ' ', ';']).filter(|part| part.len() < 24).collect();
    let route = exchange.path.rsplit('/').next().filter(|part| part.len() < 24).unwrap_or_default();
    format!("{} {} {route}", right.split(' ').next().unwrap_or_default(), short.join(" "))
}

fn likeness(a: &Seen, b: &Seen, rare: &Rare) -> Likeness {
    let near = |x: f64, y: f64| -(x - y).abs();
    let connections = a.connections.iter().flat_map(|(server, x)| {
        let same = b.connections.iter().filter(move |(other, _)| other == server);
        same.map(move |(_, y)| x.abs_diff(*y) as f64)
    });
    let rows = a.rows.iter().flat_map(|(table, x)| {
        b.rows.iter().filter(move |(other, _)| other == table).map(move |(_, y)| x.abs_diff(*y) as f64)
    });
    let rows_in_all: f64 = a.rows.iter().map(|row| row.1 as f64).fold(0.0, f64::max);
    [
        in_both(&a.windows, &b.windows, &rare.windows) as f64,
        a.fields.intersection(&b.fields).filter(|f| rare.has(f)).map(|f| f.len().min(64) as f64).sum(),
        near(a.place, b.place),
        near(a.at, b.at),
        near(a.length, b.length),
        -connections.fold(f64::MAX, f64::min).min(1e9),
        a.headers.intersection(&b.headers).count() as f64 + a.names.intersection(&b.names).count() as f64,
        a.keys.intersection(&b.keys).count() as f64,
        rows.reduce(f64::min).map_or_else(|| near(rows_in_all, b.place), |least| -least),
        near(a.repeated, b.repeated),
        a.rights.intersection(&b.rights).count() as f64,
    ]
}

/// One round: how alike the third thing is to that of the one who did it, and to that of the other.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// Of the one who did it.
    pub own: Likeness,
    /// Of the other.
    pub other: Likeness,
}

/// How many numbers two ordered lists have in common that few have.
fn in_both(a: &[u32], b: &[u32], among: &HashMap<u32, u32>) -> usize {
    let (mut i, mut j, mut common) = (0, 0, 0);
    while let (Some(x), Some(y)) = (a.get(i), b.get(j)) {
        match x.cmp(y) {
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
            std::cmp::Ordering::Equal => {
                let is_rare = among.get(x).is_some_and(|many| *many <= RARE);
                (i, j, common) = (i + 1, j + 1, common + usize::from(is_rare));
            }
        }
    }
    common
}

/// What no more than so many events have may be somebody's; the rest is everybody's.
const RARE: u32 = 16;

/// How many events have each four bytes and each field.
#[derive(Default)]
struct Rare {
    windows: HashMap<u32, u32>,
    fields: HashMap<Vec<u8>, u32>,
}

impl Rare {
    fn of(all: &[Rc<Seen>]) -> Self {
        let mut rare = Self::default();
        for seen in all {
            seen.windows.iter().for_each(|window| *rare.windows.entry(*window).or_default() += 1);
            seen.fields.iter().for_each(|field| *rare.fields.entry(field.clone()).or_default() += 1);
        }
        rare
    }

    /// To whom something goes says nothing of who sends it: a mailbox is known to everybody.
    fn forget(&mut self, mailboxes: &[String]) {
        for mailbox in mailboxes {
            for field in [mailbox.as_bytes().to_vec(), decode_base64(mailbox).unwrap()] {
                for window in field.windows(4) {
                    self.windows.remove(&u32::from_be_bytes(window.try_into().unwrap()));
                }
                self.fields.remove(&field);
            }
        }
    }

    fn has(&self, field: &[u8]) -> bool {
        self.fields.get(field).is_some_and(|many| *many <= RARE)
    }
}

/// What the adversary computes of an event beside what it saw.
pub type Derived<'a> = &'a dyn Fn(&Event) -> Vec<Vec<u8>>;

/// A world, as the adversary has it.
pub struct World<'a> {
    events: &'a [Event],
    derived: Derived<'a>,
    key_ids: BTreeSet<Vec<u8>>,
    first_rows: BTreeMap<(Kind, String), i64>,
    seen: RefCell<HashMap<(Kind, usize, bool), Rc<Seen>>>,
    rare: Rare,
}

impl<'a> World<'a> {
    /// From everything that happened.
    pub fn new(events: &'a [Event], derived: Derived<'a>) -> Self {
        let mut first_rows = BTreeMap::new();
        for event in events {
            for (table, row) in &event.rows {
                let first = first_rows.entry((event.kind, table.clone())).or_insert(*row);
                *first = (*row).min(*first);
            }
        }
        let (key_ids, seen) = (key_ids(events), RefCell::default());
        let mut world = Self { events, derived, key_ids, first_rows, seen, rare: Rare::default() };
        let all: Vec<_> = events.iter().map(|event| world.seen(event.kind, event.player, false)).collect();
        world.rare = Rare::of(&all);
        world.rare.forget(&mailboxes(events));
        world
    }

    fn first_row(&self, kind: Kind, table: &str) -> i64 {
        self.first_rows.get(&(kind, table.to_owned())).copied().unwrap_or_default()
    }

    fn event(&self, kind: Kind, player: usize) -> &Event {
        self.events.iter().find(|event| event.kind == kind && event.player == player).unwrap()
    }

    fn seen(&self, kind: Kind, player: usize, is_claim: bool) -> Rc<Seen> {
        let mut known = self.seen.borrow_mut();
        let make = || Rc::new(seen(self.event(kind, player), is_claim, self));
        Rc::clone(known.entry((kind, player, is_claim)).or_insert_with(make))
    }

    /// All rounds of a link. People are paired, each in one pair and one round: so if a client gives nothing away, exchanging the two of a
    /// pair changes nothing, and the outcomes of pairs are independent throws of a fair coin, in one world as across worlds.
    pub fn rounds(&self, link: Link) -> Vec<Round> {
        let (first, third) = link.kinds();
        let people = self.events.iter().filter(|event| event.kind == Kind::Registration).count();
        let pair = |pair: usize| {
            let two = [pair * CONTACTS, pair * CONTACTS + 1];
            if link == Link::AcceptDecline {
                return told_apart(&two.map(|player| self.seen(first, player, false)), two);
            }
            // Whose the third thing is: the order of those is drawn.
            let own = two[usize::from(self.event(third, two[0]).place < self.event(third, two[1]).place)];
            let other = two[0] + two[1] - own;
            let third = self.seen(third, own, link == Link::RegistrationClaim);
            let like = |player| likeness(&self.seen(first, player, false), &third, &self.rare);
            Round { own: like(own), other: like(other) }
        };
        (0..people / CONTACTS).map(pair).collect()
    }
}

/// Not which is like a third, but which of the two was to decline: by every number that there is.
fn told_apart(two: &[Rc<Seen>; 2], players: [usize; 2]) -> Round {
    let numbers = |seen: &Rc<Seen>| -> Likeness {
        let declines = seen.rights.iter().any(|right| right.contains("decline"));
        [
            seen.windows.len() as f64,
            seen.fields.len() as f64,
            seen.place,
            seen.at,
            seen.length,
            seen.connections.iter().map(|(_, number)| *number).min().unwrap_or_default() as f64,
            seen.headers.len() as f64,
            seen.keys.len() as f64,
            seen.rows.len() as f64,
            seen.repeated,
            f64::from(u8::from(declines)),
        ]
    };
    let declined = usize::from(declines(players[1]));
    Round { own: numbers(&two[declined]), other: numbers(&two[1 - declined]) }
}

/// All mailboxes, as JSON has them.
fn mailboxes(events: &[Event]) -> Vec<String> {
    let answers = events.iter().filter(|event| event.kind == Kind::Registration).flat_map(|event| &event.exchanges);
    let json = answers.filter_map(|exchange| serde_json::from_slice::<serde_json::Value>(&exchange.answer).ok());
    json.filter_map(|json| Some(json["mailbox"].as_str()?.to_owned())).collect()
}

/// Names of token keys that were shown.
fn key_ids(events: &[Event]) -> BTreeSet<Vec<u8>> {
    let mut ids = BTreeSet::new();
    for event in events.iter().filter(|event| event.kind == Kind::Registration) {
        for exchange in event.exchanges.iter().filter(|exchange| exchange.path.ends_with("/registration")) {
            let json: serde_json::Value = serde_json::from_slice(&exchange.body).unwrap();
            let id = json["tokens"]["token_key_id"].as_str().unwrap();
            ids.insert(decode_base64(id).unwrap());
        }
    }
    ids
}

/// Weights of a logistic regression on differences of likeness, learned from some rounds.
pub struct Learned {
    scale: Likeness,
    weights: Likeness,
}

impl Learned {
    /// From rounds whose answer is known.
    pub fn from(rounds: &[Round]) -> Self {
        let mut scale = [1.0; WAYS.len()];
        for (n, scale) in scale.iter_mut().enumerate() {
            let mean = rounds.iter().map(|round| (round.own[n] - round.other[n]).abs()).sum::<f64>();
            *scale = (mean / rounds.len().max(1) as f64).max(1e-9);
        }
        let mut learned = Self { scale, weights: [0.0; WAYS.len()] };
        for step in 0..200 {
            let rate = 0.5 / (1.0 + f64::from(step) / 20.0);
            let mut slope = [0.0; WAYS.len()];
            for round in rounds {
                let difference = learned.difference(round);
                let wrong = 1.0 / (1.0 + learned.score(&difference).exp());
                slope.iter_mut().zip(difference).for_each(|(slope, x)| *slope += wrong * x);
            }
            for (weight, slope) in learned.weights.iter_mut().zip(slope) {
                // A little is taken off each time, so that chance is not learned by heart.
                *weight += rate * (slope / rounds.len().max(1) as f64 - 0.001 * *weight);
            }
        }
        learned
    }

    fn difference(&self, round: &Round) -> Likeness {
        std::array::from_fn(|n| ((round.own[n] - round.other[n]) / self.scale[n]).clamp(-8.0, 8.0))
    }

    fn score(&self, difference: &Likeness) -> f64 {
        self.weights.iter().zip(difference).map(|(weight, x)| weight * x).sum()
    }

    /// More than zero if it picks the right one.
    pub fn verdict(&self, round: &Round) -> f64 {
        self.score(&self.difference(round))
    }
}
