//! What replies leave behind: nothing that a thief of the relay's files could use, and nothing that leads to a sender, not even with
//! both servers' databases side by side.

use std::collections::BTreeSet;

use postern_credentials::reply_credential::peek_nullifier;
use postern_protocol::ids::encode_base64;
use postern_protocol::reply::{ReplyAuthorization, Strikes};
use postern_protocol::send::Accepted;
use postern_tests::replies::{Issued, LONG_EPOCHS};
use postern_tests::tables::{self, Table, Value, bytes, contains};
use postern_tests::{Actor, World, invariants, programs};

/// The relay's tables with rows about a reply, its right, or its refusal.
const ABOUT_REPLIES: [&str; 5] = ["messages", "reply_nullifiers", "reply_keys", "reply_strikes", "reply_reveals"];

fn start() -> World {
    World::start_with(programs!(), "", LONG_EPOCHS)
}

/// Writes with this slot, and is taken.
async fn write(contact: &mut Actor, issued: &Issued, slot: u16) -> ReplyAuthorization {
    let to = issued.context.of.mailbox;
    let envelope = contact.envelope(&to, &format!("slot {slot}"));
    let shown = contact.present(issued, slot, &envelope);
    let accepted: Accepted = contact.reply(&to, &shown, &envelope).await.json();
    assert_eq!(accepted.message, issued.message_id(&shown));
    shown
}

/// Where `secret` is to be found: `(in a dump of the tables, on disk as it lies there)`. The key file is not the thief's.
fn found(world: &World, secret: &[u8]) -> (bool, bool) {
    let dump = tables::dump(&world.relay_db.tables());
    let files = std::fs::read_dir(world.dir.path().join("relay")).unwrap().map(|entry| entry.unwrap().path());
    let mut raw = files.filter(|file| !file.ends_with("secret.key")).map(|file| std::fs::read(file).unwrap());
    let on_disk = contains(&world.relay_db.stored(), secret) || raw.any(|file| contains(&file, secret));
    (contains(dump.as_bytes(), secret), on_disk)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_of_the_relay_and_its_files_hold_no_group_secret_and_no_seed() {
    let mut world = start();
    let mut alice = Actor::ready(&world, "+41791238001").await;
    alice.open_group().await;
    let mut bob = Actor::new(&world, "+41791238002").await;
    let (friend, struck, given_up) = (alice.issue().await, alice.issue().await, alice.issue().await);
    let strikes = Strikes { strike: vec![struck.nullifiers(&[])], lift: vec![] };
    assert_eq!(alice.strike(&strikes).await.status, 204);
    assert_eq!(alice.reveal(&given_up.reveal()).await.status, 204);
    let shown = write(&mut bob, &friend, 0).await;
    for issued in [&struck, &given_up] {
        write(&mut bob, issued, 0).await;
    }
    // One secret in force, and one that was and is dropped.
    let (first, second) = (alice.group.clone().unwrap(), alice.draw_group(2));
    assert_eq!(alice.declare(&[&first, &second]).await.status, 204);
    assert_eq!(alice.declare(&[&second]).await.status, 204);
    invariants::assert_hold(&world);
    world.relay.kill();

    let groups = [&first, &second].map(|group| group.secret.to_stored()[1..].to_vec());
    let seeds = [&friend.seed, &struck.seed, &given_up.seed, &given_up.seed.next()];
    let seeds = seeds.map(|seed| seed.to_stored()[1..].to_vec());
    let secrets: Vec<Vec<u8>> = groups.into_iter().chain(seeds).collect();
    for public in [&alice.mailbox().0[..], &shown.presentation] {
        assert_eq!(found(&world, public), (true, true), "what is no secret is found");
    }
    assert_eq!(world.relay_db.int("select count(*) from reply_reveals"), 1, "a seed is there, sealed");
    for (n, secret) in secrets.iter().enumerate() {
        assert_eq!(found(&world, secret), (false, false), "secret {n}");
        // Nor half of it.
        assert_eq!(found(&world, &secret[..16]), (false, false), "secret {n}");
    }

    // The same search finds each of them once it is there, in any spelling, and in a log.
    world.relay_db.script("create table planted (value TEXT)");
    for (n, secret) in secrets.iter().enumerate() {
        let stored = [&[1], secret.as_slice()].concat();
        let planted = match n % 4 {
            0 => hex::encode(stored),
            1 => hex::encode_upper(secret),
            2 => encode_base64(secret),
            _ => encode_base64(&stored),
        };
        world.relay_db.execute("insert into planted values ($1)", &[Value::Text(planted)]);
        assert_eq!(found(&world, secret), (true, true), "secret {n}");
    }
    let in_log = [9; 32];
    assert_eq!(found(&world, &in_log), (false, false));
    std::fs::write(world.dir.path().join("relay/log"), hex::encode(in_log)).unwrap();
    assert_eq!(found(&world, &in_log), (false, true));
}

/// Values of one of the two sides that stand somewhere in the other, in any spelling. Shorter ones name nobody.
fn links(a: &[Table], b: &[Table]) -> BTreeSet<Vec<u8>> {
    let cells = |side: &'_ [Table]| -> BTreeSet<Vec<u8>> {
        let rows = side.iter().flat_map(|table| &table.rows);
        rows.flatten().map(|value| bytes(value).to_vec()).filter(|value| value.len() >= 8).collect()
    };
    let (a, b) = (cells(a), cells(b));
    let stands_in = |needles: &BTreeSet<Vec<u8>>, hay: &BTreeSet<Vec<u8>>| -> BTreeSet<Vec<u8>> {
        needles.iter().filter(|needle| hay.iter().any(|cell| contains(cell, needle))).cloned().collect()
    };
    stands_in(&a, &b).union(&stands_in(&b, &a)).cloned().collect()
}

