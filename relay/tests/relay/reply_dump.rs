//! What a thief of the database file gets: no group secret, no revealed seed, nothing that follows from them.

use curve25519_dalek::scalar::Scalar;
use postern_credentials::reply_credential::KeyPeriod;
use postern_protocol::ids::{MailboxId, encode_base64};
use postern_test_database::{Engine, TestDatabase, Value};
use sha2::{Digest, Sha512};

use crate::contacts::{Contact, EPOCH, Owner, policy, revealed};
use crate::world::{World, envelope};

/// Every column of every row of every table, as hexadecimal and as text.
fn dump(database: &TestDatabase) -> String {
    let show = |value: &Value| match value {
        Value::Blob(bytes) => format!(" {} {}", hex::encode(bytes), String::from_utf8_lossy(bytes)),
        Value::Text(text) => format!(" {} {text}", hex::encode(text)),
        Value::Integer(number) => format!(" {number}"),
        Value::Real(_) | Value::Null => " -".to_owned(),
    };
    database.tables().iter().flat_map(|table| table.rows.iter().flatten()).map(show).collect()
}

fn contains(hay: &[u8], needle: &[u8]) -> bool {
    hay.windows(needle.len()).any(|window| window == needle)
}

/// Where a secret is to be found: `(in the dump, in the files)`.
fn found(database: &TestDatabase, secret: &[u8]) -> (bool, bool) {
    let (dump, files) = (dump(database), database.stored());
    let spellings = [secret.to_vec(), hex::encode(secret).into_bytes(), encode_base64(secret).into_bytes()];
    let stored = encode_base64(&[&[1], secret].concat()).into_bytes();
    let spellings: Vec<_> = spellings.into_iter().chain([stored]).collect();
    (
        spellings.iter().any(|spelling| contains(dump.as_bytes(), spelling)),
        spellings.iter().any(|spelling| contains(&files, spelling)),
    )
}

/// `y0` and `y1` as the specification says, for nothing else hands them out.
fn verification_scalars(root: &[u8], of: &KeyPeriod) -> [[u8; 32]; 2] {
    ["key-y0", "key-y1"].map(|label| {
        let mut hash = Sha512::new();
        for name in ["PRC1-ristretto255-sha512", label] {
            hash.update(u16::try_from(name.len()).unwrap().to_be_bytes());
            hash.update(name);
        }
        let fields = [root, &of.mailbox.0, &of.key_version.to_be_bytes(), &of.period.to_be_bytes()];
        fields.iter().for_each(|field| hash.update(field));
        Scalar::from_bytes_mod_order_wide(&hash.finalize().into()).to_bytes()
    })
}

#[test]
fn the_scalars_that_are_looked_for_are_those_of_the_known_answers() {
    let vectors = include_str!("../../../credentials/tests/vectors/prc1.json");
    let v: serde_json::Value = serde_json::from_str(vectors).unwrap();
    let bytes = |name: &str| hex::decode(v[name].as_str().unwrap()).unwrap();
    let number = |name: &str| u32::try_from(v[name].as_u64().unwrap()).unwrap();
    let of = KeyPeriod {
        mailbox: MailboxId::from_slice(&bytes("mailbox")).unwrap(),
        key_version: number("key_version"),
        period: number("period"),
    };
    assert_eq!(verification_scalars(&bytes("root"), &of).map(Vec::from), [bytes("y0"), bytes("y1")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_of_the_database_holds_no_group_secret_and_no_seed() {
    let world = World::start().await;
    let (bob, alice, mallory) = (Owner::new(&world).await, Contact::new(), Contact::new());
    bob.reveal(&world, &revealed(&mallory, EPOCH)).await.done();
    let mut shown = None;
    for epoch in [EPOCH, EPOCH + 1] {
        for contact in [&alice, &mallory] {
            let envelope = envelope();
            let reply = bob.shown(contact, epoch, 0, &envelope);
            assert_eq!(bob.send(&world, &reply, &envelope).await.status, 201);
            shown.get_or_insert(reply.presentation);
        }
        world.clock.advance_seconds(3600);
    }
    let root = bob.group.to_stored()[1..].to_vec();
    let period = policy().period_of(EPOCH);
    let of = KeyPeriod { mailbox: bob.mailbox.id, key_version: 1, period };
    let [y0, y1] = verification_scalars(&root, &of);
    let seeds = [&alice.0, &mallory.0, &mallory.0.next()].map(|seed| seed.to_stored()[1..].to_vec());
    let secrets: Vec<Vec<u8>> = [root, y0.to_vec(), y1.to_vec()].into_iter().chain(seeds).collect();

    let database = &world.database;
    assert_eq!(found(database, &bob.mailbox.id.0), (true, true), "what is not secret is found");
    assert_eq!(found(database, &shown.unwrap()), (true, true));
    for (n, secret) in secrets.iter().enumerate() {
        assert_eq!(found(database, secret), (false, false), "secret {n}");
    }

    // The search finds each of them once it is there, in any spelling.
    database.script(match database.engine() {
        Engine::Sqlite => "create table planted (value)",
        Engine::Postgres => "create table planted (value BYTEA)",
    });
    for (n, secret) in secrets.iter().enumerate() {
        let stored = [&[1], secret.as_slice()].concat();
        let spelt = match n % 4 {
            0 => stored,
            1 => hex::encode(secret).into_bytes(),
            2 => encode_base64(secret).into_bytes(),
            _ => encode_base64(&stored).into_bytes(),
        };
        database.execute("insert into planted values ($1)", &[Value::Blob(spelt)]);
        assert_eq!(found(database, secret), (true, true), "secret {n}");
    }
}
