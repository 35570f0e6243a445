//! Opening and closing mailboxes, cards, and who is let in.

use postern_protocol::ids::{Base64, MailboxId};
use postern_protocol::login::{Claims, Purpose};
use postern_protocol::problem::ProblemKind;
use postern_protocol::release::RELEASE_PATH;
use postern_protocol::send::{
    MAILBOXES_PATH, MAX_SEALED_CARD, MESSAGES_PATH, MailboxOpened, OWN_CARD_PATH, RELAY_INFO_PATH, RelayInfo, card_path,
};
use postern_protocol::tokens::TokenChallenge;

use crate::issuer::{ISSUER, Issuer};
use crate::world::{Mailbox, RELAY, Reply, World, envelope, random, token};

#[tokio::test(flavor = "multi_thread")]
async fn the_relay_says_who_it_is_and_what_it_holds() {
    let world = World::start().await;
    let info: RelayInfo = Reply::to(world.http.get(world.at(RELAY_INFO_PATH))).await.json();
    assert_eq!((info.name.as_str(), info.issuer_name.as_str()), (RELAY, ISSUER));
    assert_eq!(info.issuer_public_key, Issuer::identity().public());
    assert_eq!(info.challenge, Base64(TokenChallenge::for_relay(ISSUER, RELAY).encode().unwrap()));
    assert_eq!(info.envelope_sizes, [4096, 16_384, 65_536]);
    assert_eq!((info.quota_messages, info.retention_seconds), (1000, 2_592_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_opens_a_mailbox_once_and_says_so_when_repeated() {
    let world = World::start().await;
    let id = MailboxId(random());
    let grant = world.claims(&id, Purpose::Grant);
    let first = world.open(&grant).await;
    assert_eq!((first.status.as_u16(), first.json::<MailboxOpened>().mailbox), (201, id));
    let again = world.open(&grant).await;
    assert_eq!((again.status.as_u16(), again.json::<MailboxOpened>().mailbox), (200, id));
    let with_body = world.http.post(world.at(MAILBOXES_PATH)).bearer_auth(World::jwt(&grant)).body("x");
    assert_eq!(Reply::to(with_body).await.refusal(), ProblemKind::BadRequest);
    assert_eq!(world.count("select count(*) from mailboxes"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jwt_is_good_only_for_its_issuer_audience_purpose_and_time() {
    let world = World::start().await;
    let bob = world.mailbox().await;
    let other = |change: fn(&mut Claims), purpose| {
        let mut claims = world.claims(&bob.id, purpose);
        change(&mut claims);
        claims
    };
    for purpose in [Purpose::Grant, Purpose::Mailbox] {
        let wrong = [
            other(|claims| claims.aud = "other.test".into(), purpose),
            other(|claims| claims.aud = ISSUER.into(), purpose),
            other(|claims| claims.iss = "other.test".into(), purpose),
            other(|claims| claims.purpose = Purpose::Issuance, purpose),
            other(|claims| claims.sub = "+41791234567".into(), purpose),
            other(|claims| claims.exp = claims.iat, purpose),
            other(|_| {}, if purpose == Purpose::Grant { Purpose::Mailbox } else { Purpose::Grant }),
        ];
        for claims in wrong {
            let reply = match purpose {
                Purpose::Grant => world.open(&claims).await,
                _ => world.read(&Mailbox { id: bob.id, jwt: World::jwt(&claims) }, "").await,
            };
            assert_eq!(reply.refusal(), ProblemKind::Unauthorized, "{claims:?}");
        }
    }
    let mut itself = world.claims(&bob.id, Purpose::Grant);
    itself.replaces = Some(bob.id);
    assert_eq!(world.open(&itself).await.refusal(), ProblemKind::Unauthorized);

    let forged = postern_credentials::jwt::sign(
        &postern_credentials::identity::IdentityKey::from_seed([9; 32]),
        &world.claims(&bob.id, Purpose::Mailbox),
    );
    let forged = Mailbox { id: bob.id, jwt: forged.unwrap() };
    assert_eq!(world.read(&forged, "").await.refusal(), ProblemKind::Unauthorized);
    let none = Reply::to(world.http.get(world.at(MESSAGES_PATH))).await;
    assert_eq!(none.refusal(), ProblemKind::Unauthorized);

    assert_eq!(world.read(&bob, "").await.status, 200);
    world.clock.advance_seconds(600);
    assert_eq!(world.read(&bob, "").await.refusal(), ProblemKind::Unauthorized, "it has expired");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mailbox_that_was_never_opened_is_unknown() {
    let world = World::start().await;
    let id = MailboxId(random());
    let nobody = Mailbox { id, jwt: World::jwt(&world.claims(&id, Purpose::Mailbox)) };
    assert_eq!(world.read(&nobody, "").await.refusal(), ProblemKind::MailboxUnknown);
    let list = postern_protocol::release::MessageList { messages: vec![] };
    let reply = Reply::to(world.post_json(RELEASE_PATH, &list).bearer_auth(&nobody.jwt)).await;
    assert_eq!(reply.refusal(), ProblemKind::MailboxUnknown);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_mailbox_closes_the_one_that_it_replaces_for_good() {
    let world = World::start().await;
    let old = world.mailbox().await;
    put_card(&world, &old, b"card").await;
    let (spent, _) = world.sent(&old.id).await;
    let bystander = world.mailbox().await;
    world.sent(&bystander.id).await;

    let new = MailboxId(random());
    let mut grant = world.claims(&new, Purpose::Grant);
    grant.replaces = Some(old.id);
    assert_eq!(world.open(&grant).await.status, 201);
    assert_eq!(world.count("select count(*) from mailboxes"), 2);
    assert_eq!(world.count("select count(*) from messages"), 1, "the bystander's");
    assert_eq!(world.count("select rung from bells"), 3, "other processes have readers of the old one, maybe");
    assert_eq!(world.count("select count(*) from cards"), 0);
    assert_eq!(world.send(&old.id, &token(0).token, &envelope()).await.refusal(), ProblemKind::MailboxUnknown);
    assert_eq!(world.read(&old, "").await.refusal(), ProblemKind::MailboxUnknown);

    // The old grant is still within its day: it opens nothing any more. The new one can be repeated.
    assert_eq!(world.open(&world.claims(&old.id, Purpose::Grant)).await.refusal(), ProblemKind::MailboxUnknown);
    assert_eq!(world.open(&grant).await.status, 200);
    // The token stays spent.
    assert_eq!(world.send(&new, &spent.token, &envelope()).await.refusal(), ProblemKind::TokenAttached);
    assert_eq!(world.ledger("attached"), 2);
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_closes_the_older_mailbox_even_before_it_was_opened() {
    let world = World::start().await;
    let (old, new) = (MailboxId(random()), MailboxId(random()));
    let mut grant = world.claims(&new, Purpose::Grant);
    grant.replaces = Some(old);
    assert_eq!(world.open(&grant).await.status, 201);
    assert_eq!(world.open(&world.claims(&old, Purpose::Grant)).await.refusal(), ProblemKind::MailboxUnknown);
}

async fn put_card(world: &World, by: &Mailbox, card: &[u8]) -> Reply {
    let request = world.http.put(world.at(OWN_CARD_PATH)).header("content-type", "application/octet-stream");
    Reply::to(request.bearer_auth(&by.jwt).body(card.to_vec())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_is_published_replaced_and_handed_to_anybody() {
    let world = World::start().await;
    let bob = world.mailbox().await;
    let fetch = |id: MailboxId| Reply::to(world.http.get(world.at(&card_path(&id))));
    assert_eq!(fetch(bob.id).await.refusal(), ProblemKind::CardUnknown);
    assert_eq!(fetch(MailboxId(random())).await.refusal(), ProblemKind::MailboxUnknown);
    for card in [b"first".as_slice(), &[7; MAX_SEALED_CARD]] {
        assert_eq!(put_card(&world, &bob, card).await.status, 204);
        let reply = fetch(bob.id).await;
        assert_eq!(reply.headers["content-type"], "application/octet-stream");
        assert!(reply.status == 200 && reply.body == card);
    }
    assert_eq!(put_card(&world, &bob, &[7; MAX_SEALED_CARD + 1]).await.refusal(), ProblemKind::TooLarge);
    assert_eq!(put_card(&world, &bob, b"").await.refusal(), ProblemKind::BadRequest);
    assert_eq!(world.count("select length(card) from cards"), 8192);
}
