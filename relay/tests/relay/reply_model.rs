//! Random operations against a model that knows neither cryptography nor SQL: same outcome at every step.

use std::collections::{HashMap, HashSet};

use axum::Router;
use axum::http::Method;
use postern_credentials::reply_credential::{GroupSecret, MemberSecret, Params, envelope_digest, strike};
use postern_protocol::ids::MessageId;
use postern_protocol::problem::{Problem, ProblemKind};
use postern_protocol::release::{ACK_PATH, MessageList};
use postern_protocol::reply::{REPLY_KEYS_PATH, ReplyAuthorization, ReplyKeys, STRIKES_PATH, Strikes};
use postern_protocol::send::{Accepted, MESSAGES_PATH, Messages, send_path};
use postern_protocol::time::Timestamp;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::contacts::{Contact, For, listed, policy, reply_key};
use crate::world::{Mailbox, RELAY, START, World, call, rng};

const OWNERS: usize = 2;
const CONTACTS: usize = 3;
const SLOTS: u16 = 3;

/// `(version, epoch, contact, slot)`.
type Slot = (u32, u32, usize, u16);

/// What must be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Accepted,
    Refused(ProblemKind),
}

/// One mailbox. A letter is a presentation with an envelope: two are the same if their numbers are.
#[derive(Default)]
struct Model {
    versions: Vec<u32>,
    used: HashMap<Slot, usize>,
    struck: HashSet<Slot>,
    queue: Vec<usize>,
    fence: u32,
}

impl Model {
    fn send(&mut self, now: Timestamp, letter: usize, slot: Slot, sound: bool) -> Outcome {
        let (version, epoch, ..) = slot;
        if !self.versions.contains(&version) {
            return Outcome::Refused(ProblemKind::ReplyInvalid);
        }
        if !policy().accepts(epoch, now) {
            return Outcome::Refused(ProblemKind::ReplyEpoch);
        }
        match self.used.get(&slot) {
            Some(before) if *before == letter => Outcome::Accepted,
            Some(_) => Outcome::Refused(ProblemKind::ReplyUsed),
            None if !sound => Outcome::Refused(ProblemKind::ReplyInvalid),
            None if epoch <= self.fence => Outcome::Refused(ProblemKind::ReplyEpoch),
            None => {
                self.used.insert(slot, letter);
                if !self.struck.contains(&slot) {
                    self.queue.push(letter);
                }
                Outcome::Accepted
            }
        }
    }

    /// The last epoch up to `over` that was used.
    fn last_used(&self, over: u32) -> u32 {
        self.used.keys().map(|(_, epoch, ..)| *epoch).filter(|epoch| *epoch <= over).fold(0, u32::max)
    }

    fn drop_epochs(&mut self, over: u32, fence: u32) {
        self.fence = self.fence.max(fence);
        self.used.retain(|(_, epoch, ..), _| *epoch > over);
        self.struck.retain(|(_, epoch, ..)| *epoch > over);
    }
}

/// A letter as it is sent.
struct Letter {
    owner: usize,
    slot: Slot,
    sound: bool,
    shown: ReplyAuthorization,
    envelope: Vec<u8>,
}

/// The relay, the model, and who uses both.
struct Game {
    world: World,
    router: Router,
    random: StdRng,
    mailboxes: Vec<Mailbox>,
    groups: HashMap<(usize, u32), GroupSecret>,
    contacts: Vec<Contact>,
    models: Vec<Model>,
    letters: Vec<Letter>,
    /// What a letter was answered when it was accepted: the same ever after, while it is answered at all.
    names: HashMap<usize, MessageId>,
    latest: u64,
}

impl Game {
    async fn new(seed: u64) -> Self {
        let world = World::start().await;
        let mut random = StdRng::seed_from_u64(seed);
        let mut mailboxes = Vec::new();
        for _ in 0..OWNERS {
            mailboxes.push(world.mailbox().await);
        }
        let contacts = (0..CONTACTS).map(|_| Contact(MemberSecret::generate(&mut random))).collect();
        let router = world.app.router();
        let models = (0..OWNERS).map(|_| Model::default()).collect();
        let mut game = Self {
            world,
            router,
            random,
            mailboxes,
            groups: HashMap::new(),
            contacts,
            models,
            letters: Vec::new(),
            names: HashMap::new(),
            latest: START,
        };
        for owner in 0..OWNERS {
            game.declare(owner, vec![1]).await;
        }
        game
    }

    fn below(&mut self, end: usize) -> usize {
        self.random.next_u32() as usize % end
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(self.world.now())
    }

