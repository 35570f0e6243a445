//! What each server knows at the end: all tables, and a search of them for anything that names a sender.

use postern_protocol::card::CardLink;

use super::people::Person;
use super::servers::Servers;
use super::tables::{self, Cell, Table};
use super::{Expectations, Failure};

/// Half of a wide terminal.
const COLUMN: usize = 74;
/// The tables of the relay that say what was sent.
const SENDS: [&str; 3] = ["ledger", "messages", "reply_nullifiers"];
/// The issuer's tables with rows that belong to an account.
const ACCOUNTS: [&str; 5] = ["accounts", "issuances", "registrations", "sessions", "login_nonces"];

/// The issuer's tables about accounts that ask for look-up tokens.
const ASKED: [&str; 3] = ["accounts", "lookup_allowance", "lookup_issuances"];

/// Prints both servers' tables beside each other, then checks them. Strangers wrote to Bob alone; replies went to Alice and Bob; nobody
/// wrote to Mallory.
pub(super) fn show(servers: &Servers, people: [&Person; 3], expect: &mut Expectations) -> Result<(), Failure> {
    let [alice, bob, mallory] = people;
    let read = |dir: &std::path::Path, file: &str| {
        tables::read(&dir.join(file)).map_err(|e| Failure::new("reading a server's database", e))
    };
    let issuer = read(&servers.issuer_dir, "issuer.db")?;
    let relay = read(&servers.relay_dir, "relay.db")?;
    println!("\nWhat each party knows: every table (values shortened, of long tables the beginning).\n");
    let title = |text: &str| vec![text.to_owned(), "=".repeat(text.len())];
    let left = [title("THE ISSUER"), tables::lines(&issuer, COLUMN)].concat();
    let right = [title("THE RELAY"), tables::lines(&relay, COLUMN)].concat();
    println!("{}", tables::side_by_side(&left, &right, COLUMN));
    println!(
        "Alice knows: Bob's card, and what he wrote. Bob knows: Alice's and Mallory's numbers, and not that he is blocked.\n"
    );

    check_relay(&issuer, &relay, &people, expect)?;
    check_mailboxes(&relay, alice, bob, mallory, expect)?;
    check_link(&issuer, &relay, [alice, bob], expect)
}

/// No row at the relay names a person.
fn check_relay(
    issuer: &[Table],
    relay: &[Table],
    people: &[&Person],
    expect: &mut Expectations,
) -> Result<(), Failure> {
    let rows = |name: &str| relay.iter().find(|table| table.name == name).map_or(0, |table| table.rows.len());
    expect.that(
        rows("ledger") > 0 && rows("reply_nullifiers") > 0,
        "the relay has rows about tokens and about replies to look at",
    );
    let mut named = Vec::new();
    for person in people {
        let mut needles = vec![person.phone.as_bytes().to_vec(), link(person)?.identity.0.to_vec()];
        needles.extend(account_of(issuer, person));
        named.extend(needles.iter().filter_map(|needle| tables::contains(relay, needle)));
    }
    expect.that(named.is_empty(), "no row of the relay holds a phone number, an identity key or an account");
    Ok(())
}

/// Rows about messages name the mailbox that they went to, and no other.
fn check_mailboxes(
    relay: &[Table],
    alice: &Person,
    bob: &Person,
    mallory: &Person,
    expect: &mut Expectations,
) -> Result<(), Failure> {
    let names = |table: &str, person: &Person| {
        let table = relay.iter().find(|found| found.name == table);
        let mailbox = link(person)?.mailbox;
        Ok(table.is_some_and(|table| tables::contains(std::slice::from_ref(table), &mailbox.0).is_some()))
    };
    expect.that(
        names("ledger", bob)? && !names("ledger", alice)? && !names("ledger", mallory)?,
        "rows about tokens name the mailbox that they were spent at, Bob's, and nobody who spent them",
    );
    expect.that(
        names("reply_nullifiers", alice)? && !names("reply_nullifiers", mallory)?,
        "rows about replies name the mailbox that they went to, and no contact of its owner",
    );
    Ok(())
}

/// Nothing that the relay keeps about messages leads to an account at the issuer, but for the recipients' mailbox ids.
fn check_link(
    issuer: &[Table],
    relay: &[Table],
    recipients: [&Person; 2],
    expect: &mut Expectations,
) -> Result<(), Failure> {
    let [a, b] = [link(recipients[0])?.mailbox, link(recipients[1])?.mailbox];
    let sends = tables::long_values(relay.iter().filter(|table| SENDS.contains(&table.name.as_str())));
    let accounts = tables::long_values(issuer.iter().filter(|table| ACCOUNTS.contains(&table.name.as_str())));
    let keys = tables::long_values(issuer.iter().filter(|table| table.name == "token_keys"));
    let linking = sends
        .intersection(&accounts)
        .filter(|value| **value != a.0 && **value != b.0 && !keys.contains(*value))
        .count();
    expect.that(linking == 0, "both databases together: no value links a message to the account that sent it");
    let exchanges = tables::long_values(issuer.iter().filter(|table| table.name == "relay_exchanges"));
    let linking = exchanges.intersection(&accounts).filter(|value| !keys.contains(*value)).count();
    expect.that(linking == 0, "nor an exchanged token to the account that holds it");
    let lookups = tables::long_values(issuer.iter().filter(|table| table.name == "lookup_spent"));
    let asked = issuer.iter().filter(|table| ASKED.contains(&table.name.as_str()));
    let linking = lookups.intersection(&tables::long_values(asked)).count();
    expect.that(!lookups.is_empty() && linking == 0, "nor a look-up to the account that asked");
    Ok(())
}

fn link(person: &Person) -> Result<CardLink, Failure> {
    person.card.parse().map_err(|e| Failure::new("reading a card link", e))
}

/// The account id that the issuer has for a number.
fn account_of(issuer: &[Table], person: &Person) -> Option<Vec<u8>> {
    let accounts = issuer.iter().find(|table| table.name == "accounts")?;
    let row = accounts.rows.iter().find(|row| row.iter().any(|cell| cell.bytes() == person.phone.as_bytes()))?;
    row.first().map(Cell::bytes).map(<[u8]>::to_vec)
}
