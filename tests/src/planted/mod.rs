//! Planted secrets (design §10.2): a run of everything, in which each secret is known, and a search for all of them wherever something is
//! written.
//!
//! | file | what |
//! |---|---|
//! | `run` | real processes at log level trace behind taps, people with the command, a vandal who repeats and damages what they sent |
//! | `traffic` | what passed, as requests and answers |
//! | `harvest` | every value of every profile row, request and answer, by name |
//! | `forms` | in which forms a secret may lie somewhere; the search |
//! | `memory` | a look into this process's own memory, for what should have been overwritten |
//! | `rules` | which value may be where |

pub mod forms;
pub mod harvest;
pub mod memory;
pub mod rules;
pub mod run;
pub mod traffic;

use std::collections::{BTreeMap, BTreeSet};

use self::forms::Search;
use self::harvest::Harvest;

/// Everything that was written somewhere, by the name of the place.
pub type Places = BTreeMap<String, Vec<Vec<u8>>>;

/// A secret where it must not be: its name, the place, the form.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leak {
    /// What leaked.
    pub secret: String,
    /// Where.
    pub place: String,
    /// As what.
    pub form: &'static str,
}

/// Every secret, wherever it is.
pub fn look(harvest: &Harvest, places: &Places) -> BTreeSet<Leak> {
    let (secrets, names): (Vec<_>, Vec<_>) = harvest.0.iter().unzip();
    let search = Search::new(secrets);
    let mut leaks = BTreeSet::new();
    for (place, pieces) in places {
        for found in pieces.iter().flat_map(|piece| search.find(piece)) {
            leaks.insert(Leak { secret: names[found.secret].clone(), place: place.clone(), form: found.form });
        }
    }
    leaks
}
