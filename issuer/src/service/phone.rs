//! Which numbers are served: those that exist, of a kind that receives texts at an ordinary price, in the allowed countries.

use phonenumber::PhoneNumberFormat;
use postern_protocol::ids::PhoneNumber;
use postern_protocol::problem::ProblemKind;
use postern_protocol::synthetic;

use crate::config::{Limits, NumberType};
use crate::error::Refusal;

/// Checks a number against the numbering plan (libphonenumber's metadata), and the countries and kinds of numbers that are served. Returns
/// its country's calling code.
///
/// # Errors
/// `phone-invalid` for a number that does not exist, or is not the one spelling of itself; `phone-refused` for premium,
/// shared-cost, toll-free and like numbers (texts to them earn somebody money), and for other countries.
pub fn check(phone: &PhoneNumber, limits: &Limits) -> Result<u16, Refusal> {
    let parsed: phonenumber::PhoneNumber = phone.as_str().parse().map_err(|_| ProblemKind::PhoneInvalid)?;
    if !parsed.is_valid() || parsed.format_as(PhoneNumberFormat::E164) != phone.as_str() {
        return Err(ProblemKind::PhoneInvalid.into());
    }
    let country = u16::try_from(parsed.country_code).map_err(|_| ProblemKind::PhoneInvalid)?;
    if !limits.countries.is_empty() && !limits.countries.contains(&country) {
        return Err(Refusal::detailed(ProblemKind::PhoneRefused, "its country is not served"));
    }
    let is_served = NumberType::of(parsed.get_type()).is_some_and(|kind| limits.number_types.contains(&kind));
    if is_served {
        Ok(country)
    } else {
        Err(Refusal::detailed(ProblemKind::PhoneRefused, "numbers of its kind are not served"))
    }
}

/// Who can register under a gateway: nobody's numbers where no text proves anything, else whoever gets the text.
///
/// # Errors
/// `phone-refused`.
pub fn check_gateway(phone: &PhoneNumber, is_synthetic: bool) -> Result<(), Refusal> {
    if is_synthetic && !synthetic::is_synthetic(phone) {
        return Err(Refusal::detailed(ProblemKind::PhoneRefused, "this issuer is for load tests"));
    }
    Ok(())
}

/// Whether `code` stands for a text that was never sent: under the synthetic gateway, for one of its numbers.
pub fn is_synthetic_code(phone: &PhoneNumber, code: &str, is_synthetic: bool) -> bool {
    is_synthetic && synthetic::is_synthetic(phone) && code == synthetic::CODE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(number: &str, countries: &[u16]) -> Option<ProblemKind> {
        let limits = Limits { countries: countries.to_vec(), ..Limits::default() };
        match check(&number.parse().unwrap(), &limits) {
            Ok(_) => None,
            Err(Refusal::Problem(problem)) => problem.known_kind(),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_mobile_number_is_served_and_one_outside_the_numbering_plan_is_not() {
        assert_eq!(verdict("+41791234567", &[]), None);
        assert_eq!(verdict("+12025550123", &[]), None);
        assert_eq!(verdict("+41001234567", &[]), Some(ProblemKind::PhoneInvalid));
        assert_eq!(verdict("+9991234567", &[]), Some(ProblemKind::PhoneInvalid));
    }

    #[test]
    fn a_second_spelling_of_a_number_is_refused() {
        // With the trunk zero that Italian numbers keep and Swiss ones do not.
        assert_eq!(verdict("+410791234567", &[]), Some(ProblemKind::PhoneInvalid));
    }

    #[test]
    fn premium_shared_cost_and_toll_free_numbers_are_refused() {
        for number in ["+41900123456", "+41840123456", "+41800123456"] {
            assert_eq!(verdict(number, &[]), Some(ProblemKind::PhoneRefused), "{number}");
        }
    }

    #[test]
    fn kinds_of_numbers_can_be_left_out_and_premium_ones_cannot_be_let_in() {
        let with = |number: &str, number_types: Vec<NumberType>| {
            check(&number.parse().unwrap(), &Limits { number_types, ..Limits::default() }).is_ok()
        };
        let (internet, landline) = ("+4932123456789", "+41442345678");
        assert!(with(internet, NumberType::usual()) && with(landline, NumberType::usual()));
        assert!(!with(internet, vec![NumberType::Mobile]) && !with(landline, vec![NumberType::Mobile]));
        let all = vec![
            NumberType::Mobile,
            NumberType::FixedLineOrMobile,
            NumberType::FixedLine,
            NumberType::Voip,
            NumberType::Unknown,
        ];
        for number in ["+41900123456", "+41840123456", "+41800123456", "+449098790000", "+498001234567"] {
            assert!(!with(number, all.clone()), "{number}");
        }
    }

    #[test]
    fn a_country_that_is_not_on_the_list_is_refused() {
        assert_eq!(verdict("+41791234567", &[49, 41]), None);
        assert_eq!(verdict("+41791234567", &[49]), Some(ProblemKind::PhoneRefused));
    }

    #[test]
    fn every_synthetic_number_is_one_that_an_issuer_would_serve() {
        for index in (0..synthetic::NUMBERS).step_by(97).chain([synthetic::NUMBERS - 1]) {
            let number = synthetic::number(index).unwrap();
            assert_eq!(verdict(number.as_str(), &[]), None, "{index}");
        }
    }
}
