//! `tests/vectors/prc1.json`, which `prc1_oracle.py` beside it wrote.

use serde_json::Value;

use super::*;

fn hex_of(vector: &Value, name: &str) -> Vec<u8> {
    hex::decode(vector[name].as_str().unwrap()).unwrap()
}

fn array<const N: usize>(vector: &Value, name: &str) -> [u8; N] {
    hex_of(vector, name).try_into().unwrap()
}

fn number(vector: &Value, name: &str) -> u32 {
    vector[name].as_u64().unwrap().try_into().unwrap()
}

#[test]
fn the_known_answers_of_an_independent_implementation_are_ours() {
    let v: Value = serde_json::from_str(include_str!("../../../tests/vectors/prc1.json")).unwrap();
    let of = KeyPeriod {
        mailbox: MailboxId(array(&v, "mailbox")),
        key_version: number(&v, "key_version"),
        period: number(&v, "period"),
    };
    let ctx = Context { relay: array(&v, "relay"), of, epoch: number(&v, "epoch") };
    let (group, member) = (GroupSecret(array(&v, "root")), MemberSecret(array(&v, "seed")));
    let key = group.verification_key(&of);
    assert_eq!(key.y0.to_bytes(), array(&v, "y0"));
    assert_eq!(key.y1.to_bytes(), array(&v, "y1"));
    let params = Params::new(number(&v, "k").try_into().unwrap()).unwrap();
    for slot in 0..params.k() {
        let m = hex::encode(member.scalar(&of, slot).to_bytes());
        let u = hex::encode(member.base(&of, slot).compress().to_bytes());
        assert_eq!(v["member_scalars"][usize::from(slot)], m);
        assert_eq!(v["member_bases"][usize::from(slot)], u);
    }
    assert_eq!(ctx.nullifier_base().compress().to_bytes(), array(&v, "nullifier_base"));
    let credential = group.issue(params, &of, &member);
    assert_eq!(*credential.encode(), hex_of(&v, "credential"));

    let envelope = envelope_digest(v["envelope"].as_str().unwrap().as_bytes());
    assert_eq!(envelope, array(&v, "envelope_sha512"));
    let slot = number(&v, "slot").try_into().unwrap();
    let shown = credential.present(&mut Stuck(array(&v, "rng")), &ctx, slot, &envelope).unwrap();
    assert_eq!(shown.encode(), array(&v, "presentation"));
    assert_eq!(shown.nullifier().0, array(&v, "nullifier"));
    let theirs = Presentation::decode(&array(&v, "presentation")).unwrap();
    assert_eq!(verify(&key, &ctx, &theirs, &envelope), Ok(()));

    let used: Vec<u16> = serde_json::from_value(v["used"].clone()).unwrap();
    let struck: Vec<_> = strike(params, &ctx, &member, &used).iter().map(|entry| hex::encode(entry.0)).collect();
    assert_eq!(serde_json::to_value(struck).unwrap(), v["strike"]);
    assert_eq!(member.next().0, array(&v, "next_seed"));
    assert_eq!(ctx.message_id(shown.nullifier()).0, array(&v, "message_id"));
    assert_eq!(relay_id(v["relay_name"].as_str().unwrap()), array(&v, "relay_id_of_name"));
}
