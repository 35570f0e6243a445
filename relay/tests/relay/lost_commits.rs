//! The connection to PostgreSQL breaks just before and just after each commit of everything that a relay does: nobody notices, and
//! nothing happens twice. Before, the commit was never done; after, it was, and its answer is lost.

use postern_protocol::login::Purpose;
use postern_protocol::release::{ACK_PATH, DECLINE_PATH, RELEASE_PATH, SPAM_PATH};
use postern_protocol::send::OWN_CARD_PATH;
use postern_test_database::{Cut, Value};

use crate::contacts::{Contact, EPOCH, Owner, reply_key, revealed};
use crate::world::{Mailbox, Reply, World, blinded, envelope, exchange_request, random, rng};

/// A mailbox is opened, written to, and read; tokens are released, burnt and exchanged; replies are taken and struck.
async fn everything(world: &World) {
    let id = postern_protocol::ids::MailboxId(random());
    // Opened just now, or before in a commit that nobody heard of.
    let opened = world.open(&world.claims(&id, Purpose::Grant)).await;
    assert!(opened.status == 201 || opened.status == 200, "{}", opened.status);
    let mailbox = Mailbox { id, jwt: World::jwt(&world.claims(&id, Purpose::Mailbox)) };
    let card = world.http.put(world.at(OWN_CARD_PATH)).header("content-type", "application/octet-stream");
    assert_eq!(Reply::to(card.bearer_auth(&mailbox.jwt).body(vec![7; 100])).await.status, 204);

    let (spent, released) = world.sent(&id).await;
    let (_, declined) = world.sent(&id).await;
    let (_, spam) = world.sent(&id).await;
    for (path, message) in [(RELEASE_PATH, released), (DECLINE_PATH, declined), (SPAM_PATH, spam)] {
        assert_eq!(world.verdict(&mailbox, path, &[message]).await.done, [message]);
    }
    let (message, pending) = blinded(0);
    let exchanged = world.exchange(&exchange_request(&spent, 0, message)).await;
    assert_eq!(exchanged.status, 200, "{}", String::from_utf8_lossy(&exchanged.body));
    let signature = exchanged.json::<postern_protocol::exchange::ExchangeResponse>().blind_signature;
    pending.finish(crate::issuer::key(0).public(), &signature).unwrap();

    let owner = Owner {
        mailbox: mailbox.clone(),
        group: postern_credentials::reply_credential::GroupSecret::generate(&mut rng()),
    };
    owner.declare(world, &[reply_key(1, &owner.group)]).await.done();
    let (friend, struck, given_up, envelope) = (Contact::new(), Contact::new(), Contact::new(), envelope());
    owner.strike(world, &struck, EPOCH).await;
    owner.reveal(world, &revealed(&given_up, EPOCH)).await.done();
    for contact in [&friend, &struck, &given_up] {
        assert_eq!(owner.send(world, &owner.shown(contact, EPOCH, 0, &envelope), &envelope).await.status, 201);
    }
    owner.lift(world, &struck, EPOCH).await;
    let waiting = owner.inbox(world).await;
    assert_eq!(waiting.len(), 4, "three cold sends and a friend's reply, each once");
    assert_eq!(world.verdict(&mailbox, ACK_PATH, &waiting).await.done.len(), 4);
    assert!(owner.inbox(world).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mailbox_from_its_grant_to_its_last_reply() {
    let (world, proxy) = World::start_behind_proxy().await;
    let mut flows = 0;
    for cut in Cut::ALL {
        let before = proxy.cuts();
        for commit in 0.. {
            proxy.cut_after(commit, cut);
            everything(&world).await;
            flows += 1;
            if proxy.cuts() - before == commit {
                break;
            }
        }
        proxy.leave();
        assert!(proxy.cuts() - before >= 18, "only {} commits were cut", proxy.cuts() - before);
    }
    for (state, each) in [("attached", 0), ("released", 1), ("burnt", 1), ("exchanging", 0), ("exchanged", 1)] {
        assert_eq!(world.ledger(state), each * flows, "{state}");
    }
    assert_eq!(world.count("select count(*) from messages"), 0);
    assert_eq!(world.count("select count(*) from mailboxes where arrivals = 4 and queued_messages = 0"), flows);
    assert_eq!(world.count("select count(*) from reply_nullifiers"), 3 * flows);
    assert_eq!(world.issuer.state().signed.len(), usize::try_from(flows).unwrap(), "the issuer signed once for each");
    world.assert_consistent();
}

/// Rounds of retention with something to do in each step.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_forgotten_with_time() {
    let (world, proxy) = World::start_behind_proxy().await;
    // The round that is done as it starts.
    world.app.sweep().await.unwrap();
    let mut flows = 0;
    for cut in Cut::ALL {
        let before = proxy.cuts();
        for commit in 0.. {
            leave_something(&world).await;
            proxy.cut_after(commit, cut);
            world.app.sweep().await.unwrap();
            flows += 1;
            if proxy.cuts() - before == commit {
                break;
            }
        }
        proxy.leave();
        assert!(proxy.cuts() - before >= 10, "only {} commits were cut", proxy.cuts() - before);
    }
    for table in ["messages", "prekey_claims", "reply_nullifiers", "reply_strikes"] {
        assert_eq!(world.count(&format!("select count(*) from {table}")), 0, "{table}");
    }
    assert_eq!(world.count("select count(*) from ledger where token_digest = envelope_digest"), 0);
    assert_eq!(world.count("select count(*) from retired_keys where burnt = 3"), flows, "each row was counted once");
    assert_eq!(world.count("select count(*) from leases"), 1);
    world.assert_consistent();
}

/// Something for each step, long over when the next round comes.
async fn leave_something(world: &World) {
    let mailbox = world.mailbox().await;
    world.sent(&mailbox.id).await;
    let blob = |bytes: &[u8]| Value::Blob(bytes.to_vec());
    let (key, name) = (blob(&random::<32>()), blob(&mailbox.id.0));
    world.database.execute(
        "insert into prekey_claims (mailbox, claim, sealed, kept_until) values ($1, $1, $2, 0)",
        &[name.clone(), blob(&[0; 138])],
    );
    world.database.execute(
        "insert into reply_nullifiers (mailbox, epoch, nullifier, request_digest, message) values ($1, 1, $2, $1, $1)",
        &[name.clone(), blob(&[1; 8])],
    );
    world.database.execute(
        "insert into reply_strikes (mailbox, epoch, nullifier) values ($1, 1, $2)",
        &[name.clone(), blob(&[1; 8])],
    );
    world.database.execute(
        "insert into token_keys (key_id, spki, state, not_after) values ($1, $1, 'retiring', 0)",
        std::slice::from_ref(&key),
    );
    world.database.execute_each(
        "insert into ledger (nullifier, key_id, token_digest, state, mailbox, envelope_digest)
         values ($1, $2, $3, 'burnt', $3, $3)",
        &[(); 3].map(|()| vec![blob(&random::<32>()), key.clone(), name.clone()]),
    );
    world.clock.advance_seconds(world.config.limits.retention_seconds + 1);
}
