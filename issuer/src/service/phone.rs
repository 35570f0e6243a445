//! Which numbers are served: those that exist, of a kind that receives texts at an ordinary price, in the allowed countries.

use phonenumber::{PhoneNumberFormat, PhoneNumberType};
use postern_protocol::ids::PhoneNumber;
use postern_protocol::problem::ProblemKind;
use postern_protocol::synthetic;

use crate::config::GatewayConfig;
use crate::error::Refusal;

/// Checks a number against the numbering plan (libphonenumber's metadata) and the `countries` (calling codes) that are
/// served; empty serves all.
///
/// # Errors
/// `phone-invalid` for a number that does not exist, or is not the one spelling of itself; `phone-refused` for premium,
/// shared-cost, toll-free and like numbers (texts to them earn somebody money), and for other countries.
pub fn check(phone: &PhoneNumber, countries: &[u16]) -> Result<(), Refusal> {
    let parsed: phonenumber::PhoneNumber = phone.as_str().parse().map_err(|_| ProblemKind::PhoneInvalid)?;
    if !parsed.is_valid() || parsed.format_as(PhoneNumberFormat::E164) != phone.as_str() {
        return Err(ProblemKind::PhoneInvalid.into());
    }
    let reachable = matches!(
        parsed.get_type(),
        PhoneNumberType::Mobile
            | PhoneNumberType::FixedLineOrMobile
            | PhoneNumberType::FixedLine
            | PhoneNumberType::VoIP
    );
    let served = countries.is_empty() || countries.iter().any(|code| i32::from(*code) == parsed.country_code);
    if reachable && served { Ok(()) } else { Err(ProblemKind::PhoneRefused.into()) }
}

/// Who can register under a gateway: nobody's numbers where no text proves anything, else whoever gets the text.
///
/// # Errors
/// `phone-refused`.
pub fn check_gateway(phone: &PhoneNumber, gateway: &GatewayConfig) -> Result<(), Refusal> {
    if gateway.is_synthetic() && !synthetic::is_synthetic(phone) {
        return Err(Refusal::detailed(ProblemKind::PhoneRefused, "this issuer is for load tests"));
    }
    Ok(())
}

/// Whether `code` stands for a text that was never sent: under the synthetic gateway, for one of its numbers.
pub fn is_synthetic_code(phone: &PhoneNumber, code: &str, gateway: &GatewayConfig) -> bool {
    gateway.is_synthetic() && synthetic::is_synthetic(phone) && code == synthetic::CODE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(number: &str, countries: &[u16]) -> Option<ProblemKind> {
        match check(&number.parse().unwrap(), countries) {
            Ok(()) => None,
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
