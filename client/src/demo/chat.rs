//! The second half of the story: replies are free, limited, and end silently when the owner of the mailbox wants it so.

use std::time::Duration;

use postern_protocol::time::Clock;

use super::people::{Person, Ran};
use super::{Expectations, Failure};
use crate::cli::SystemClock;

/// How many replies a contact has in an epoch.
const K: usize = 16;
/// A machine that cannot send so many before it is refused cannot send [`K`] within one epoch.
const MOST: usize = 6 * K;

/// Bob answers, Alice answers him: neither costs a token.
pub(super) fn reply(alice: &Person, bob: &Person, expect: &mut Expectations) -> Result<(), Failure> {
    println!("\nAlice's first message brought Bob credentials to reply with; so does Bob's answer for Alice.");
    let sent = bob.run(&["send", alice.phone, "Of course I remember."])?;
    expect.that(sent.at("/status") == "delivered" && is_free(&sent), "Bob replies free of charge");
    expect.that(bob.tokens_left()? == 5, "he still has 5 tokens");
    let inbox = alice.run(&["inbox"])?;
    expect.that(find(&inbox, "Of course I remember.", "inbox"), "Alice reads it in her inbox: she wrote to him first");

    let sent = alice.run(&["send", bob.phone, "Coffee on Friday?"])?;
    expect.that(is_free(&sent) && alice.tokens_left()? == 5, "Alice answers free of charge, too");
    let inbox = bob.run(&["inbox"])?;
    expect.that(find(&inbox, "Coffee on Friday?", "inbox"), "Bob reads it in his inbox: he has accepted her");
    let message = message(&inbox, "Coffee on Friday?").and_then(|m| m.get("id")?.as_str()).unwrap_or_default();
    let who = bob.run(&["who", message])?;
    expect.that(
        who.at("/who/by") == "reply" && who.at("/who/contact/phone") == alice.phone,
        "Bob alone can trace the credential that it came by: Alice's",
    );
    Ok(())
}

/// How far Bob got.
pub(super) struct Flooded {
    /// How many messages went through.
    sent: usize,
    /// From when on (Unix seconds) he may write again.
    again: u64,
}

/// Bob writes until he is refused.
pub(super) fn flood(bob: &Person, alice: &Person, expect: &mut Expectations) -> Result<Flooded, Failure> {
    println!("\nBob has a lot to say.");
    let mut in_epoch = 0;
    for i in 1..=MOST {
        let sent = bob.run_to_any_end(&["send", alice.phone, &format!("By the way ({i})")])?;
        let Some(left) = sent.at("/paid/left_in_epoch").as_u64() else {
            let again = sent.at("/error/again_at").as_u64();
            let refused = sent.exit == 7 && sent.at("/error/code") == "reply-limit";
            expect.that(in_epoch == K, "Bob has used all 16 replies of this epoch");
            expect.that(refused && again.is_some(), "the 17th is refused, with the time from which it may be sent");
            expect.that(bob.tokens_left()? == 5, "and no token was spent on it behind his back");
            let again = again.ok_or_else(|| Failure::new("reading the refusal", "no time in it"))?;
            return Ok(Flooded { sent: i - 1, again });
        };
        in_epoch = K.saturating_sub(usize::try_from(left).unwrap_or(K));
    }
    Err(Failure::new("sending 16 messages within an epoch", "this machine is too slow for the demo"))
}

/// Alice blocks Bob; his next message vanishes, and he is told that it was delivered.
pub(super) fn block(alice: &Person, bob: &Person, flooded: Flooded, expect: &mut Expectations) -> Result<(), Failure> {
    println!("\nAlice has had enough.");
    let before = messages_from(&alice.run(&["inbox"])?, bob);
    expect.that(before == flooded.sent + 1, "she has everything that Bob wrote, his first answer included");
    let blocked = alice.run(&["block", bob.phone])?;
    expect.that(blocked.at("/relay_knows") == true, "she blocks him: the relay gets a list of nullifiers, and no name");
    let wait = flooded.again.saturating_add(1).saturating_sub(SystemClock.now().seconds());
    println!("(Bob waits {wait} s for his next free reply.)");
    std::thread::sleep(Duration::from_secs(wait));
    let sent = bob.run(&["send", alice.phone, "Are you still there?"])?;
    expect.that(
        sent.at("/status") == "delivered" && is_free(&sent),
        "Bob writes again, and is told what he always was told",
    );
    let inbox = alice.run(&["inbox"])?;
    expect.that(messages_from(&inbox, bob) == before, "nothing has come to Alice");
    expect
        .that(inbox.at("/new/inbox") == 0 && inbox.at("/new/junk") == 0, "not even as junk: the relay did not keep it");
    Ok(())
}

fn is_free(sent: &Ran) -> bool {
    sent.at("/paid/by") == "reply"
}

fn message<'a>(inbox: &'a Ran, text: &str) -> Option<&'a serde_json::Value> {
    let all = inbox.at("/messages").as_array()?;
    all.iter().find(|message| message.get("text").is_some_and(|found| *found == text))
}

fn find(inbox: &Ran, text: &str, folder: &str) -> bool {
    message(inbox, text).and_then(|message| message.get("folder")).is_some_and(|found| *found == folder)
}

fn messages_from(inbox: &Ran, person: &Person) -> usize {
    let all = inbox.at("/messages").as_array().into_iter().flatten();
    all.filter(|message| message.get("from").is_some_and(|from| *from == person.phone)).count()
}
