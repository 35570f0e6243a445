//! Which value may be where (design §1 to §3). What is not listed here may be nowhere; a value that no rule names fails the test.

use std::collections::BTreeSet;

use super::{Leak, Places};

/// Values by the beginnings of their names, and the places where they may be, by the beginnings of theirs.
#[derive(Debug)]
pub struct Rule {
    /// Names of values.
    pub of: &'static [&'static str],
    /// Places.
    pub may: &'static [&'static str],
}

impl Rule {
    /// Whether it is for what everybody may see.
    pub fn is_public(&self) -> bool {
        self.may == PUBLIC
    }
}

/// Published to everybody, by whichever server.
static PUBLIC: &[&str] = &[
    "from ",
    "to ",
    "issuer disk",
    "issuer table",
    "relay disk",
    "relay table",
    "output issuer.out",
    "output relay.out",
    "relay/relay.toml",
    "issuer/ca.pem",
    "profiles",
];

/// All rules; the first that names a value counts.
pub static RULES: &[Rule] = &[
    // What its owner alone has.
    Rule {
        of: &[
            "password",
            "profile account.identity_seed",
            "profile sealing-key.seed",
            "profile session.key",
            "profile olm-account.pickle",
            "profile olm-session.pickle",
            "profile lookup-cover",
            "profile looked-up.y",
        ],
        may: &[],
    },
    Rule { of: &["root secret of the issuer"], may: &["issuer/secret.key"] },
    Rule { of: &["root secret of the relay"], may: &["relay/secret.key"] },
    // The screen is its reader's.
    Rule { of: &["text of a message", "number looked up"], may: &["output postern.out"] },
    Rule {
        of: &["phone number"],
        may: &[
            "output postern.out",
            "issuer/texts.log",
            "issuer disk",
            "issuer table accounts",
            "to issuer: POST /v1/login",
            "to issuer: POST /v1/registration",
            // In the certificate.
            "from issuer: POST /v1/registration",
        ],
    },
    Rule { of: &["text code"], may: &["issuer/texts.log", "to issuer: POST /v1/registration"] },
    Rule { of: &["issuer POST /v1/registration request.login.verifier"], may: &["to issuer: POST /v1/registration"] },
    Rule {
        of: &["profile registration.cookie"],
        may: &["from issuer: POST /v1/registration/code", "to issuer: POST /v1/registration"],
    },
    // The identity, and what certifies it: the relay has no use for it.
    Rule {
        of: &[
            "issuer POST /v1/registration request.certificate_request",
            "profile account.certificate",
            "profile message.from",
            "profile olm-session.peer",
            "profile own-card.card",
        ],
        may: &[
            "output postern.out",
            "issuer disk",
            "issuer table accounts",
            "to issuer: POST /v1/registration",
            "from issuer: POST /v1/registration",
            // The certificate authority's name and key stand in every certificate.
            "from issuer: GET /v1/issuer",
            "issuer/ca.pem",
        ],
    },
    Rule {
        of: &["profile account.mailbox"],
        may: &[
            "output postern.out",
            "issuer disk",
            "issuer table accounts",
            "from issuer: POST /v1/registration",
            "relay disk",
            "relay table",
            "from relay: POST /v1/mailboxes",
            "to relay",
        ],
    },
    // Login and session.
    Rule {
        of: &["issuer POST /v1/registration request.login.salt"],
        may: &[
            "to issuer: POST /v1/registration",
            "from issuer: POST /v1/login/challenge",
            "issuer disk",
            "issuer table accounts",
        ],
    },
    Rule { of: &["issuer POST /v1/login"], may: &["to issuer: POST /v1/login", "from issuer: POST /v1/login"] },
    Rule {
        of: &["profile session.session"],
        may: &[
            "output postern.out",
            "issuer disk",
            "issuer table sessions",
            "from issuer: GET /v1/sessions",
            "from issuer: POST /v1/login",
            "to issuer",
        ],
    },
    Rule { of: &["right PosternSession"], may: &["to issuer"] },
    Rule {
        of: &["profile jwt.jwt"],
        may: &[
            "from issuer: POST /v1/sessions/token",
            "to issuer: POST /v1/token-request",
            "to issuer: JWT",
            "to relay",
        ],
    },
    Rule {
        of: &["issuer POST /v1/registration answer.mailbox_grant"],
        may: &["from issuer: POST /v1/registration", "to relay: POST /v1/mailboxes", "to relay: JWT"],
    },
    // Tokens: the issuer sees them blinded, the relay when they are spent; of the two it keeps the nullifier, which is the message's name.
    Rule { of: &["issuer POST /v1/registration request.tokens.blinded"], may: &["to issuer: POST /v1/registration"] },
    Rule {
        of: &["issuer POST /v1/registration answer.blind_signatures"],
        may: &["from issuer: POST /v1/registration", "issuer disk", "issuer table issuances"],
    },
    Rule {
        of: &["profile token.token"],
        may: &["to relay: POST /v1/mailboxes/*/messages", "to relay: POST /v1/exchange"],
    },
    Rule { of: &["profile token.refund"], may: &["to relay: POST /v1/exchange"] },
    // Of one that is not answered yet.
    Rule { of: &["profile exchange.fresh.pending", "profile exchange.fresh.refund"], may: &[] },
    Rule {
        of: &["profile exchange.fresh.request.blinded", "issuer POST /internal/v1/exchange request.blinded"],
        may: &["to relay: POST /v1/exchange", "to issuer: POST /internal/v1/exchange"],
    },
    Rule {
        of: &["issuer POST /internal/v1/exchange answer.blind_signature"],
        may: &[
            "from issuer: POST /internal/v1/exchange",
            "from relay: POST /v1/exchange",
            "issuer disk",
            "issuer table relay_exchanges",
            "relay disk",
            "relay table ledger",
        ],
    },
    Rule {
        of: &["profile message.id", "relay POST /v1/mailboxes/*/messages answer.message"],
        may: &[
            "output postern.out",
            "relay disk",
            "relay table",
            "from relay: GET /v1/mailbox",
            "from relay: POST /v1/mailbox",
            "to relay: POST /v1/mailbox/",
        ],
    },
    // Messages, cards, prekeys: sealed.
    Rule {
        of: &["relay POST /v1/mailboxes/*/messages request", "profile outgoing.payment.presentation"],
        may: &[
            "to relay: POST /v1/mailboxes/*/messages",
            "from relay: GET /v1/mailbox/messages",
            "relay disk",
            "relay table messages",
        ],
    },
    Rule {
        of: &["relay PUT /v1/mailbox/card request"],
        may: &[
            "to relay: PUT /v1/mailbox/card",
            "from relay: GET /v1/mailboxes/*/card",
            "relay disk",
            "relay table cards",
        ],
    },
    Rule {
        of: &["relay PUT /v1/mailbox/prekeys request", "relay POST /v1/mailboxes/*/prekey answer"],
        may: &[
            "to relay: PUT /v1/mailbox/prekeys",
            "from relay: POST /v1/mailboxes/*/prekey",
            "relay disk",
            "relay table prekey",
        ],
    },
    Rule {
        of: &["relay POST /v1/mailboxes/*/prekey request"],
        may: &["to relay: POST /v1/mailboxes/*/prekey", "relay disk", "relay table prekey_claims"],
    },
    // Replies: the relay checks with the group secret, and is given a seed if the owner reveals it.
    Rule { of: &["profile reply-group.keys.secret"], may: &["to relay: PUT /v1/mailbox/reply-keys"] },
    Rule {
        of: &["profile reply-issued.seed", "profile reply-held.credentials.credential"],
        may: &["to relay: POST /v1/mailbox/reply-reveals"],
    },
    // Look-ups.
    Rule {
        of: &["issuer POST /v1/lookup", "profile lookup-tokens"],
        may: &["to issuer: POST /v1/lookup", "from issuer: POST /v1/lookup"],
    },
    Rule {
        of: &["issuer POST /v1/token-request"],
        may: &["to issuer: POST /v1/token-request", "from issuer: POST /v1/token-request"],
    },
    Rule { of: &["right PosternRelay"], may: &["to issuer: POST /internal"] },
    Rule {
        of: &[
            "issuer GET",
            "relay GET /v1/relay",
            "profile directory-file",
            "profile exchange.fresh.token_key",
            "profile exchange.fresh.request.token_key_id",
            "profile log-head",
            "profile lookup-view",
            "profile pins",
            "profile reply-held.relay",
            "profile token-key",
        ],
        may: PUBLIC,
    },
];

