//! Tokens and lost answers.

use postern_credentials::oprf;
use postern_protocol::lookup::LookupPolicy;
use postern_protocol::time::Timestamp;

use super::*;
use crate::testing::{Fault, NOW, Told};

const DAY: u64 = 86_400;

fn policy(town: &Town, quota_first: u32, quota_window: u32) {
    town.lookups(|lookups| lookups.policy = LookupPolicy { quota_first, quota_window, ..LookupPolicy::default() });
}

fn numbers(range: std::ops::Range<u32>) -> Vec<PhoneNumber> {
    range.map(|n| number(&format!("+4178{n:07}"))).collect()
}

async fn look_up(person: &mut Person, range: std::ops::Range<u32>) -> Result<usize> {
    Ok(person.find(&numbers(range), &mut |_| {}).await?.len())
}

#[tokio::test]
async fn a_quota_that_is_used_up_says_when_there_is_more_and_what_was_done_is_kept() {
    let (town, mut alice, _bob) = listed().await;
    policy(&town, 20, 10);
    let next = (NOW / DAY + 1) * DAY;
    let until = match look_up(&mut alice, 0..25).await {
        Err(error @ Error::LookupBudget { left: 5, .. }) => error.again_at(),
        other => panic!("{other:?}"),
    };
    assert_eq!(until, Some(next));
    assert_eq!(alice.found_before(&numbers(0..25)).unwrap().len(), 20, "no token went into a dummy");
    assert_eq!(alice.lookup_budget().await.unwrap(), LookupBudget { stored: 0, askable: 0, until: next });
    let evaluated = sizes(&town).len();
    assert!(matches!(look_up(&mut alice, 0..25).await, Err(Error::LookupBudget { left: 5, .. })));
    assert_eq!(sizes(&town).len(), evaluated);
    town.clock.set(Timestamp::from_seconds(next));
    assert_eq!(alice.lookup_budget().await.unwrap().askable, 10);
    assert_eq!(look_up(&mut alice, 0..25).await.unwrap(), 25);
    assert_eq!(town.lookups(|lookups| lookups.issued(ALICE)), 10);
}

#[tokio::test]
async fn the_stock_is_used_first_and_tokens_of_past_windows_are_erased() {
    let (town, mut alice, _bob) = listed().await;
    look_up(&mut alice, 0..8).await.unwrap();
    assert_eq!(town.lookups(|lookups| lookups.issued(ALICE)), 50, "a stock beyond what was needed");
    look_up(&mut alice, 8..16).await.unwrap();
    assert_eq!(town.server.asked(TOKEN_REQUEST_PATH).len(), 1);
    assert_eq!(alice.lookup_budget().await.unwrap().stored, 34);
    town.clock.advance_seconds(2 * DAY);
    assert_eq!(alice.lookup_budget().await.unwrap().stored, 0);
    assert_eq!(look_up(&mut alice, 16..24).await.unwrap(), 8);
}

#[tokio::test]
async fn dummies_alone_are_no_reason_to_ask_for_tokens() {
    let (town, mut alice, _bob) = listed().await;
    look_up(&mut alice, 0..32).await.unwrap();
    look_up(&mut alice, 32..40).await.unwrap();
    assert_eq!(look_up(&mut alice, 40..49).await.unwrap(), 9);
    assert_eq!(sizes(&town), [32, 8, 8, 1], "ten tokens are no sixteen, and an odd size would say so");
    assert_eq!(town.server.asked(TOKEN_REQUEST_PATH).len(), 1);
}

#[tokio::test]
async fn how_many_tokens_are_asked_for_does_not_say_how_many_were_used() {
    let asked = async |used: u32| {
        let (town, mut alice, _bob) = listed().await;
        look_up(&mut alice, 0..used).await.unwrap();
        look_up(&mut alice, 100..149).await.unwrap();
        let requests = town.server.asked(TOKEN_REQUEST_PATH);
        requests.iter().map(|asked| asked.body.len()).collect::<Vec<_>>()
    };
    let once = asked(2).await;
    assert_eq!((once.len(), once[0]), (2, once[1]));
    assert_eq!(asked(9).await, once);
}

#[tokio::test]
async fn a_lost_answer_to_a_token_request_is_fetched_by_the_identical_bytes_and_counted_once() {
    let (town, mut alice, _bob) = listed().await;
    town.server.fail_next(TOKEN_REQUEST_PATH, Fault::After);
    assert!(matches!(look_up(&mut alice, 0..3).await, Err(Error::Network { .. })));
    let mut alice = town.reopen("alice", alice);
    look_up(&mut alice, 0..3).await.unwrap();
    let asked = town.server.asked(TOKEN_REQUEST_PATH);
    assert_eq!((asked.len(), &asked[0].body), (2, &asked[1].body));
    assert_eq!(town.lookups(|lookups| lookups.issued(ALICE)), 50);
}

#[tokio::test]
async fn a_lost_answer_to_a_look_up_is_fetched_by_the_identical_bytes_and_spends_nothing_more() {
    let (town, mut alice, _bob) = listed().await;
    find(&mut alice, &[NOBODY]).await.unwrap();
    for fault in [Fault::Before, Fault::After] {
        let before = evaluations(&town).len();
        town.server.fail_next(LOOKUP_PATH, fault);
        let n = if fault == Fault::Before { 0 } else { 8 };
        assert!(matches!(look_up(&mut alice, n..n + 8).await, Err(Error::Network { .. })));
        alice = town.reopen("alice", alice);
        // What is known needs nobody; whatever else is looked up next, what was paid for comes first.
        assert_eq!(find(&mut alice, &[NOBODY]).await.unwrap().len(), 1);
        assert_eq!(evaluations(&town).len(), before + 1);
        assert_eq!(look_up(&mut alice, n..n + 8).await.unwrap(), 8);
        let asked = evaluations(&town);
        assert_eq!(asked.len(), before + 2);
        assert_eq!(asked[before], asked[before + 1]);
    }
    assert_eq!(town.lookups(|lookups| lookups.spent()), 17);
}

