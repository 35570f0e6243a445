//! `postern demo`: two servers and three people on this machine, as real processes, and what each server knows at the end.
//!
//! **Owns** the story and its expectations; every step is the `postern` command itself, run as a user would run it. It may read the servers'
//! database files, which no other part of the client may: to show them.

mod chat;
mod knowledge;
mod people;
mod servers;
mod tables;

use std::path::Path;
use std::process::ExitCode;

use people::Person;
use servers::{Programs, Servers};

/// Arguments of `postern demo`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Keep the directory with servers, profiles and databases, and print where it is.
    #[arg(long)]
    keep: bool,
}

/// Why the demo could not go on: what was being done, and what went wrong.
#[derive(Debug, thiserror::Error)]
#[error("{doing}: {problem}")]
pub(crate) struct Failure {
    doing: String,
    problem: String,
}

impl Failure {
    fn new(doing: &str, problem: impl std::fmt::Display) -> Self {
        Self { doing: doing.to_owned(), problem: problem.to_string() }
    }
}

/// Says what was expected and whether it held; the exit code is 0 only if all did.
#[derive(Default)]
struct Expectations {
    failed: usize,
    held: usize,
}

impl Expectations {
    fn that(&mut self, holds: bool, words: &str) {
        println!("  {} {words}", if holds { "✓" } else { "✗ FAILED:" });
        if holds { self.held += 1 } else { self.failed += 1 }
    }
}

