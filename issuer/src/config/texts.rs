//! How texts are sent, and to what kinds of numbers.

use std::path::{Path, PathBuf};

use phonenumber::PhoneNumberType;
use postern_protocol::server::ServerUrl;
use serde::{Deserialize, Serialize};

/// A way for texts to phones. There may be several: the first that serves a number's country is tried first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, tag = "kind", rename_all = "kebab-case")]
pub enum GatewayConfig {
    /// To a file or, without one, standard output. For development only.
    Console {
        /// Appended to; relative to the configuration file.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        file: Option<PathBuf>,
    },
    /// To nobody: only numbers that nobody has can be registered, and their code is known
    /// ([`postern_protocol::synthetic`]). For load tests on this machine alone.
    Synthetic {},
    /// To Kannel's `sendsms`.
    Kannel(KannelConfig),
    /// To Twilio's API, or one of its shape.
    Twilio(TwilioConfig),
}

/// Kannel: its smsbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KannelConfig {
    /// Its name in logs; others must have another.
    #[serde(default = "kannel")]
    pub name: String,
    /// Of `sendsms`, such as `http://127.0.0.1:13013/cgi-bin/sendsms`.
    pub url: String,
    /// A user of Kannel's group `sendsms-user`.
    pub user: String,
    /// File with that user's password; relative to the configuration file.
    pub password_file: PathBuf,
    /// Which sender phones show.
    pub from: String,
    /// Country calling codes that it is used for; empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub countries: Vec<u16>,
    /// How long it may take to accept a text, seconds.
    #[serde(default = "timeout")]
    pub timeout_seconds: u64,
    /// Under which URL it reaches the issuer to report what became of a text, if not the issuer's own; without a trailing slash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reports: Option<String>,
    /// Allows `http://` to another machine: numbers, codes and the password cross a network that nobody else is on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub plain_http: bool,
}

/// Twilio, or a service that speaks as it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TwilioConfig {
    /// Its name in logs; others must have another.
    #[serde(default = "twilio")]
    pub name: String,
    /// Base of its API, without a trailing slash.
    #[serde(default = "twilio_url")]
    pub url: String,
    /// The account's SID.
    pub account: String,
    /// File with the account's auth token; relative to the configuration file.
    pub auth_token_file: PathBuf,
    /// The number that texts and calls come from, or the SID of a messaging service (`MG…`), which has no calls.
    pub from: String,
    /// Whether it calls as well: who asks for it, and who was sent texts that did not arrive.
    #[serde(default)]
    pub voice: bool,
    /// Country calling codes that it is used for; empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub countries: Vec<u16>,
    /// How long it may take to accept a text, seconds.
    #[serde(default = "timeout")]
    pub timeout_seconds: u64,
    /// Under which URL it reaches the issuer to report what became of a text, if not the issuer's own; without a trailing slash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reports: Option<String>,
}

fn kannel() -> String {
    "kannel".to_owned()
}

fn twilio() -> String {
    "twilio".to_owned()
}

fn twilio_url() -> String {
    "https://api.twilio.com".to_owned()
}

const fn timeout() -> u64 {
    8
}

impl GatewayConfig {
    /// Whether no text is sent, and no real number can be registered.
    pub const fn is_synthetic(&self) -> bool {
        matches!(self, Self::Synthetic {})
    }

    /// As logs and reports call it.
    pub fn name(&self) -> &str {
        match self {
            Self::Console { .. } => "console",
            Self::Synthetic {} => "synthetic",
            Self::Kannel(kannel) => &kannel.name,
            Self::Twilio(twilio) => &twilio.name,
        }
    }

    /// Calling codes that it is used for; empty: all.
    pub fn countries(&self) -> &[u16] {
        match self {
            Self::Console { .. } | Self::Synthetic {} => &[],
            Self::Kannel(kannel) => &kannel.countries,
            Self::Twilio(twilio) => &twilio.countries,
        }
    }

    const fn timeout_seconds(&self) -> u64 {
        match self {
            Self::Console { .. } | Self::Synthetic {} => 0,
            Self::Kannel(kannel) => kannel.timeout_seconds,
            Self::Twilio(twilio) => twilio.timeout_seconds,
        }
    }

    /// Paths become relative to the configuration file's directory.
    pub(super) fn lie_in(&mut self, dir: &Path) {
        match self {
            Self::Console { file } => *file = file.as_ref().map(|file| dir.join(file)),
            Self::Synthetic {} => {}
            Self::Kannel(kannel) => kannel.password_file = dir.join(&kannel.password_file),
            Self::Twilio(twilio) => twilio.auth_token_file = dir.join(&twilio.auth_token_file),
        }
    }

    /// The first rule that does not hold.
    fn broken_rule(&self) -> Option<&'static str> {
        let is_safe = |url: &str, plain: bool| is_url(url) && (plain || is_protected(url));
        let (url, reports, from, calls) = match self {
            Self::Console { .. } | Self::Synthetic {} => return None,
            Self::Kannel(k) => (is_safe(&k.url, k.plain_http), &k.reports, &k.from, false),
            Self::Twilio(t) => (is_safe(&t.url, false), &t.reports, &t.from, t.voice),
        };
        let is_plain = |text: &str| (1..=64).contains(&text.len()) && text.bytes().all(|b| (b' '..=b'~').contains(&b));
        let rules = [
            (url, "a gateway's `url` must be https:// (or on this machine, or `plain_http`) and not end with a slash"),
            ((1..=60).contains(&self.timeout_seconds()), "a gateway's `timeout_seconds` must be 1 to 60"),
            (
                reports.as_deref().is_none_or(is_url),
                "a gateway's `reports` must be like the issuer's `url`, without pins",
            ),
            (is_name(self.name()), "a gateway's `name` must be 1 to 32 letters, digits and hyphens"),
            (is_plain(from), "a gateway's `from` must be 1 to 64 printable ASCII characters"),
            (!(calls && from.starts_with("MG")), "a gateway with `voice` needs a number in `from`"),
        ];
        rules.iter().find(|(holds, _)| !holds).map(|(_, rule)| *rule)
    }
}

