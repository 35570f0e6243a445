//! The servers of a storm, and all that is done to them.

use std::collections::BTreeMap;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use postern_test_database::{Engine, Mortal, TestDatabase, Value};
use tempfile::TempDir;
use tokio::time::Instant;

use super::clock::FalseClock;
use super::disk::Disk;
use super::history::{Finale, Id, Standing};
use super::plan::{Fault, Powers, Victim, processes};
use super::trouble::Weather;
use crate::balancer::Balancer;
use crate::replies::LONG_EPOCHS;
use crate::world::{Place, Programs, Server, State};
use crate::{World, invariants};

/// Nothing that one machine full of accounts would run into.
const ISSUER: &str = "texts_per_number_per_day = 100000\ntexts_per_prefix_per_day = 1000000\ntexts_per_day = 1000000\n\
    login_guesses_per_user = 100000\nlogin_guesses_per_minute = 100000\nexchange_multiple = 100000\nquota_window = 2000\n\
    housekeeping_seconds = 5";
const RELAY: &str = "housekeeping_seconds = 5\nissuer_timeout_seconds = 3";
/// Of a thousand requests so many have trouble on the way.
const TROUBLED: usize = 80;
/// The most that the next fault waits for them.
const BREATH: Duration = Duration::from_secs(2);
/// How long servers may take to be there again when all is calm.
const RECOVERY: Duration = Duration::from_secs(120);

/// Both servers, in as many processes as their engine allows, and what they stand on. What is last goes last.
pub struct Town {
    world: World,
    twins: BTreeMap<Victim, Server>,
    /// Commands of the operator that are under way.
    commands: Vec<Child>,
    postgres: Option<Mortal>,
    disk: Option<Disk>,
    clocks: BTreeMap<Victim, FalseClock>,
    /// How far all clocks are ahead.
    ahead: i64,
    weather: [Arc<Weather>; 2],
    _balancers: [Balancer; 2],
    /// Kills, by victim.
    pub kills: BTreeMap<&'static str, u64>,
    /// Other faults, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Servers that ended by themselves, or panicked.
    pub died: Vec<String>,
    _place: TempDir,
}

