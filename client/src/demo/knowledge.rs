//! What each server knows at the end: all tables, and a search of them for anything that names a sender.

use postern_protocol::card::CardLink;

use super::people::Person;
use super::servers::Servers;
use super::tables::{self, Cell, Table};
use super::{Expectations, Failure};

/// Half of a wide terminal.
const COLUMN: usize = 74;
/// The tables of the relay that say what was sent.
const SENDS: [&str; 2] = ["ledger", "messages"];
/// The issuer's tables with rows that belong to an account.
const ACCOUNTS: [&str; 5] = ["accounts", "issuances", "registrations", "sessions", "login_nonces"];

/// Prints both servers' tables beside each other, then checks them. `recipient` is the only one who was written to.
pub(super) fn show(
    servers: &Servers,
    people: &[&Person],
    recipient: &Person,
    expect: &mut Expectations,
) -> Result<(), Failure> {
    let read = |dir: &std::path::Path, file: &str| {
        tables::read(&dir.join(file)).map_err(|e| Failure::new("reading a server's database", e))
    };
    let issuer = read(&servers.issuer_dir, "issuer.db")?;
    let relay = read(&servers.relay_dir, "relay.db")?;
    println!("\nWhat each party knows: every row of every table (values shortened).\n");
    let title = |text: &str| vec![text.to_owned(), "=".repeat(text.len())];
    let left = [title("THE ISSUER"), tables::lines(&issuer, COLUMN)].concat();
    let right = [title("THE RELAY"), tables::lines(&relay, COLUMN)].concat();
    println!("{}", tables::side_by_side(&left, &right, COLUMN));
    println!(
        "Alice knows: Bob's card, and that two of her messages were taken. Bob knows: Alice's and Mallory's numbers.\n"
    );

    check_relay(&issuer, &relay, people, recipient, expect)?;
    check_link(&issuer, &relay, recipient, expect)
}

/// No row at the relay names a person, and no row about a message names anybody but its recipient.
fn check_relay(
    issuer: &[Table],
    relay: &[Table],
    people: &[&Person],
    recipient: &Person,
    expect: &mut Expectations,
) -> Result<(), Failure> {
    let sends: Vec<&Table> = relay.iter().filter(|table| SENDS.contains(&table.name.as_str())).collect();
    expect.that(sends.iter().all(|table| !table.rows.is_empty()), "the relay has rows about messages to look at");
    let mut named = Vec::new();
    for person in people {
        let link = link(person)?;
        let mut needles = vec![person.phone.as_bytes().to_vec(), link.identity.0.to_vec()];
        needles.extend(account_of(issuer, person));
        named.extend(needles.iter().filter_map(|needle| tables::contains(relay, needle)));
        if person.phone != recipient.phone {
            let found =
                sends.iter().filter_map(|table| tables::contains(std::slice::from_ref(*table), &link.mailbox.0));
            named.extend(found);
        }
    }
    expect.that(named.is_empty(), "no row of the relay holds a phone number, an identity key or an account");
    let found_recipient = sends.iter().any(|t| {
        link(recipient).is_ok_and(|link| tables::contains(std::slice::from_ref(*t), &link.mailbox.0).is_some())
    });
    expect.that(found_recipient, "rows about messages name Bob's mailbox, as they must");
    Ok(())
}

/// Nothing that the relay keeps about messages leads to an account at the issuer, but for the recipient's mailbox id.
fn check_link(issuer: &[Table], relay: &[Table], recipient: &Person, expect: &mut Expectations) -> Result<(), Failure> {
    let mailbox = link(recipient)?.mailbox;
    let sends = tables::long_values(relay.iter().filter(|table| SENDS.contains(&table.name.as_str())));
    let accounts = tables::long_values(issuer.iter().filter(|table| ACCOUNTS.contains(&table.name.as_str())));
    let keys = tables::long_values(issuer.iter().filter(|table| table.name == "token_keys"));
    let linking = sends.intersection(&accounts).filter(|value| **value != mailbox.0 && !keys.contains(*value)).count();
    expect.that(linking == 0, "both databases together: no value links a message to the account that sent it");
    let exchanges = tables::long_values(issuer.iter().filter(|table| table.name == "relay_exchanges"));
    let linking = exchanges.intersection(&accounts).filter(|value| !keys.contains(*value)).count();
    expect.that(linking == 0, "nor an exchanged token to the account that holds it");
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
