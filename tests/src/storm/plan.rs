//! What goes wrong when: drawn from the seed before anything runs.

use std::time::Duration;

use postern_test_database::Engine;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Whom a kill hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Victim {
    /// One of the issuer's processes.
    Issuer(usize),
    /// One of the relay's.
    Relay(usize),
    /// PostgreSQL, with its children.
    Database,
}

/// Something that goes wrong, or that an operator does meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// kill -9, and a start after a moment.
    Kill(Victim, Duration),
    /// No room on the disk of the databases for a while; meanwhile one of them is killed as well.
    FullDisk(Duration, Victim),
    /// The disk's power is cut, everything on it is killed, and it is mounted again.
    PowerCut,
    /// The clock of one server is so many seconds wrong from now on.
    Clock(Victim, i64),
    /// The clocks of all jump so many seconds ahead. They never jump back by as much: a grant of tomorrow is good for nothing today.
    Clocks(i64),
    /// The issuer gets a new token key.
    Rotation,
}

/// What this machine can do.
#[derive(Clone, Copy, Debug)]
pub struct Powers {
    /// A disk of its own.
    pub disk: bool,
    /// Clocks that jump.
    pub clocks: bool,
}

/// How many processes of each server there are.
pub const fn processes(engine: Engine) -> [usize; 2] {
    match engine {
        Engine::Sqlite => [1, 1],
        Engine::Postgres => [2, 3],
    }
}

/// The longest pause before a fault, milliseconds.
const PAUSE: u64 = 1200;
/// How wrong one clock may be: less than servers allow each other, seconds.
const ONE_CLOCK: i64 = 140;
/// How far all jump ahead at most, seconds: codes and JWTs expire.
const ALL_CLOCKS: i64 = 700;

/// An endless sequence of faults, each with the pause before it.
#[derive(Debug)]
pub struct Plan {
    rng: StdRng,
    engine: Engine,
    powers: Powers,
    /// Every kind comes once before chance decides, so that a short storm has them all.
    first: Vec<u32>,
}

impl Plan {
    /// The plan of a seed.
    pub fn new(seed: u64, engine: Engine, powers: Powers) -> Self {
        Self { rng: StdRng::seed_from_u64(seed), engine, powers, first: vec![99, 96, 95, 92, 88, 40, 0, 84] }
    }

    fn victim(&mut self, databases: bool) -> Victim {
        let [issuers, relays] = processes(self.engine);
        let draw = self.rng.random_range(0..100);
        let (issuer, relay) = (self.rng.random_range(0..issuers), self.rng.random_range(0..relays));
        match draw {
            0..20 if databases && self.engine == Engine::Postgres => Victim::Database,
            0..55 => Victim::Issuer(issuer),
            _ => Victim::Relay(relay),
        }
    }
}

impl Iterator for Plan {
    type Item = (Duration, Fault);

    fn next(&mut self) -> Option<(Duration, Fault)> {
        let pause = Duration::from_millis(self.rng.random_range(200..PAUSE));
        let drawn = self.rng.random_range(0..100);
        let kind = self.first.pop().unwrap_or(drawn);
        let (any, server) = (self.victim(true), self.victim(false));
        let down = Duration::from_millis(self.rng.random_range(0..300));
        let full = Duration::from_millis(self.rng.random_range(1000..3000));
        let (one, all) = (self.rng.random_range(-ONE_CLOCK..=ONE_CLOCK), self.rng.random_range(1..=ALL_CLOCKS));
        // A server whose disk or clock cannot be touched is killed instead.
        let fault = match kind {
            0 => Fault::Rotation,
            84..89 if self.powers.clocks => Fault::Clock(server, one),
            89..93 if self.powers.clocks => Fault::Clocks(all),
            93..96 if self.powers.disk => Fault::FullDisk(full, server),
            96.. if self.powers.disk => Fault::PowerCut,
            _ => Fault::Kill(any, down),
        };
        Some((pause, fault))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POWERS: Powers = Powers { disk: true, clocks: true };

    #[test]
    fn a_seed_has_one_plan_and_another_seed_another() {
        let plan = |seed| Plan::new(seed, Engine::Postgres, POWERS).take(500).collect::<Vec<_>>();
        assert_eq!(plan(1), plan(1));
        assert_ne!(plan(1), plan(2));
    }

    #[test]
    fn every_kind_of_fault_comes_soon_and_kills_come_most() {
        for engine in Engine::ALL {
            let plan: Vec<_> = Plan::new(3, engine, POWERS).map(|(_, fault)| fault).take(1000).collect();
            let kills = plan.iter().filter(|fault| matches!(fault, Fault::Kill(..))).count();
            assert!(kills > 750, "{kills}");
            let soon = &plan[..10];
            assert!(soon.iter().any(|fault| matches!(fault, Fault::FullDisk(..))), "{soon:?}");
            assert!(soon.contains(&Fault::PowerCut) && soon.contains(&Fault::Rotation), "{soon:?}");
            assert!(soon.iter().any(|fault| matches!(fault, Fault::Clock(..))), "{soon:?}");
            assert!(soon.iter().any(|fault| matches!(fault, Fault::Clocks(_))), "{soon:?}");
            let database = plan.iter().any(|fault| matches!(fault, Fault::Kill(Victim::Database, _)));
            assert_eq!(database, engine == Engine::Postgres);
        }
    }

    #[test]
    fn what_the_machine_cannot_do_is_not_planned() {
        let powers = Powers { disk: false, clocks: false };
        let mut plan = Plan::new(3, Engine::Sqlite, powers).map(|(_, fault)| fault).take(1000);
        assert!(plan.all(|fault| matches!(fault, Fault::Kill(..) | Fault::Rotation)));
    }
}