impl Town {
    /// Starts everything. What this machine cannot do is said loudly, and fails if `POSTERN_REQUIRE_FAULTS` is set.
    pub fn start(engine: Engine, programs: Programs, seed: u64) -> Self {
        let place = TempDir::new().unwrap();
        // PostgreSQL refuses to work where others may look, and runs as another user.
        std::fs::set_permissions(place.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let size = if engine == Engine::Sqlite { 256 } else { 768 };
        let disk = possible("no full disks and no power cuts", Disk::make(place.path(), size));
        let ground = disk.as_ref().map_or(place.path(), Disk::path).to_owned();
        let postgres = (engine == Engine::Postgres).then(|| Mortal::start(&ground, place.path()));
        let databases = ["issuer", "relay"].map(|name| match &postgres {
            Some(server) => server.database(name),
            None => TestDatabase::new(Engine::Sqlite, ground.join(format!("{name}.db"))),
        });
        let weather = [1, 2].map(|n| Arc::new(Weather::new(seed.wrapping_mul(31).wrapping_add(n), TROUBLED)));
        let balancers = weather.each_ref().map(|weather| Balancer::start_with(Arc::clone(weather) as Arc<_>));
        let relay = format!("{LONG_EPOCHS}\n{RELAY}");
        let world = World::start_on(databases, programs, [ISSUER, &relay], &balancers);
        let mut town = Self {
            world,
            twins: BTreeMap::new(),
            commands: Vec::new(),
            postgres,
            disk,
            clocks: BTreeMap::new(),
            ahead: 0,
            weather,
            _balancers: balancers,
            kills: BTreeMap::new(),
            faults: BTreeMap::new(),
            died: Vec::new(),
            _place: place,
        };
        town.start_twins(engine);
        town.start_clocks();
        // What `init` wrote is not what a power cut is to take.
        drop(std::process::Command::new("sync").status());
        town
    }

    fn start_twins(&mut self, engine: Engine) {
        let [issuers, relays] = processes(engine);
        let issuers = (1..issuers).map(Victim::Issuer);
        for victim in issuers.chain((1..relays).map(Victim::Relay)) {
            let (first, balancer, name) = match victim {
                Victim::Issuer(n) => (&self.world.issuer, &self._balancers[0], format!("issuer-{n}")),
                Victim::Relay(n) => (&self.world.relay, &self._balancers[1], format!("relay-{n}")),
                Victim::Database => unreachable!("has no twin"),
            };
            let mut twin = first.twin(&name);
            twin.start();
            balancer.add(twin.address());
            self.twins.insert(victim, twin);
        }
    }

    /// Everybody gets a clock of their own.
    fn start_clocks(&mut self) {
        for victim in self.servers() {
            let name = format!("{victim:?}").replace(['(', ')'], "-");
            let clock = FalseClock::new(self._place.path(), &name);
            let Some(clock) = possible("no clocks that jump", clock) else { return };
            let server = self.server(victim);
            server.environment = clock.environment();
            server.kill();
            server.start();
            self.clocks.insert(victim, clock);
        }
    }

    /// Where people find them.
    pub fn place(&self) -> Place {
        self.world.place.clone()
    }

    /// What can be done to them here.
    pub fn powers(&self) -> Powers {
        Powers { disk: self.disk.is_some(), clocks: !self.clocks.is_empty() }
    }

    fn servers(&self) -> Vec<Victim> {
        [Victim::Issuer(0), Victim::Relay(0)].into_iter().chain(self.twins.keys().copied()).collect()
    }

    fn server(&mut self, victim: Victim) -> &mut Server {
        match victim {
            Victim::Issuer(0) => &mut self.world.issuer,
            Victim::Relay(0) => &mut self.world.relay,
            other => self.twins.get_mut(&other).unwrap(),
        }
    }

    /// Lets one thing go wrong.
    pub fn suffer(&mut self, fault: Fault) {
        match fault {
            Fault::Kill(Victim::Database, down) => {
                self.kill_postgres();
                sleep(down);
            }
            Fault::Kill(victim, down) => {
                self.kill(victim);
                sleep(down);
            }
            Fault::FullDisk(full, victim) => {
                self.count("full disk");
                self.disk.as_ref().unwrap().fill();
                sleep(full / 2);
                self.kill(victim);
                self.tend();
                sleep(full / 2);
                self.disk.as_ref().unwrap().empty();
            }
            Fault::PowerCut => self.cut_power(),
            Fault::Clock(victim, seconds) => {
                self.count("one clock jumps");
                self.clocks[&victim].set(self.ahead + seconds);
            }
            Fault::Clocks(seconds) => {
                self.count("all clocks jump");
                self.ahead += seconds;
                self.clocks.values().for_each(|clock| clock.set(self.ahead));
            }
            Fault::Rotation => {
                self.count("token key rotated");
                let mut command = self.world.issuer.prepare(&["rotate-keys"]);
                command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                self.commands.push(command.spawn().unwrap());
            }
        }
        self.tend();
    }

    fn count(&mut self, fault: &'static str) {
        *self.faults.entry(fault).or_default() += 1;
    }

    fn cut_power(&mut self) {
        self.count("power cut");
        let disk = self.disk.as_ref().unwrap();
        disk.cut_power().unwrap();
        // Nobody works on this disk any more.
        self.stop_commands();
        if self.postgres.is_some() {
            self.kill_postgres();
        } else {
            self.servers().into_iter().for_each(|victim| self.kill(victim));
        }
        self.disk.as_ref().unwrap().mount_again();
    }

    fn stop_commands(&mut self) {
        for mut command in self.commands.drain(..) {
            drop(command.kill());
            drop(command.wait());
            FalseClock::sweep(command.id());
        }
    }

    fn kill_postgres(&mut self) {
        let server = self.postgres.as_mut().unwrap();
        if server.is_alive() {
            server.kill();
            *self.kills.entry("PostgreSQL").or_default() += 1;
        }
    }

    /// kill -9, if it runs.
    fn kill(&mut self, victim: Victim) {
        let name = if let Victim::Issuer(_) = victim { "issuer" } else { "relay" };
        let server = self.server(victim);
        match server.state() {
            State::Listens | State::Starting => {
                end(server);
                *self.kills.entry(name).or_default() += 1;
            }
            State::GaveUp => end(server),
            State::Died => self.bury(victim),
            State::Down => {}
        }
    }

    /// It ended, and nobody had killed it.
    fn bury(&mut self, victim: Victim) {
        let server = self.server(victim);
        end(server);
        let log = server.read_log();
        let last: Vec<&str> = log.lines().rev().take(5).collect();
        let died = format!("{victim:?} ended by itself: {}", last.into_iter().rev().collect::<Vec<_>>().join("\n"));
        self.died.push(died);
    }

    /// Starts again what is down, whoever took it down. Whether all is well.
    fn tend(&mut self) -> bool {
        let mut well = true;
        if let Some(postgres) = &mut self.postgres
            && !postgres.is_alive()
        {
            well &= postgres.bring_back();
        }
        for victim in self.servers() {
            let state = self.server(victim).state();
            well &= state == State::Listens;
            match state {
                State::Listens | State::Starting => continue,
                State::Down => {}
                State::GaveUp => end(self.server(victim)),
                State::Died => self.bury(victim),
            }
            self.server(victim).launch();
        }
        self.commands.retain_mut(|command| command.try_wait().unwrap().is_none());
        well
    }

    /// How many kills there were.
    pub fn killed(&self) -> u64 {
        self.kills.values().sum()
    }

    /// Waits until all are there again, but not for long: where a start takes its time, people get some of it as well.
    pub fn recover(&mut self) {
        let began = Instant::now();
        while !self.tend() && began.elapsed() < BREATH {
            sleep(Duration::from_millis(50));
        }
    }

    /// Nothing goes wrong any more, and all is there again.
    pub fn calm(&mut self) {
        self.weather.iter().for_each(|weather| weather.calm());
        self.clocks.values().for_each(|clock| clock.set(self.ahead));
        if let Some(disk) = &self.disk {
            disk.empty();
        }
        let began = Instant::now();
        while !self.tend() {
            assert!(began.elapsed() < RECOVERY, "the servers do not come back: {}", self.logs());
            sleep(Duration::from_millis(100));
        }
    }

    /// What each says last.
    fn logs(&mut self) -> String {
        let mut all = String::new();
        for victim in self.servers() {
            let log = self.server(victim).read_log();
            let tail: Vec<&str> = log.lines().rev().take(10).collect();
            all += &format!("{victim:?}:\n{}\n", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
        all + &self.postgres.as_ref().map(Mortal::read_log).unwrap_or_default()
    }

    /// What the databases say. To be asked when nothing is under way.
    pub fn finale(&mut self) -> Finale {
        for victim in self.servers() {
            let log = self.server(victim).read_log();
            if let Some(line) = log.lines().find(|line| line.contains("panicked")) {
                self.died.push(format!("{victim:?} panicked: {line}"));
            }
        }
        let world = &self.world;
        let blob = |value: &Value| if let Value::Blob(bytes) = value { Id::of(bytes) } else { panic!("{value:?}") };
        let standing = |value: &Value| match value {
            Value::Text(state) => match state.as_str() {
                "attached" => Standing::Attached,
                "released" => Standing::Released,
                "burnt" => Standing::Burnt,
                "exchanging" | "exchanged" => Standing::Exchanged,
                other => panic!("{other}"),
            },
            other => panic!("{other:?}"),
        };
        let ledger = world.relay_db.rows("select nullifier, state from ledger", &[]);
        let waiting = world.relay_db.rows("select message from messages", &[]);
        let signed = |whom: &str| {
            let sum = format!("select coalesce(sum(count), 0) from key_counts where relay {whom} ''");
            u64::try_from(world.issuer_db.int(&sum)).unwrap()
        };
        Finale {
            ledger: ledger.iter().map(|row| (blob(&row[0]), standing(&row[1]))).collect(),
            waiting: waiting.iter().map(|row| blob(&row[0])).collect(),
            signed: (signed("="), signed("<>")),
            broken: invariants::violations(&invariants::copy(world)),
        }
    }

    /// How much trouble there was on the way to both servers.
    pub fn troubles(&self) -> BTreeMap<&'static str, u64> {
        let mut all = BTreeMap::new();
        for (trouble, made) in self.weather.iter().flat_map(|weather| weather.made()) {
            *all.entry(trouble.name()).or_default() += made;
        }
        all
    }
}

impl Drop for Town {
    fn drop(&mut self) {
        for victim in self.servers() {
            if self.server(victim).process().is_some() {
                end(self.server(victim));
            }
        }
        self.stop_commands();
    }
}

/// kill -9.
fn end(server: &mut Server) {
    let process = server.process();
    server.kill();
    process.into_iter().for_each(FalseClock::sweep);
}

/// What this machine can do, or loudly nothing.
fn possible<T>(without: &str, what: Result<T, String>) -> Option<T> {
    match what {
        Ok(what) => Some(what),
        Err(why) => {
            assert!(std::env::var_os("POSTERN_REQUIRE_FAULTS").is_none(), "{without}: {why}");
            eprintln!("== STORM WITHOUT SOMETHING: {without}: {why}");
            None
        }
    }
}