/// Checks the gateways, and how they go together.
pub(super) fn broken_rule(gateways: &[GatewayConfig], request_seconds: u64) -> Option<&'static str> {
    let names: std::collections::BTreeSet<_> = gateways.iter().map(GatewayConfig::name).collect();
    if gateways.is_empty() {
        return Some("at least one `[[gateway]]` is needed");
    }
    if names.len() != gateways.len() {
        return Some("two gateways have the same `name`");
    }
    if gateways.len() > 1 && gateways.iter().any(GatewayConfig::is_synthetic) {
        return Some("the gateway `synthetic` stands alone");
    }
    if gateways.iter().map(GatewayConfig::timeout_seconds).sum::<u64>() > request_seconds {
        return Some("the `timeout_seconds` of all gateways must be at most `request_timeout_seconds` together");
    }
    gateways.iter().find_map(GatewayConfig::broken_rule)
}

fn is_name(name: &str) -> bool {
    (1..=32).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// As of a server, but that no key is pinned: gateways know nothing of that.
fn is_url(url: &str) -> bool {
    super::is_url(url) && url.parse::<ServerUrl>().is_ok_and(|url| url.pins().is_empty())
}

/// Whether nobody on the way can read along.
fn is_protected(url: &str) -> bool {
    url.starts_with("https://") || super::is_url_of_this_machine(url)
}

/// Kinds of numbers that can be served. Premium, shared-cost and toll-free numbers are none of them: texts to these earn somebody money.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NumberType {
    /// A mobile phone.
    Mobile,
    /// Either: some countries' numbers do not tell.
    FixedLineOrMobile,
    /// A landline: some read texts out, and a call always arrives.
    FixedLine,
    /// Over the internet: cheap to have by the thousand.
    Voip,
    /// Valid, of a kind that the numbering plan does not tell.
    Unknown,
}

impl NumberType {
    /// The kind of a number, if it can be served at all.
    pub const fn of(kind: PhoneNumberType) -> Option<Self> {
        match kind {
            PhoneNumberType::Mobile => Some(Self::Mobile),
            PhoneNumberType::FixedLineOrMobile => Some(Self::FixedLineOrMobile),
            PhoneNumberType::FixedLine => Some(Self::FixedLine),
            PhoneNumberType::VoIP => Some(Self::Voip),
            PhoneNumberType::Unknown => Some(Self::Unknown),
            _ => None,
        }
    }

    /// Those that are served unless the configuration says otherwise.
    pub fn usual() -> Vec<Self> {
        vec![Self::Mobile, Self::FixedLineOrMobile, Self::FixedLine, Self::Voip]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> Option<&'static str> {
        #[derive(Deserialize)]
        struct All {
            gateway: Vec<GatewayConfig>,
        }
        broken_rule(&toml::from_str::<All>(text).unwrap().gateway, 30)
    }

    const KANNEL: &str =
        "[[gateway]]\nkind = \"kannel\"\nurl = \"http://127.0.0.1:13013/cgi-bin/sendsms\"\nuser = \"u\"
        password_file = \"p\"\nfrom = \"Postern\"\n";
    const TWILIO: &str = "[[gateway]]\nkind = \"twilio\"\naccount = \"AC1\"\nauth_token_file = \"t\"\nfrom = \"+12025550100\"\nvoice = true\n";

    #[test]
    fn gateways_are_taken_in_their_order_and_each_has_its_own_name() {
        assert_eq!(rule(&format!("{KANNEL}{TWILIO}")), None);
        assert!(rule(&format!("{KANNEL}{KANNEL}")).unwrap().contains("same `name`"));
        assert_eq!(rule(&format!("{KANNEL}{KANNEL}name = \"other\"\n")), None);
        assert!(rule(&format!("{KANNEL}name = \"+41791234567\"\n")).is_some());
        assert!(broken_rule(&[], 30).is_some());
        assert!(rule(&format!("{KANNEL}timeout_seconds = 23\n{TWILIO}")).unwrap().contains("together"));
        assert!(rule(&format!("{KANNEL}[[gateway]]\nkind = \"synthetic\"\n")).unwrap().contains("alone"));
    }

    #[test]
    fn numbers_and_passwords_cross_no_network_in_the_clear_unless_that_is_written_out() {
        let elsewhere = KANNEL.replace("127.0.0.1", "sms.example");
        assert!(rule(&elsewhere).is_some());
        assert_eq!(rule(&format!("{elsewhere}plain_http = true\n")), None);
        assert_eq!(rule(&elsewhere.replace("http:", "https:")), None);
        assert!(rule(&format!("{TWILIO}url = \"http://twilio.example\"\n")).is_some());
        assert!(rule(&TWILIO.replace("+12025550100", "MG1")).unwrap().contains("voice"));
    }

    #[test]
    fn a_password_has_no_place_in_the_configuration() {
        for text in [format!("{KANNEL}password = \"x\"\n"), format!("{TWILIO}auth_token = \"x\"\n")] {
            assert!(toml::from_str::<toml::Table>(&text).is_ok());
            let gateway = text.strip_prefix("[[gateway]]\n").unwrap();
            assert!(toml::from_str::<GatewayConfig>(gateway).is_err(), "{gateway}");
        }
    }
}
