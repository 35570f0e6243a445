//! Address books: numbers and names out of vCards (RFC 6350, and the older ones) and CSV tables. Only numbers and names are read, and
//! nothing leaves this machine.

use std::collections::BTreeMap;
use std::fmt;

use phonenumber::{PhoneNumberFormat, Region};
use postern_protocol::ids::PhoneNumber;
use postern_protocol::time::Clock;
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

use crate::client::Client;
use crate::error::{Error, Result};
use crate::profile::Record;

/// Names are cut after so many characters.
const MOST_NAME: usize = 100;
/// A field of a table with fewer digits is no number.
const FEWEST_DIGITS: usize = 7;
/// A field of a table with more is none either.
const MOST_DIGITS: usize = 17;

/// What an address book is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// vCards, any number of them.
    Vcf,
    /// A table with commas, semicolons or tabs; the first line may name the columns.
    Csv,
}

/// A number out of an address book. `Debug` shows nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct ImportedEntry {
    /// The number.
    pub phone: PhoneNumber,
    /// The name beside it; may be empty.
    pub name: String,
}

impl fmt::Debug for ImportedEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ImportedEntry(..)")
    }
}

/// What was read.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Imported {
    /// Every number once, in the order in which they came.
    pub entries: Vec<ImportedEntry>,
    /// What looks like a number and is none, or has no country code while none was given.
    pub unread: Vec<String>,
}

impl fmt::Debug for Imported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Imported").field("entries", &self.entries.len()).field("unread", &self.unread.len()).finish()
    }
}

/// The name that the address book has for a number; the row's key is the number.
#[derive(Clone, Serialize, Deserialize)]
struct AddressBook {
    name: String,
}

impl Record for AddressBook {
    const KIND: &'static str = "address-book";
}

impl<C: Clock, R: CryptoRng> Client<C, R> {
    /// Reads an address book, and keeps its names. National numbers are read as those of `country` (ISO 3166, two letters: `CH`).
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown country; a damaged profile.
    pub fn import_contacts(&mut self, text: &str, format: Format, country: Option<&str>) -> Result<Imported> {
        let imported = parse_contacts(text, format, country)?;
        self.profile.tx(&mut self.rng, |t| {
            for entry in imported.entries.iter().filter(|entry| !entry.name.is_empty()) {
                t.put(entry.phone.as_str(), &AddressBook { name: entry.name.clone() })?;
            }
            Ok(())
        })?;
        Ok(imported)
    }

    /// The name that was imported with a number.
    ///
    /// # Errors
    /// A damaged profile.
    pub fn name_of(&self, phone: &str) -> Result<Option<String>> {
        Ok(self.profile.get::<AddressBook>(phone)?.map(|row| row.name))
    }
}

/// Numbers and names of an address book; numbers without a country code are of `country` (two letters).
///
/// # Errors
/// [`Error::Invalid`] for an unknown country.
pub fn parse_contacts(text: &str, format: Format, country: Option<&str>) -> Result<Imported> {
    let region = country.map(region).transpose()?;
    let found = match format {
        Format::Vcf => read_vcards(text),
        Format::Csv => read_table(text),
    };
    let (mut imported, mut seen) = (Imported::default(), BTreeMap::new());
    for (number, name) in found {
        match normalise(&number, region) {
            Some(phone) => {
                let at = *seen.entry(phone.clone()).or_insert(imported.entries.len());
                match imported.entries.get_mut(at) {
                    Some(entry) if entry.name.is_empty() => entry.name = name,
                    Some(_) => {}
                    None => imported.entries.push(ImportedEntry { phone, name }),
                }
            }
            None => imported.unread.push(printable(&number)),
        }
    }
    Ok(imported)
}

fn region(country: &str) -> Result<Region> {
    let unknown = || Error::Invalid("write the country as two letters, like CH".to_owned());
    country.trim().to_uppercase().parse().map_err(|_| unknown())
}

/// E.164 of a number as people write it; national ones need a country.
fn normalise(text: &str, region: Option<Region>) -> Option<PhoneNumber> {
    let text = text.trim();
    let text = text.strip_prefix("tel:").unwrap_or(text);
    // Without a country, 00 is what most of the world dials before a country code.
    let international = text.strip_prefix("00").filter(|_| region.is_none()).map(|rest| format!("+{rest}"));
    let parsed = phonenumber::PhoneNumber::parse(international.as_deref().unwrap_or(text), region).ok()?;
    if !parsed.is_valid() {
        return None;
    }
    parsed.format_as(PhoneNumberFormat::E164).parse().ok()
}

