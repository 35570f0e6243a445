//! The storm: hundreds of scripted people use real servers while faults are injected, each keeps a history, and a checker that does no I/O
//! says whether the promises of design §10.1 were kept (docs/storm.md).

mod attacks;
pub mod check;
pub mod clock;
pub mod disk;
mod flows;
pub mod history;
pub mod plan;
pub mod report;
pub mod resident;
pub mod town;
pub mod trouble;

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use postern_test_database::Engine;
use tokio::time::Instant;

use crate::world::Programs;
use plan::Plan;
use report::Report;
use resident::{Resident, Street};
use town::Town;

/// Operations a second that all try to do together.
const PACE: f64 = 60.0;

/// How much longer a storm lasts at most than it should.
const LONGER: Duration = Duration::from_secs(240);

/// What kind of storm.
#[derive(Clone, Debug)]
pub struct Options {
    /// On which engine.
    pub engine: Engine,
    /// What everything is drawn from.
    pub seed: u64,
    /// How many people.
    pub accounts: u32,
    /// How long faults are injected, at least.
    pub length: Duration,
    /// … and until there were so many kills, and so many operations: a slow machine takes longer.
    pub least: (u64, usize),
    /// The servers.
    pub programs: Programs,
}

/// Raises a storm, lets it calm down, and checks.
pub fn run(options: &Options) -> Report {
    let mut town = Town::start(options.engine, options.programs.clone(), options.seed);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let _inside = runtime.enter();
    let street = Arc::new(Street::new(town.place(), options.accounts as usize));
    let rest = Duration::from_secs_f64(f64::from(options.accounts) / PACE);
    let people: Vec<_> = (0..options.accounts)
        .map(|index| {
            let (street, seed) = (Arc::clone(&street), options.seed.wrapping_mul(1_000_003).wrapping_add(index.into()));
            tokio::spawn(async move { Resident::new(street, index, seed).await.live(rest).await })
        })
        .collect();

    let began = Instant::now();
    for (pause, fault) in Plan::new(options.seed, options.engine, town.powers()) {
        let enough = town.killed() >= options.least.0 && street.operations() >= options.least.1;
        if began.elapsed() >= options.length && enough || began.elapsed() >= options.length + LONGER {
            break;
        }
        std::thread::sleep(pause);
        town.suffer(fault);
        town.recover();
    }
    let raged = began.elapsed();
    town.calm();
    street.calm();
    let (mut failures, mut residents) = (Vec::new(), Vec::new());
    for person in runtime.block_on(join_all(people)) {
        match person {
            Ok(resident) => residents.push(resident),
            Err(panic) => failures.push(format!("an account gave up: {panic}")),
        }
    }
    let finish = async |mut resident: Resident| {
        resident.empty_mailbox().await;
        resident
    };
    let emptied = residents.into_iter().map(|resident| tokio::spawn(finish(resident)));
    let emptied: Vec<_> = runtime.block_on(join_all(emptied));
    let collect = async |mut resident: Resident| {
        resident.collect().await;
        resident
    };
    let collected = emptied.into_iter().map(|resident| tokio::spawn(collect(resident.unwrap())));
    runtime.block_on(join_all(collected)).into_iter().for_each(|resident| drop(resident.unwrap()));
    let finale = town.finale();
    failures.append(&mut town.died);
    Report::of(options, raged, &town, failures, &street.history(), &finale)
}