/// The rule for a value.
pub fn rule_of(name: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.of.iter().any(|of| name.starts_with(of)))
}

/// What is where it may not be.
pub fn broken(found: &BTreeSet<Leak>) -> BTreeSet<Leak> {
    let is_allowed = |leak: &&Leak| {
        let may = rule_of(&leak.secret).map_or(&[][..], |rule| rule.may);
        !may.iter().any(|place| leak.place.starts_with(place))
    };
    found.iter().filter(is_allowed).cloned().collect()
}

/// Values that no rule names, rules that name no value, and places of a rule where nothing was found: the search or the run has a hole.
pub fn holes<'a>(names: impl Iterator<Item = &'a String>, found: &BTreeSet<Leak>, places: &Places) -> Vec<String> {
    let names: BTreeSet<&String> = names.collect();
    let mut holes: Vec<String> =
        names.iter().filter(|name| rule_of(name).is_none()).map(|name| format!("no rule for {name}")).collect();
    for (n, rule) in RULES.iter().enumerate() {
        for of in rule.of {
            if !names.iter().any(|name| name.starts_with(of)) {
                holes.push(format!("no value is called {of}"));
            }
        }
        for may in rule.may.iter().filter(|_| !rule.is_public()) {
            let is_of_rule = |leak: &&Leak| rule_of(&leak.secret).is_some_and(|of| std::ptr::eq(of, &RULES[n]));
            if !found.iter().filter(is_of_rule).any(|leak| leak.place.starts_with(may)) {
                holes.push(format!("{:?} is not in {may}", rule.of));
            }
        }
    }
    for place in [
        "issuer/log",
        "relay/log",
        "issuer disk",
        "relay disk",
        "profiles",
        "from issuer: problem",
        "from relay: problem",
    ] {
        if !places.get(place).is_some_and(|pieces| pieces.iter().any(|piece| piece.len() > 100)) {
            holes.push(format!("nothing is written to {place}"));
        }
    }
    holes
}