/// `TEL` lines with the `FN` (or else `N`) of their card.
fn read_vcards(text: &str) -> Vec<(String, String)> {
    let (mut found, mut numbers, mut name, mut parts) = (Vec::new(), Vec::new(), String::new(), String::new());
    for line in unfold(text) {
        let Some((property, value)) = split_property(&line) else { continue };
        match property.as_str() {
            "TEL" => numbers.push(value),
            "FN" => name = printable(&unescape(&value)),
            "N" => parts = name_of_parts(&value),
            "END" => {
                let name = Some(std::mem::take(&mut name)).filter(|name| !name.is_empty());
                let name = name.unwrap_or_else(|| parts.clone());
                found.extend(numbers.drain(..).map(|number| (number, name.clone())));
                parts.clear();
            }
            _ => {}
        }
    }
    found
}

/// Long lines are folded: a line that begins with a blank goes on with the one before, and so does one after an `=` at the end of a
/// quoted-printable line (vCard 2.1).
fn unfold(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        match (line.strip_prefix([' ', '\t']), lines.last_mut()) {
            (_, Some(last)) if last.ends_with('=') && is_quoted_printable(last) => {
                last.pop();
                last.push_str(line);
            }
            (Some(rest), Some(last)) => last.push_str(rest),
            _ => lines.push(line.to_owned()),
        }
    }
    lines
}

fn is_quoted_printable(line: &str) -> bool {
    line.split(':').next().is_some_and(|property| property.to_uppercase().contains("QUOTED-PRINTABLE"))
}

/// `=C3=BC` and the like; what is not of this form stays as it is.
fn unquote(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text);
    while let Some((before, after)) = rest.split_once('=') {
        bytes.extend_from_slice(before.as_bytes());
        let byte = after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.unwrap_or(b'='));
        rest = if byte.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `group.NAME;parameters:value`: name in capitals, and value. A colon in quotes is part of a parameter.
fn split_property(line: &str) -> Option<(String, String)> {
    let mut quoted = false;
    let colon = line.char_indices().find(|(_, c)| {
        quoted ^= *c == '"';
        *c == ':' && !quoted
    })?;
    let (property, value) = line.split_at(colon.0);
    let name = property.split(';').next()?.rsplit('.').next()?;
    let value = value.strip_prefix(':')?;
    let value = if is_quoted_printable(line) { unquote(value) } else { value.to_owned() };
    Some((name.trim().to_uppercase(), value))
}

/// `family;given;…` as people say it.
fn name_of_parts(value: &str) -> String {
    let mut parts = value.split(';').map(unescape);
    let (family, given) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    printable(&format!("{given} {family}"))
}

fn unescape(text: &str) -> String {
    text.replace("\\n", " ").replace("\\N", " ").replace("\\,", ",").replace("\\;", ";").replace("\\\\", "\\")
}

/// Every field that looks like a number, with the first field that has letters as the name.
fn read_table(text: &str) -> Vec<(String, String)> {
    let separator =
        [';', '\t', ','].into_iter().max_by_key(|c| text.lines().next().map_or(0, |l| l.matches(*c).count()));
    let mut found = Vec::new();
    for fields in rows(text, separator.unwrap_or(',')) {
        let name = fields.iter().find(|field| has_letters(field)).map(|field| printable(field)).unwrap_or_default();
        let numbers = fields.iter().filter(|field| looks_like_a_number(field));
        // Several numbers in one field are how some programs write them.
        found.extend(numbers.flat_map(|field| field.split(":::")).map(|number| (number.to_owned(), name.clone())));
    }
    found
}

/// Rows of a table (RFC 4180): quoted fields may contain separators, line ends, and doubled quotes.
fn rows(text: &str, separator: char) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut field, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut characters = text.trim_start_matches('\u{feff}').chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '"' if quoted && characters.peek() == Some(&'"') => {
                field.push('"');
                characters.next();
            }
            '"' => quoted = !quoted,
            '\n' if !quoted => {
                row.push(std::mem::take(&mut field));
                rows.push(std::mem::take(&mut row));
            }
            c if c == separator && !quoted => row.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    row.push(field);
    rows.push(row);
    rows
}

fn has_letters(field: &str) -> bool {
    field.chars().any(char::is_alphabetic) && !field.contains('@')
}

/// Digits, and nothing that numbers are not written with. Dates and ids have separators of their own, or other lengths.
fn looks_like_a_number(field: &str) -> bool {
    field.split(":::").all(|part| {
        let part = part.trim();
        let digits = part.chars().filter(char::is_ascii_digit).count();
        let plain = part.chars().all(|c| c.is_ascii_digit() || c.is_whitespace() || "+()-./".contains(c));
        let lengths: Vec<_> = part.split(['-', '.', '/']).map(str::len).collect();
        let date = matches!(lengths[..], [4, 2, 2] | [2, 2, 4]);
        plain && !date && (FEWEST_DIGITS..=MOST_DIGITS).contains(&digits)
    })
}

/// Shown on a terminal one day: one line, no control characters, not without end.
fn printable(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MOST_NAME).collect();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
#[path = "import/tests.rs"]
mod tests;
