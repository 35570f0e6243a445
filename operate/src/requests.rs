//! What is counted of every request: its route, its method, its status, how long it took, and why it was refused.

use std::time::Duration;

use axum::http::{Method, StatusCode};
use postern_protocol::problem::ProblemKind;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Names and values of labels, all of them words of the program: what comes from outside does not fit in here.
pub type Labels<const N: usize> = [(&'static str, &'static str); N];

/// A route that is not known, and what was asked for at no route.
const OTHER: &str = "other";
/// Upper bounds of what latencies are counted in, seconds.
const SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];
/// The methods that there are.
const METHODS: [&str; 5] = ["GET", "POST", "PUT", "DELETE", "HEAD"];

/// Counters of all requests.
#[derive(Clone, Debug)]
pub struct Requests {
    routes: &'static [(&'static str, &'static str)],
    answered: Family<Labels<3>, Counter>,
    refused: Family<Labels<2>, Counter>,
    seconds: Family<Labels<1>, Histogram, fn() -> Histogram>,
}

impl Requests {
    /// `routes` are all there are, each with the word that it is counted under.
    pub fn new(registry: &mut Registry, routes: &'static [(&'static str, &'static str)]) -> Self {
        let new = Self {
            routes,
            answered: Family::default(),
            refused: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)),
        };
        registry.register("requests", "Requests that were answered, by route, method and status", new.answered.clone());
        registry.register("refused", "Requests that were refused, by route and type of problem", new.refused.clone());
        registry.register("request_seconds", "How long until a request was answered", new.seconds.clone());
        new
    }

    /// Counts one. `route` is the router's template, none if it has none for the path; `refused` the kind of the problem that was answered.
    pub fn count(
        &self,
        method: &Method,
        route: Option<&str>,
        status: StatusCode,
        refused: Option<ProblemKind>,
        took: Duration,
    ) {
        let known = route.and_then(|route| self.routes.iter().find(|(template, _)| *template == route));
        let route = known.map_or(OTHER, |(_, word)| word);
        let method = METHODS.iter().find(|known| **known == method.as_str()).unwrap_or(&OTHER);
        self.answered.get_or_create(&[("route", route), ("method", method), ("status", word(status))]).inc();
        if let Some(kind) = refused {
            self.refused.get_or_create(&[("route", route), ("type", kind.slug())]).inc();
        }
        self.seconds.get_or_create(&[("route", route)]).observe(took.as_secs_f64());
    }
}

/// The statuses that there are, as words.
fn word(status: StatusCode) -> &'static str {
    const WORDS: [(u16, &str); 18] = [
        (200, "200"),
        (201, "201"),
        (204, "204"),
        (304, "304"),
        (400, "400"),
        (401, "401"),
        (403, "403"),
        (404, "404"),
        (405, "405"),
        (408, "408"),
        (409, "409"),
        (413, "413"),
        (415, "415"),
        (429, "429"),
        (431, "431"),
        (500, "500"),
        (502, "502"),
        (503, "503"),
    ];
    WORDS.iter().find(|(number, _)| *number == status.as_u16()).map_or(OTHER, |(_, word)| word)
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn whatever_is_asked_for_is_counted_under_words_that_were_there_before() {
        let mut registry = Registry::default();
        let requests = Requests::new(&mut registry, &[("/v1/boxes/{box}", "/v1/boxes/{box}")]);
        let secret = Method::from_bytes(b"HUNTER2").unwrap();
        let took = Duration::from_millis(3);
        requests.count(&secret, Some("/v1/boxes/hunter2"), StatusCode::from_u16(299).unwrap(), None, took);
        requests.count(&Method::GET, Some("/v1/boxes/{box}"), StatusCode::OK, None, took);
        requests.count(&Method::GET, None, StatusCode::NOT_FOUND, Some(ProblemKind::NotFound), took);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        assert!(!text.to_lowercase().contains("hunter2"), "{text}");
        for line in [
            "requests_total{route=\"other\",method=\"other\",status=\"other\"} 1",
            "requests_total{route=\"/v1/boxes/{box}\",method=\"GET\",status=\"200\"} 1",
            "refused_total{route=\"other\",type=\"not-found\"} 1",
            "request_seconds_count{route=\"other\"} 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }

    #[test]
    fn every_status_of_a_problem_has_its_word() {
        for kind in ProblemKind::ALL {
            assert_eq!(word(StatusCode::from_u16(kind.status()).unwrap()), kind.status().to_string());
        }
    }
}
