//! In which forms a secret may lie somewhere, and a search for all forms of all secrets at once.

use std::collections::{BTreeSet, HashMap};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

/// Secrets are searched for by pieces of so many bytes: half of a key is too much.
pub const PIECE: usize = 16;
/// No more pieces than these of one value, evenly spaced.
const MOST_PIECES: usize = 16;
/// Needles are found by their first bytes, and none is shorter.
const HEAD: usize = 6;
/// Bits of the filter that most places fail.
const FILTER_BITS: u32 = 24;

/// What a secret is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Secret {
    /// Bytes that nobody can guess.
    Bytes(Vec<u8>),
    /// A text, which may be escaped.
    Text(String),
    /// A phone number, `+` included.
    Phone(String),
    /// A few digits.
    Code(String),
}

/// A form with its name.
pub type Form = (&'static str, Vec<u8>);

impl Secret {
    /// All forms in which it, or a piece of it, could lie somewhere.
    pub fn forms(&self) -> Vec<Form> {
        match self {
            Self::Bytes(bytes) => pieces(bytes).into_iter().flat_map(|piece| forms_of_bytes(&piece)).collect(),
            Self::Text(text) => {
                let mut forms: Vec<Form> =
                    pieces(text.as_bytes()).into_iter().flat_map(|piece| forms_of_bytes(&piece)).collect();
                forms.extend(escapes(text));
                forms
            }
            Self::Phone(phone) => forms_of_phone(phone),
            Self::Code(code) => vec![("digits", code.clone().into_bytes())],
        }
    }
}

/// Pieces of [`PIECE`] bytes, evenly spaced, the last one at the end; what is no longer is one piece. Constant stretches name nothing.
fn pieces(bytes: &[u8]) -> BTreeSet<Vec<u8>> {
    let Some(last) = bytes.len().checked_sub(PIECE) else { return BTreeSet::from([bytes.to_vec()]) };
    let starts = (last / PIECE + 2).min(MOST_PIECES);
    let starts = (0..starts).map(|n| last * n / (starts - 1).max(1));
    let varied = |piece: &Vec<u8>| piece.iter().collect::<BTreeSet<_>>().len() > PIECE / 2;
    starts.map(|start| bytes[start..start + PIECE].to_vec()).filter(varied).collect()
}

fn forms_of_bytes(piece: &[u8]) -> Vec<Form> {
    let list = |separator: &str| piece.iter().map(u8::to_string).collect::<Vec<_>>().join(separator).into_bytes();
    let lower: String = piece.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut forms = vec![
        ("raw", piece.to_vec()),
        ("hex", lower.clone().into_bytes()),
        ("HEX", lower.to_uppercase().into_bytes()),
        ("debug", piece.escape_ascii().to_string().into_bytes()),
        ("decimal", list(",")),
        ("decimal debug", list(", ")),
    ];
    for (names, engine) in
        [(["base64 0", "base64 1", "base64 2"], STANDARD), (["base64url 0", "base64url 1", "base64url 2"], URL_SAFE)]
    {
        forms.extend(names.into_iter().zip(0..).map(|(name, offset)| (name, base64_at(&engine, piece, offset))));
    }
    forms
}

/// What of a base64 text depends on the piece alone, when so many bytes (modulo 3) stand before it.
pub fn base64_at(engine: &impl Engine, piece: &[u8], offset: usize) -> Vec<u8> {
    let all = engine.encode([&vec![0; offset], piece].concat());
    let first = (offset * 8).div_ceil(6);
    let last = (offset + piece.len()) * 8 / 6;
    all.as_bytes()[first..last].to_vec()
}

fn escapes(text: &str) -> Vec<Form> {
    let ascii = |lower: bool| -> String {
        let mut units = [0; 2];
        let escape = |c: char| match c {
            '"' | '\\' => format!("\\{c}"),
            ' '..='~' => c.to_string(),
            _ if lower => c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect(),
            _ => c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04X}")).collect(),
        };
        text.chars().map(escape).collect()
    };
    let percent = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    let json = serde_json::to_string(text).unwrap();
    let debug = format!("{text:?}");
    vec![
        ("json", json[1..json.len() - 1].into()),
        ("json \\u", ascii(true).into()),
        ("json \\U", ascii(false).into()),
        ("debug", debug[1..debug.len() - 1].into()),
        ("percent", text.bytes().map(percent).collect::<String>().into()),
    ]
}