/// Runs the demo.
pub(crate) fn run(args: &Args) -> ExitCode {
    let dir = match tempfile::Builder::new().prefix("postern-demo-").tempdir() {
        Ok(dir) => dir,
        Err(error) => {
            eprintln!("error: no directory for the demo: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = play(dir.path());
    if args.keep {
        println!("kept: {}", dir.keep().display());
    }
    match outcome {
        Ok(Expectations { failed: 0, held }) => {
            println!("\nAll {held} expectations held.");
            ExitCode::SUCCESS
        }
        Ok(Expectations { failed, held }) => {
            eprintln!("\n{failed} of {} expectations FAILED.", held + failed);
            ExitCode::FAILURE
        }
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn play(dir: &Path) -> Result<Expectations, Failure> {
    let mut expect = Expectations::default();
    let servers = Servers::start(&Programs::find()?, dir)?;
    println!("Issuer and relay run on loopback, each with an empty database.");
    println!(
        "Random delays are set to zero here; a real client waits hours before it tells a verdict or asks for a token.\n\
         Free replies are counted by the minute here; by the hour in earnest.\n"
    );

    let alice = Person::register(&servers, dir, "alice", "+41791000001", &mut expect)?;
    let bob = Person::register(&servers, dir, "bob", "+41791000002", &mut expect)?;
    let mallory = Person::register(&servers, dir, "mallory", "+41791000003", &mut expect)?;

    servers.build_directory()?;

    correspond(&alice, &bob, &mut expect)?;
    scrape(&mallory, dir, &mut expect)?;
    spam(&mallory, &bob, &mut expect)?;
    chat::reply(&alice, &bob, &mut expect)?;
    let flooded = chat::flood(&bob, &alice, &mut expect)?;
    chat::block(&alice, &bob, flooded, &mut expect)?;
    knowledge::show(&servers, [&alice, &bob, &mallory], &mut expect)?;
    Ok(expect)
}

/// Alice writes to a stranger, is released, and exchanges her token.
fn correspond(alice: &Person, bob: &Person, expect: &mut Expectations) -> Result<(), Failure> {
    println!("\nAlice has Bob's number, and nothing else of his.");
    let found = alice.run(&["find", bob.phone])?;
    expect.that(
        found.at("/found/0/card") == bob.card.as_str(),
        "she finds him: the issuer saw a blinded number, the relay saw nothing",
    );
    let budget = found.at("/budget/stored").as_u64().zip(found.at("/budget/askable").as_u64());
    let left = budget.map_or(0, |(stored, askable)| stored + askable);
    expect.that(left == 39, &format!("{left} of her 40 look-ups are left"));
    let sent = alice.run(&["send", bob.phone, "Hello Bob, we met on Tuesday."])?;
    expect.that(sent.at("/status") == "delivered", "the relay took Alice's message for a token");
    expect.that(alice.tokens_left()? == 4, "Alice has 4 tokens left");

    let inbox = bob.run(&["inbox"])?;
    expect.that(inbox.at("/messages/0/text") == "Hello Bob, we met on Tuesday.", "Bob reads it");
    expect.that(
        inbox.at("/messages/0/from") == alice.phone,
        "and sees Alice's verified number, which came inside the sealed message",
    );
    expect.that(inbox.at("/messages/0/folder") == "requests", "as a request from a stranger, apart from his inbox");

    let early = alice.run(&["sync"])?;
    expect.that(early.at("/returned") == 0, "Alice asks for her token: Bob has said nothing yet, so it stays out");
    let id = inbox.at("/messages/0/id").as_str().unwrap_or_default().to_owned();
    let accepted = bob.run(&["accept", &id])?;
    expect.that(accepted.at("/message/verdict_sent") == true, "Bob accepts: his client tells the relay \"not spam\"");
    let synced = alice.run(&["sync"])?;
    expect.that(synced.at("/returned") == 1, "Alice exchanges the released token, anonymously, for a fresh one");
    expect.that(alice.tokens_left()? == 5, "Alice has 5 tokens again");

    Ok(())
}

/// Mallory tries out numbers, one after the other, until he has no look-up left.
fn scrape(mallory: &Person, dir: &Path, expect: &mut Expectations) -> Result<(), Failure> {
    println!("\nMallory wants to know who has an account.");
    let file = dir.join("scrape.csv");
    let numbers: String = (0..100).map(|n| format!("+41791000{n:03}\n")).collect();
    std::fs::write(&file, numbers).map_err(|e| Failure::new("writing a list of numbers", e))?;
    let scraped = mallory.run_to_any_end(&["contacts", "import", &file.display().to_string()])?;
    let tried = scraped.at("/found").as_array().map_or(0, Vec::len);
    expect.that(
        scraped.exit == 7 && scraped.at("/error/code") == "lookup-budget" && tried <= 40,
        &format!("after {tried} of 100 numbers he has run dry, until tomorrow"),
    );
    let again = mallory.run_to_any_end(&["find", "+41791000500"])?;
    expect.that(again.exit == 7, "and cannot look up one more");
    Ok(())
}

/// Mallory spends what he has, and is refused from then on.
fn spam(mallory: &Person, bob: &Person, expect: &mut Expectations) -> Result<(), Failure> {
    println!("\nMallory sells watches.");
    for i in 1..=5 {
        let sent = mallory.run(&["send", &bob.card, &format!("Cheap watches, offer {i}")])?;
        expect.that(sent.at("/status") == "delivered", &format!("spam {i} goes through"));
        if i == 2 {
            let inbox = bob.run(&["inbox"])?;
            let all = inbox.at("/messages").as_array().into_iter().flatten();
            let spam: Vec<_> = all.filter(|m| m.get("from").is_some_and(|from| *from == mallory.phone)).collect();
            expect.that(spam.len() == 2, "Bob sees two requests from Mallory's number");
            let id = spam.first().and_then(|m| m.get("id")?.as_str()).unwrap_or_default().to_owned();
            let told = bob.run(&["spam", &id])?;
            expect.that(told.at("/message/verdict") == "spam", "he calls the first one spam, and ignores the second");
        }
    }
    let sixth = mallory.run_to_any_end(&["send", &bob.card, "Cheap watches, offer 6"])?;
    expect.that(sixth.exit == 7 && sixth.at("/error/code") == "no-token", "the sixth is refused: no token left");
    let synced = mallory.run(&["sync"])?;
    expect.that(synced.at("/returned") == 0, "none comes back: spam and silence are the same to Mallory");
    expect.that(mallory.tokens_left()? == 0, "Mallory has 0 tokens, and no way to more with this number");
    Ok(())
}