/// All that is kept of an account but what junk may write, counters of attempts and nonces, and who keeps house.
fn issuer_tables(world: &World) -> Vec<Table> {
    let mut tables = world.issuer_db.tables();
    tables.retain(|table| !["attempts", "login_nonces", "leases"].contains(&table.name.as_str()));
    tables
}

fn about_replies(relay: &[Table]) -> Vec<Table> {
    let about = relay.iter().filter(|table| ABOUT_REPLIES.contains(&table.name.as_str()));
    let about: Vec<Table> = about.cloned().collect();
    assert_eq!(about.len(), ABOUT_REPLIES.len());
    assert!(about.iter().all(|table| !table.rows.is_empty()), "each of them has rows to look at");
    about
}

fn holds(tables: &[Table], needle: &[u8]) -> bool {
    tables.iter().flat_map(|table| &table.rows).flatten().any(|value| contains(bytes(value), needle))
}

/// What names a person at the issuer: number, identity key, account and session.
fn names(issuer: &[Table], person: &Actor) -> Vec<Vec<u8>> {
    let accounts = issuer.iter().find(|table| table.name == "accounts").unwrap();
    let phone = person.phone.as_str().as_bytes();
    let account = accounts.rows.iter().find(|row| row.iter().any(|value| bytes(value) == phone)).unwrap();
    let session = person.session.as_ref().unwrap();
    vec![phone.to_vec(), person.identity.public().0.to_vec(), bytes(&account[0]).to_vec(), session.0.0.to_vec()]
}