fn forms_of_phone(phone: &str) -> Vec<Form> {
    let digits = phone.trim_start_matches('+');
    let national = &digits[2..];
    let number: u64 = digits.parse().unwrap();
    let mut forms: Vec<Form> =
        forms_of_bytes(national.as_bytes()).into_iter().filter(|form| form.0 != "debug").collect();
    let grouped = [&national[..2], &national[2..5], &national[5..7], &national[7..]].join(" ");
    forms.push(("grouped", grouped.into_bytes()));
    forms.push(("integer", number.to_be_bytes()[2..].to_vec()));
    forms.push(("integer, little-endian", number.to_le_bytes()[..6].to_vec()));
    forms
}

/// One form of one secret.
#[derive(Clone, Debug)]
struct Needle {
    /// Which secret.
    secret: usize,
    form: &'static str,
    bytes: Vec<u8>,
    /// No digit may stand before or behind it, nor a point before it: fractions of a second are no codes.
    alone: bool,
}

/// A form that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// Which secret, by its place in the list.
    pub secret: usize,
    /// The form's name.
    pub form: &'static str,
    /// Where it begins.
    pub at: usize,
}

/// All forms of all secrets.
pub struct Search {
    needles: Vec<Needle>,
    by_head: HashMap<[u8; HEAD], Vec<usize>>,
    filter: Vec<u64>,
}

impl Search {
    /// Prepares the search for these.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        let mut search = Self { needles: Vec::new(), by_head: HashMap::new(), filter: vec![0; 1 << (FILTER_BITS - 6)] };
        let mut known = BTreeSet::new();
        for (index, secret) in secrets.into_iter().enumerate() {
            let alone = matches!(secret, Secret::Code(_));
            for (form, bytes) in secret.forms() {
                assert!(bytes.len() >= HEAD, "{form} is too short to search for");
                if known.insert((index, bytes.clone())) {
                    search.add(Needle { secret: index, form, bytes, alone });
                }
            }
        }
        search
    }

    fn add(&mut self, needle: Needle) {
        let head: [u8; HEAD] = needle.bytes[..HEAD].try_into().unwrap();
        let bit = bit_of(&head);
        self.filter[bit / 64] |= 1 << (bit % 64);
        self.by_head.entry(head).or_default().push(self.needles.len());
        self.needles.push(needle);
    }

    /// How many forms are searched for.
    pub fn forms(&self) -> usize {
        self.needles.len()
    }

    /// Everything that stands there.
    pub fn find(&self, hay: &[u8]) -> Vec<Found> {
        let mut found = Vec::new();
        for (at, head) in hay.windows(HEAD).enumerate() {
            let head: &[u8; HEAD] = head.try_into().unwrap();
            let bit = bit_of(head);
            if self.filter[bit / 64] & (1 << (bit % 64)) == 0 {
                continue;
            }
            for index in self.by_head.get(head).into_iter().flatten() {
                let needle = &self.needles[*index];
                let end = at + needle.bytes.len();
                if hay[at..].starts_with(&needle.bytes) && !(needle.alone && in_a_number(hay, at, end)) {
                    found.push(Found { secret: needle.secret, form: needle.form, at });
                }
            }
        }
        found
    }
}

fn bit_of(head: &[u8; HEAD]) -> usize {
    let number = head.iter().fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
    (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - FILTER_BITS)) as usize
}

fn in_a_number(hay: &[u8], at: usize, end: usize) -> bool {
    let before = at.checked_sub(1).map(|before| hay[before]);
    before.is_some_and(|b| b.is_ascii_digit() || b == b'.') || hay.get(end).is_some_and(u8::is_ascii_digit)
}
