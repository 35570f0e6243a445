//! What the binary `linkability` prints.

use std::process::ExitCode;

use super::distinguishers::Tallies;
use super::events::Slip;
use super::evidence::Adversary;
use super::linkability::{BITES, Finding, Game, INTERVALS, confidence};
use super::linking::Link;
use super::lookups::{self, Leak};
use super::people::Prepared;
use super::servers::Servers;
use super::timing::{POLICIES, told};

/// People in a world of the honest game.
const PEOPLE: usize = 200;
/// And of a leaky one.
const FEW: usize = 80;
/// Look-ups of a game: as many as there are tokens for.
const A_GAME: usize = 600;
/// How many people are active in a day, in the table of times.
const ACTIVE: [usize; 4] = [10, 100, 1000, 10_000];

/// `--rounds N`, and `--only honest`, `leaky`, `timing` or `lookups`.
pub fn main(args: impl Iterator<Item = String>) -> ExitCode {
    let args: Vec<String> = args.collect();
    let value = |name: &str| args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1));
    let rounds: usize = value("--rounds").map_or(10_000, |rounds| rounds.parse().expect("--rounds takes a number"));
    let is_asked = |part: &str| value("--only").is_none_or(|only| only == part);
    let mut held = true;
    if is_asked("timing") {
        timing(rounds.min(4000));
    }
    if is_asked("leaky") {
        held &= leaky();
    }
    if is_asked("honest") {
        held &= honest(rounds);
    }
    if is_asked("lookups") {
        held &= honest_lookups(rounds);
    }
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One line of a finding.
pub fn line(finding: &Finding) -> String {
    let Finding { link, way, rounds, advantage } = finding;
    format!(
        "| {link:?} | {way} | {rounds} | {:+.3} | {:+.3} to {:+.3} |",
        advantage.value, advantage.low, advantage.high
    )
}

/// Plays the client of this version against every way; whether each interval has zero in it where it is promised.
pub fn honest(rounds: usize) -> bool {
    // The learned way has half of them for learning.
    let game = Game::play(Slip::None, &Link::ALL, PEOPLE, rounds, |played| eprintln!("{played} rounds"));
    let findings = game.findings(confidence(INTERVALS));
    println!("| link | way | rounds | advantage | interval, all together 99% |\n|---|---|---|---|---|");
    findings.iter().for_each(|finding| println!("{}", line(finding)));
    let told: Vec<_> = findings.iter().filter(|f| f.link.is_promised() && !f.advantage.covers(0.0)).collect();
    told.iter().for_each(|finding| println!("TOLD: {}", line(finding)));
    told.is_empty()
}

/// Look-ups, among a thousand people and a thousand numbers; whether each interval has zero in it.
fn honest_lookups(rounds: usize) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let prepared = runtime.block_on(Prepared::new(Servers::fresh()));
    let tallies = play_lookups(&prepared, Leak::None, rounds, |played| eprintln!("{played} look-ups"));
    let confidence = 1.0 - 0.01 / tallies.results().len() as f64;
    println!("| question | way | rounds | advantage | interval, all together 99% |\n|---|---|---|---|---|");
    let mut held = true;
    for (question, way, tally) in tallies.results() {
        let advantage = tally.advantage(confidence);
        held &= advantage.covers(0.0);
        let (value, low, high) = (advantage.value, advantage.low, advantage.high);
        println!("| {question:?} | {way} | {} | {value:+.3} | {low:+.3} to {high:+.3} |", tally.rounds());
    }
    held
}

/// So many look-ups, and what the adversary makes of them.
pub fn play_lookups(prepared: &Prepared, leak: Leak, rounds: usize, told: impl Fn(usize)) -> Tallies {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut tallies: Option<Tallies> = None;
    for (n, begin) in (0..rounds).step_by(A_GAME).enumerate() {
        let rounds = A_GAME.min(rounds - begin);
        let mut game = lookups::Game::nth(prepared, leak, rounds, n as u64);
        let adversary = Adversary::new(&game);
        let tallies = match &mut tallies {
            Some(tallies) => {
                tallies.go_on(adversary);
                tallies
            }
            none => none.insert(Tallies::new(adversary)),
        };
        for round in 0..rounds {
            tallies.add(round, &runtime.block_on(game.play(round)));
        }
        told(begin + rounds);
    }
    tallies.expect("a round")
}

/// Plays each slip; whether the way that is for it sees it.
pub fn leaky() -> bool {
    println!("| slip | link | way | rounds | advantage | interval |\n|---|---|---|---|---|---|");
    bites(&BITES, FEW)
        .iter()
        .filter(|(slip, finding)| {
            println!("| {slip:?} {}", line(finding));
            finding.advantage.value <= 0.9
        })
        .count()
        == 0
}

/// What the way that is for each of these slips makes of it.
pub fn bites(bites: &[super::linkability::Bite], people: usize) -> Vec<(Slip, Finding)> {
    let mut slips: Vec<Slip> = bites.iter().map(|bite| bite.0).collect();
    slips.sort_unstable();
    slips.dedup();
    let mut all = Vec::new();
    for slip in slips {
        let of_slip: Vec<_> = bites.iter().filter(|bite| bite.0 == slip).collect();
        let mut links: Vec<Link> = of_slip.iter().map(|bite| bite.1).collect();
        links.sort_unstable();
        links.dedup();
        let findings = Game::play(slip, &links, people, people / 2, |_| {}).findings(confidence(INTERVALS));
        for finding in findings {
            if of_slip.iter().any(|(_, link, way)| (*link, *way) == (finding.link, finding.way)) {
                all.push((slip, finding));
            }
        }
    }
    assert_eq!(all.len(), bites.len());
    all
}

fn timing(rounds: usize) {
    println!(
        "| what | delay | active in a day | advantage against one other | picked right | candidates left |\n|---|---|---|---|---|---|"
    );
    for (what, policy, delay) in POLICIES {
        for people in ACTIVE {
            let rounds = if people > 1000 { rounds.min(500) } else { rounds };
            let told = told(*delay, people, rounds, people as u64, 0.99);
            println!(
                "| {what} | {policy} | {people} | {:.2} | {:.3} | {:.1} |",
                told.against_one.value, told.among_all.value, told.remaining
            );
        }
    }
}
