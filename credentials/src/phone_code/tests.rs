use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
const CLIENT: SigningPublicKey = SigningPublicKey([4; 32]);

fn keys() -> PhoneCodeKeys {
    PhoneCodeKeys::derive(&RootSecret::from_bytes([1; 32]))
}

fn phone(text: &str) -> PhoneNumber {
    text.parse().unwrap()
}

fn issue(number: &str) -> (Vec<u8>, Code) {
    keys().issue(&mut crate::testing::rng(), &phone(number), &CLIENT, NOW.plus_seconds(600))
}

#[test]
fn a_cookie_gives_back_its_key_and_its_code_is_right() {
    let (cookie, code) = issue("+41791234567");
    let contents = keys().open(&cookie, &phone("+41791234567"), NOW).unwrap();
    assert_eq!(contents, CookieContents { client_key: CLIENT, expires: NOW.plus_seconds(600) });
    assert!(keys().check(&cookie, code.as_str()));
    assert_eq!(code.as_str().len(), 6);
}

#[test]
fn every_flipped_byte_and_every_truncation_of_a_cookie_is_refused() {
    let (cookie, _) = issue("+41791234567");
    let open = |cookie: &[u8]| keys().open(cookie, &phone("+41791234567"), NOW);
    for n in 0..cookie.len() {
        for bit in 0..8 {
            let mut bad = cookie.clone();
            bad[n] ^= 1 << bit;
            assert_eq!(open(&bad), Err(CookieError::Invalid), "byte {n} bit {bit}");
        }
        assert_eq!(open(&cookie[..n]), Err(CookieError::Invalid), "cut to {n}");
    }
    assert_eq!(open(&[cookie.as_slice(), &[0]].concat()), Err(CookieError::Invalid));
    assert_eq!(open(&[0; MAX_COOKIE + 1]), Err(CookieError::Invalid));
}

#[test]
fn the_longest_number_has_a_cookie_within_the_bound() {
    let (cookie, _) = issue("+123456789012345");
    assert!(cookie.len() <= MAX_COOKIE);
    assert!(keys().open(&cookie, &phone("+123456789012345"), NOW).is_ok());
}

#[test]
fn a_cookie_for_another_number_or_of_another_issuer_is_refused() {
    let (cookie, _) = issue("+41791234567");
    for other in ["+41791234568", "+4179123456", "+417912345678"] {
        assert_eq!(keys().open(&cookie, &phone(other), NOW), Err(CookieError::Invalid), "{other}");
    }
    let elsewhere = PhoneCodeKeys::derive(&RootSecret::from_bytes([2; 32]));
    assert_eq!(elsewhere.open(&cookie, &phone("+41791234567"), NOW), Err(CookieError::Invalid));
}

#[test]
fn a_cookie_ends_at_the_millisecond_it_says() {
    let (cookie, _) = issue("+41791234567");
    let at = |now| keys().open(&cookie, &phone("+41791234567"), now);
    let end = NOW.plus_seconds(600);
    assert!(at(Timestamp(end.0 - 1)).is_ok());
    assert_eq!(at(end), Err(CookieError::Expired));
}

#[test]
fn the_code_of_one_cookie_does_not_open_another_of_the_same_number() {
    // If the code were a function of the number, anybody could ask for his own text and know everybody's code.
    let mut rng = crate::testing::rng();
    let mut codes = std::collections::HashSet::new();
    let mut issue = || keys().issue(&mut rng, &phone("+41791234567"), &CLIENT, NOW.plus_seconds(600));
    let (first, first_code) = issue();
    for _ in 0..50 {
        let (cookie, code) = issue();
        assert!(!keys().check(&cookie, first_code.as_str()));
        assert!(!keys().check(&first, code.as_str()));
        assert_ne!(attempt_key(&cookie), attempt_key(&first));
        codes.insert(code.as_str().to_owned());
    }
    assert!(codes.len() >= 49, "50 cookies of one number have (nearly) 50 codes");
}

#[test]
fn the_code_depends_on_the_issuers_key() {
    let (cookie, code) = issue("+41791234567");
    assert!(!PhoneCodeKeys::derive(&RootSecret::from_bytes([2; 32])).check(&cookie, code.as_str()));
}

#[test]
fn only_the_exact_digits_are_the_code() {
    let (cookie, code) = issue("+41791234567");
    let digits = code.as_str();
    for wrong in ["", "0", &digits[1..], &format!("{digits} "), &format!("0{digits}"), &digits.repeat(2)] {
        assert!(!keys().check(&cookie, wrong), "{wrong:?}");
    }
    for n in 0..6 {
        let mut wrong = digits.as_bytes().to_vec();
        wrong[n] = if wrong[n] == b'9' { b'0' } else { wrong[n] + 1 };
        assert!(!keys().check(&cookie, std::str::from_utf8(&wrong).unwrap()), "{n}");
    }
}

#[test]
fn every_digit_is_as_likely_as_another_in_every_place() {
    let keys = keys();
    let mut counts = [[0u32; 10]; 6];
    for n in 0..20_000u32 {
        for (place, digit) in keys.code(&n.to_be_bytes()).as_str().bytes().enumerate() {
            counts[place][usize::from(digit - b'0')] += 1;
        }
    }
    // 2,000 expected, standard deviation 42: six of those either way.
    assert!(counts.iter().flatten().all(|c| (1745..=2255).contains(c)), "{counts:?}");
}

proptest! {
    #[test]
    fn no_bytes_make_the_opening_panic(bytes in proptest::collection::vec(any::<u8>(), 0..160)) {
        prop_assert_eq!(keys().open(&bytes, &phone("+41791234567"), NOW), Err(CookieError::Invalid));
    }
}

#[test]
fn debug_shows_nothing() {
    let (_, code) = issue("+41791234567");
    assert_eq!(
        format!("{code:?} {:?}", keys()),
        "Code(secret) PhoneCodeKeys { seal: SealKey(secret), code: CodeKey(secret) }"
    );
}
