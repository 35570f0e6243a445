//! Accounts of nobody, for load tests: which numbers they have, and the one code that an issuer with the gateway `synthetic` takes.
//!
//! The numbers are those that the French regulator reserves for films and novels (ARCEP, décision n° 2018-0881, "numéros pour les œuvres
//! audiovisuelles"): no subscriber ever has one, and numbering plans call them valid fixed lines. The mobile block of the same list,
//! 06 39 98, is not used: libphonenumber does not know it.

use crate::ids::PhoneNumber;

/// The blocks, each of 10,000 numbers: these digits and four more.
const BLOCKS: [&str; 5] = ["+3319900", "+3326191", "+3335301", "+3346571", "+3353649"];
const BLOCK: u32 = 10_000;

/// How many there are.
pub const NUMBERS: u32 = 50_000;

/// The code that stands for a text to such a number.
pub const CODE: &str = "000000";

/// The `index`th of them; `None` from [`NUMBERS`] on.
pub fn number(index: u32) -> Option<PhoneNumber> {
    let block = BLOCKS.get(usize::try_from(index / BLOCK).ok()?)?;
    format!("{block}{:04}", index % BLOCK).parse().ok()
}

/// Whether nobody can have this number.
pub fn is_synthetic(phone: &PhoneNumber) -> bool {
    BLOCKS.iter().filter_map(|block| phone.as_str().strip_prefix(block)).any(|rest| rest.len() == 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_told_from_those_around_its_block() {
        let all: std::collections::BTreeSet<String> =
            (0..NUMBERS).map(|i| number(i).unwrap().as_str().to_owned()).collect();
        assert_eq!(all.len(), NUMBERS as usize);
        assert!((0..NUMBERS).all(|i| is_synthetic(&number(i).unwrap())));
        assert!(number(NUMBERS).is_none() && number(u32::MAX).is_none());
        for block in BLOCKS {
            let first: u64 = format!("{}0000", &block[1..]).parse().unwrap();
            for outside in [first - 1, first + 10_000] {
                assert!(!is_synthetic(&format!("+{outside}").parse().unwrap()), "{outside}");
            }
        }
    }

    #[test]
    fn a_longer_or_shorter_number_with_the_same_beginning_is_not_one() {
        for other in ["+33199000", "+331990000000", "+33199000000000", "+199000000", "+33099000000", "+3319900000"] {
            assert!(!is_synthetic(&other.parse().unwrap()), "{other}");
        }
    }
}