#[tokio::test(flavor = "multi_thread")]
async fn both_databases_together_do_not_link_a_reply_to_the_account_that_sent_it() {
    let mut world = start();
    let mut alice = Actor::ready(&world, "+41791238003").await;
    alice.open_group().await;
    let mut bob = Actor::ready(&world, "+41791238004").await;
    let mut carol = Actor::ready(&world, "+41791238005").await;
    let [to_bob, to_carol, to_mallory, given_up] =
        [alice.issue().await, alice.issue().await, alice.issue().await, alice.issue().await];
    let strikes = Strikes { strike: vec![to_mallory.nullifiers(&[])], lift: vec![] };
    assert_eq!(alice.strike(&strikes).await.status, 204);
    assert_eq!(alice.reveal(&given_up.reveal()).await.status, 204);

    let before = issuer_tables(&world);
    let mut shown = Vec::new();
    for slot in 0..2 {
        shown.push(write(&mut bob, &to_bob, slot).await);
        shown.push(write(&mut carol, &to_carol, slot).await);
    }
    let after = issuer_tables(&world);
    assert!(after == before, "the issuer has no part in a reply");

    let relay = world.relay_db.tables();
    let about = about_replies(&relay);
    let mailbox = BTreeSet::from([alice.mailbox().0.to_vec()]);
    assert_eq!(links(&after, &about), mailbox, "the recipient's mailbox, and nothing else");
    for sender in [&bob, &carol] {
        let names = names(&after, sender);
        assert!(names.iter().all(|name| holds(&after, name)), "these are what the issuer knows somebody by");
        let found: Vec<_> = names.into_iter().filter(|name| holds(&relay, name)).collect();
        assert!(found.is_empty(), "the relay knows who somebody is: {found:?}");
        assert!(!holds(&about, &sender.mailbox().0), "a reply is kept with its sender's mailbox");
        assert!(
            holds(&relay, &sender.mailbox().0) && holds(&after, &sender.mailbox().0),
            "which can be found elsewhere"
        );
    }
    // Nor do the logs say more than the tables.
    for log in [world.issuer.read_log(), world.relay.read_log()] {
        assert!(!log.is_empty());
        let nullifiers = shown.iter().map(|shown| peek_nullifier(&shown.presentation).0.to_vec());
        let presentations = shown.iter().map(|shown| shown.presentation.to_vec());
        let people =
            [&alice, &bob, &carol].map(|person| [names(&after, person), vec![person.mailbox().0.to_vec()]].concat());
        let needles = nullifiers.chain(presentations).chain(people.concat());
        assert_eq!(needles.filter(|needle| contains(log.as_bytes(), needle)).count(), 0);
    }

    // The same search finds a sender's account in whichever of these tables it is planted, in any spelling.
    let account = names(&after, &bob).swap_remove(2);
    for (n, name) in ABOUT_REPLIES.iter().enumerate() {
        let spellings =
            [Value::Blob(account.clone()), Value::Text(hex::encode(&account)), Value::Text(encode_base64(&account))];
        let mut planted = about.clone();
        planted[n].rows[0].push(spellings[n % 3].clone());
        assert!(holds(&planted, &account), "{name}");
        assert!(links(&after, &planted).contains(&account), "{name}");
    }
    invariants::assert_hold(&world);
    world.assert_healthy();
}

/// The 8-byte pieces of what the relay keeps by name of one reply.
fn pieces(about: &[Table], issued: &Issued, shown: &ReplyAuthorization) -> BTreeSet<Vec<u8>> {
    let name = issued.message_id(shown).0;
    let rows = about.iter().flat_map(|table| &table.rows);
    let of_reply = rows.filter(|row| row.iter().any(|value| bytes(value) == name));
    let pieces: BTreeSet<Vec<u8>> =
        of_reply.flatten().flat_map(|value| bytes(value).chunks_exact(8)).map(<[u8]>::to_vec).collect();
    assert!(pieces.len() > 160 / 8, "the presentation is among them");
    pieces
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replies_of_one_contact_have_no_more_in_common_than_two_of_different_ones() {
    let world = start();
    let mut alice = Actor::ready(&world, "+41791238006").await;
    alice.open_group().await;
    let mut bob = Actor::new(&world, "+41791238007").await;
    let (to_bob, to_carol) = (alice.issue().await, alice.issue().await);
    let (first, second) = (write(&mut bob, &to_bob, 0).await, write(&mut bob, &to_bob, 1).await);
    let other = write(&mut bob, &to_carol, 0).await;

    let about = world.relay_db.tables();
    let [first_pieces, second_pieces, others] =
        [pieces(&about, &to_bob, &first), pieces(&about, &to_bob, &second), pieces(&about, &to_carol, &other)];
    let mailbox: BTreeSet<Vec<u8>> = alice.mailbox().0.chunks_exact(8).map(<[u8]>::to_vec).collect();
    assert_eq!(&first_pieces & &second_pieces, mailbox);
    assert_eq!(&first_pieces & &others, mailbox);

    // What would link them is seen: one slot twice, which a contact never does and the relay refuses.
    let envelope = bob.envelope(&alice.mailbox(), "slot 0 again");
    let again = bob.present(&to_bob, 0, &envelope).presentation;
    let again: BTreeSet<Vec<u8>> = again.chunks_exact(8).map(<[u8]>::to_vec).collect();
    assert_eq!((&first_pieces & &again).len(), 4, "T");
}