#[tokio::test]
async fn sync_asks_for_no_tokens_before_the_first_look_up_and_then_at_a_random_time() {
    let (town, mut alice, _bob) = listed().await;
    alice.sync().await.unwrap();
    town.clock.advance_seconds(2 * DAY);
    assert_eq!(alice.sync().await.unwrap().lookup_tokens, 0);
    assert!(town.server.asked(TOKEN_REQUEST_PATH).is_empty(), "the first window's quota is not touched");
    look_up(&mut alice, 0..40).await.unwrap();
    assert_eq!(alice.sync().await.unwrap().lookup_tokens, 0, "not at once");
    let due = alice.next_due().unwrap().unwrap().seconds();
    assert!((NOW + 2 * DAY + 1..=NOW + 2 * DAY + 12 * 3600).contains(&due));
    town.clock.advance_seconds(DAY);
    assert_eq!(alice.sync().await.unwrap().lookup_tokens, 50);
    assert_eq!(alice.sync().await.unwrap().lookup_tokens, 0);
    assert_eq!(town.server.asked(TOKEN_REQUEST_PATH).len(), 2);
    assert!(alice.next_due().unwrap().unwrap() > alice.now(), "each round has its own time");
}

#[tokio::test]
async fn a_window_that_ends_in_the_middle_costs_what_was_left_of_it_and_nothing_else() {
    let (town, mut alice, _bob) = listed().await;
    let clock = std::sync::Arc::clone(&town.clock);
    let mut moved = false;
    let mut report = |progress: Progress| {
        if progress.step == Step::Numbers && progress.done > 0 && !moved {
            clock.advance_seconds(DAY + 3600);
            moved = true;
        }
    };
    policy(&town, 2000, 2000);
    let found = alice.find(&numbers(0..200), &mut report).await.unwrap();
    assert_eq!((found.len(), sizes(&town)), (200, vec![128, 128]));
    assert_eq!(town.server.asked(TOKEN_REQUEST_PATH).len(), 2);
}

#[tokio::test]
async fn a_server_whose_window_is_over_already_is_asked_with_new_tokens() {
    let (town, mut alice, _bob) = listed().await;
    let mut refusals = 1;
    let refuse = move |asked: &Asked, told: Told| match asked.path.as_str() {
        LOOKUP_PATH if asked.method == "POST" && refusals > 0 => {
            refusals -= 1;
            Told::problem(postern_protocol::problem::ProblemKind::LookupWindow)
        }
        _ => told,
    };
    town.lookups(|lookups| lookups.tamper = Some(Box::new(refuse)));
    assert_eq!(look_up(&mut alice, 0..3).await.unwrap(), 3);
    let asked = evaluations(&town);
    assert_eq!(asked.len(), 2);
    let tokens: BTreeSet<_> =
        asked.iter().flat_map(|asked| asked.json::<LookupRequest>().tokens).map(|t| t.0).collect();
    assert_eq!(tokens.len(), 8, "none twice");
}

#[tokio::test]
async fn tokens_that_are_not_of_the_key_that_everybody_is_shown_are_not_taken() {
    let (town, mut alice, _bob) = listed().await;
    let key = oprf::SecretKey::derive(&[9; 32], b"for alice alone").unwrap();
    let forge = move |asked: &Asked, told: Told| {
        if asked.path != TOKEN_REQUEST_PATH {
            return told;
        }
        let request = postern_protocol::lookup::LookupTokenRequest::decode(&asked.body).unwrap();
        let oprf::Evaluation { evaluated, proof } = key.evaluate(&request.blinded).unwrap();
        Told::bytes(200, postern_protocol::lookup::LookupTokenResponse { evaluated, proof }.encode().unwrap())
    };
    town.lookups(|lookups| lookups.tamper = Some(Box::new(forge)));
    assert!(matches!(look_up(&mut alice, 0..3).await, Err(Error::Misbehaved(_))));
    assert!(evaluations(&town).is_empty());
    town.lookups(|lookups| lookups.tamper = None);
    assert_eq!(look_up(&mut alice, 0..3).await.unwrap(), 3);
    assert_eq!(town.lookups(|lookups| lookups.issued(ALICE)), 50);
}

#[tokio::test]
async fn a_token_request_of_an_earlier_run_that_is_refused_gives_way_to_a_new_one() {
    let (town, mut alice, _bob) = listed().await;
    town.server.fail_next(TOKEN_REQUEST_PATH, Fault::Before);
    assert!(look_up(&mut alice, 0..3).await.is_err());
    let mut refusals = 1;
    let refuse = move |asked: &Asked, told: Told| match asked.path.as_str() {
        TOKEN_REQUEST_PATH if refusals > 0 => {
            refusals -= 1;
            Told::problem(postern_protocol::problem::ProblemKind::LookupWindow)
        }
        _ => told,
    };
    town.lookups(|lookups| lookups.tamper = Some(Box::new(refuse)));
    assert_eq!(look_up(&mut alice, 0..3).await.unwrap(), 3);
    let asked = town.server.asked(TOKEN_REQUEST_PATH);
    assert_eq!(asked.len(), 3);
    assert!(asked[0].body == asked[1].body && asked[1].body != asked[2].body);
}