    async fn as_owner(&self, owner: usize, method: Method, path: &str, body: &impl serde::Serialize) -> Vec<u8> {
        let jwt = self.world.fresh(&self.mailboxes[owner]).jwt;
        let body = serde_json::to_vec(body).unwrap();
        let (status, answer) = call(&self.router, method, path, &format!("Bearer {jwt}"), body).await;
        assert!(status < 300, "{path} {status} {}", String::from_utf8_lossy(&answer));
        answer
    }

    async fn declare(&mut self, owner: usize, versions: Vec<u32>) {
        for version in &versions {
            self.groups.entry((owner, *version)).or_insert_with(|| GroupSecret::generate(&mut rng()));
        }
        let keys = versions.iter().map(|version| reply_key(*version, &self.groups[&(owner, *version)])).collect();
        self.as_owner(owner, Method::PUT, REPLY_KEYS_PATH, &ReplyKeys { keys }).await;
        self.models[owner].versions = versions;
    }

    /// One version, then two, then the newer alone.
    async fn rotate(&mut self, owner: usize) {
        let next = match self.models[owner].versions[..] {
            [only] => vec![only, only + 1],
            [_, newer] => vec![newer],
            _ => unreachable!("one or two"),
        };
        self.declare(owner, next).await;
    }

    /// Somebody writes, for about now, perhaps under a version that is over, perhaps wrongly.
    async fn write(&mut self) -> (usize, Outcome, Outcome) {
        let (owner, contact) = (self.below(OWNERS), self.below(CONTACTS));
        let slot = self.below(usize::from(SLOTS)) as u16;
        let newest = *self.models[owner].versions.last().unwrap();
        let version = if self.below(4) == 0 { newest.max(2) - 1 } else { newest };
        let epoch = policy().epoch_at(self.now()) + [1, 1, 1, 1, 1, 1, 0, 0, 2][self.below(9)] - 1;
        let mut envelope = vec![0; 4096];
        self.random.fill_bytes(&mut envelope[..32]);
        let to = For { relay: RELAY, mailbox: self.mailboxes[owner].id, version, epoch };
        let (context, seed) = (to.context(), self.contacts[contact].seed(epoch));
        let credential = self.groups[&(owner, version)].issue(Params::new(SLOTS).unwrap(), &context.of, &seed);
        let shown = credential.present(&mut self.random, &context, slot, &envelope_digest(&envelope)).unwrap();
        let mut shown = ReplyAuthorization { key_version: version, epoch, presentation: shown.encode() };
        let sound = self.below(10) > 0;
        if !sound {
            // Anywhere but in the first bytes of T, so that it still is this slot.
            shown.presentation[[5, 40, 80, 120, 155][self.random.next_u32() as usize % 5]] ^= 1;
        }
        self.letters.push(Letter { owner, slot: (version, epoch, contact, slot), sound, shown, envelope });
        self.send(self.letters.len() - 1).await
    }

    /// An old presentation with another envelope.
    async fn write_wrongly(&mut self) -> (usize, Outcome, Outcome) {
        let recent = self.recent();
        let Letter { owner, slot, ref shown, ref envelope, .. } = self.letters[recent];
        let (shown, mut envelope) = (shown.clone(), envelope.clone());
        self.random.fill_bytes(&mut envelope[..32]);
        self.letters.push(Letter { owner, slot, sound: false, shown, envelope });
        self.send(self.letters.len() - 1).await
    }

    fn recent(&mut self) -> usize {
        let back = self.below(self.letters.len().min(40));
        self.letters.len() - 1 - back
    }

    async fn send(&mut self, number: usize) -> (usize, Outcome, Outcome) {
        let letter = &self.letters[number];
        let path = send_path(&self.mailboxes[letter.owner].id);
        let (status, body) =
            call(&self.router, Method::POST, &path, &letter.shown.to_string(), letter.envelope.clone()).await;
        let real = if status == 201 {
            let name = serde_json::from_slice::<Accepted>(&body).unwrap().message;
            assert_eq!(*self.names.entry(number).or_insert(name), name, "an answer is repeated");
            Outcome::Accepted
        } else {
            Outcome::Refused(serde_json::from_slice::<Problem>(&body).unwrap().known_kind().unwrap())
        };
        let now = self.now();
        let expected = self.models[letter.owner].send(now, number, letter.slot, letter.sound);
        (number, real, expected)
    }

    /// Strikes or lifts one contact in an epoch about now.
    async fn judge(&mut self, lift: bool) {
        let (owner, contact) = (self.below(OWNERS), self.below(CONTACTS));
        let epoch = policy().epoch_at(self.now()) + self.below(3) as u32 - 1;
        let version = *self.models[owner].versions.last().unwrap();
        let to = For { relay: RELAY, mailbox: self.mailboxes[owner].id, version, epoch };
        let seed = self.contacts[contact].seed(epoch);
        let list = vec![listed(epoch, &strike(Params::new(SLOTS).unwrap(), &to.context(), &seed, &[]))];
        let slots = (0..SLOTS).map(|slot| (version, epoch, contact, slot));
        let strikes = if lift {
            let lifted: HashSet<_> = slots.collect();
            self.models[owner].struck.retain(|slot| !lifted.contains(slot));
            Strikes { strike: Vec::new(), lift: list }
        } else {
            self.models[owner].struck.extend(slots);
            Strikes { strike: list, lift: Vec::new() }
        };
        self.as_owner(owner, Method::POST, STRIKES_PATH, &strikes).await;
    }

