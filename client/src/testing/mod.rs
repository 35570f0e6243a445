//! What unit tests stand on: both servers in memory behind a real socket, people with profiles, a clock that stands still.

mod http;
mod issuer;
pub(crate) mod lookups;
mod prekeys;
mod relay;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use postern_protocol::ids::PhoneNumber;
use postern_protocol::time::{MockClock, Timestamp};
use rand::SeedableRng;
use rand::rngs::StdRng;

pub(crate) use self::http::{Asked, Fault, Server, Told};
pub(crate) use self::issuer::Issuer;
pub(crate) use self::prekeys::Supply;
pub(crate) use self::relay::Relay;
use crate::channel::Network;
use crate::client::Client;
use crate::error::Result;
use crate::profile::{KdfParams, Patience, Profile};
use crate::register::Started;

pub(crate) const ISSUER_NAME: &str = "issuer.test";
pub(crate) const RELAY_NAME: &str = "relay.test";
pub(crate) const PASSWORD: &str = "a password for tests";
pub(crate) const CODE: &str = "123456";
/// When tests happen, Unix seconds.
pub(crate) const NOW: u64 = 1_800_000_000;

pub(crate) type Person = Client<Arc<MockClock>, StdRng>;

/// Both servers at one address, and where profiles lie.
pub(crate) struct Town {
    pub(crate) server: Server,
    pub(crate) relay: Arc<Mutex<Relay>>,
    pub(crate) issuer: Arc<Mutex<Issuer>>,
    pub(crate) clock: Arc<MockClock>,
    dir: tempfile::TempDir,
}

impl Town {
    pub(crate) fn new() -> Self {
        let clock = Arc::new(MockClock::new(Timestamp::from_seconds(NOW)));
        let relay = Arc::new(Mutex::new(Relay::new(Arc::clone(&clock))));
        let (mut made, times) = (None, Arc::clone(&clock));
        let server = Server::start(|url| {
            let issuer = Arc::new(Mutex::new(Issuer::new(url, times)));
            made = Some(Arc::clone(&issuer));
            let relay = Arc::clone(&relay);
            Box::new(move |asked| {
                let mut issuer = issuer.lock().unwrap();
                let told = issuer.answer(asked).or_else(|| relay.lock().unwrap().answer(asked, &mut issuer));
                told.unwrap_or_else(|| Told::problem(postern_protocol::problem::ProblemKind::NotFound))
            })
        });
        Self { server, relay, issuer: made.unwrap(), clock, dir: tempfile::tempdir().unwrap() }
    }

    /// A profile without an account; verdicts and questions go at once.
    pub(crate) fn newcomer(&self, name: &str) -> Person {
        let path = Profile::path(self.dir.path(), name).unwrap();
        let mut rng = seeded(name);
        let profile = Profile::create(&path, PASSWORD, KdfParams::CHEAP, &mut rng, &Patience::NONE).unwrap();
        let mut person = self.client(profile, rng);
        person
            .change_settings(|settings| {
                settings.release_delay_seconds = 0;
                settings.exchange_interval_seconds = 0;
            })
            .unwrap();
        person
    }

    /// The same person after a restart.
    pub(crate) fn reopen(&self, name: &str, person: Person) -> Person {
        drop(person);
        let path = Profile::path(self.dir.path(), name).unwrap();
        let profile = Profile::open(&path, PASSWORD, &Patience::NONE).unwrap();
        self.client(profile, seeded(&format!("{name} again")))
    }

    fn client(&self, profile: Profile, rng: StdRng) -> Person {
        let network = Network { timeout: Duration::from_secs(20), attempts: 1, backoff: Duration::ZERO };
        Client::new(profile, Arc::clone(&self.clock), rng, network)
    }

    /// Somebody with an account and five tokens.
    pub(crate) async fn person(&self, name: &str, phone: &str) -> Person {
        let mut person = self.newcomer(name);
        let started = person.start_registration(&self.server.url, number(phone), None, None).await.unwrap();
        assert!(matches!(started, Started::CodeSent { .. }));
        person.verify_code(Some(CODE), PASSWORD).await.unwrap();
        person
    }
}

impl Person {
    /// As if the JWT had ended.
    pub(crate) fn forget_jwt(&mut self) -> Result<()> {
        self.profile.tx(&mut self.rng, |t| t.delete::<crate::login::JwtRecord>("").map(drop))
    }
}

pub(crate) fn number(text: &str) -> PhoneNumber {
    text.parse().unwrap()
}

fn seeded(name: &str) -> StdRng {
    let mut seed = [0; 32];
    for (to, from) in seed.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    StdRng::from_seed(seed)
}