    async fn sweep(&mut self) {
        self.world.app.sweep().await.unwrap();
        let over = policy().epoch_at(self.now().minus_seconds(u64::from(policy().grace_seconds))) - 1;
        // There is one fence for all mailboxes.
        let fence = self.models.iter().map(|model| model.last_used(over)).fold(0, u32::max);
        self.models.iter_mut().for_each(|model| model.drop_epochs(over, fence));
    }

    /// Now and then with a clock that goes wrong by up to two hours.
    async fn restart(&mut self) {
        let back = if self.below(2) == 0 { 0 } else { self.below(7200) as u64 };
        self.world.restart_at((self.world.now() - back).max(self.latest - 7200)).await;
        self.router = self.world.app.router();
        // It begins with a sweep of its own, at a moment of its own.
        self.sweep().await;
    }

    fn advance(&mut self) {
        let seconds = [60, 600, 3600, 7200][self.below(4)];
        self.world.clock.advance_seconds(seconds);
        self.latest = self.latest.max(self.world.now());
    }

    /// What waits is what the model says, in that order; then some of it is acknowledged.
    async fn read(&mut self, owner: usize) {
        let jwt = self.world.fresh(&self.mailboxes[owner]).jwt;
        let path = format!("{MESSAGES_PATH}?limit=100");
        let (status, body) = call(&self.router, Method::GET, &path, &format!("Bearer {jwt}"), Vec::new()).await;
        assert_eq!(status, 200);
        let page: Messages = serde_json::from_slice(&body).unwrap();
        let real: Vec<_> = page.messages.iter().map(|queued| queued.message).collect();
        let expected: Vec<_> = self.models[owner].queue.iter().map(|letter| self.names[letter]).collect();
        assert_eq!(real, expected, "queue of {owner}");
        let kept = self.below(real.len() + 1);
        let messages = real.into_iter().skip(kept).collect();
        self.as_owner(owner, Method::POST, ACK_PATH, &MessageList { messages }).await;
        self.models[owner].queue.truncate(kept);
    }

    async fn step(&mut self) -> Option<(usize, Outcome, Outcome)> {
        match self.below(1000) {
            0..560 => return Some(self.write().await),
            560..700 if !self.letters.is_empty() => {
                let recent = self.recent();
                return Some(self.send(recent).await);
            }
            700..780 if !self.letters.is_empty() => return Some(self.write_wrongly().await),
            780..850 => self.judge(false).await,
            850..890 => self.judge(true).await,
            890..940 => self.advance(),
            940..960 => self.sweep().await,
            960..965 => self.restart().await,
            965..975 => {
                let owner = self.below(OWNERS);
                self.rotate(owner).await;
            }
            _ => {
                let owner = self.below(OWNERS);
                self.read(owner).await;
            }
        }
        None
    }
}

/// Says where it was if a step panics.
struct At(u64, usize);

impl Drop for At {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("failing seed {}, step {}", self.0, self.1);
        }
    }
}

async fn play(seed: u64, steps: usize) {
    let mut game = Game::new(seed).await;
    let mut seen: HashMap<String, usize> = HashMap::new();
    for step in 0..steps {
        let _at = At(seed, step);
        let Some((letter, real, expected)) = game.step().await else { continue };
        let slot = game.letters[letter].slot;
        assert_eq!(real, expected, "seed {seed}, step {step}, letter {letter} with {slot:?}");
        *seen.entry(format!("{real:?}")).or_default() += 1;
    }
    for owner in 0..OWNERS {
        game.read(owner).await;
    }
    game.world.assert_consistent();
    // Every outcome came up, or the play shows little.
    let kinds = [ProblemKind::ReplyInvalid, ProblemKind::ReplyEpoch, ProblemKind::ReplyUsed].map(Outcome::Refused);
    for kind in kinds.into_iter().chain([Outcome::Accepted]) {
        assert!(seen.get(&format!("{kind:?}")).is_some_and(|n| n * 100 > steps), "seed {seed}: {kind:?} in {seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_random_operations_have_the_outcomes_of_the_model() {
    play(1, 10_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn and_so_have_fewer_with_other_seeds() {
    for seed in 2..8 {
        play(seed, 1000).await;
    }
}
