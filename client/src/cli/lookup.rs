//! Commands that look numbers up.

use std::path::Path;

use postern_protocol::ids::PhoneNumber;
use serde_json::{Value, json};

use super::answer::{Answer, error_json};
use super::commands::RealClient;
use super::progress::counting;
use super::show;
use crate::error::{Error, Result};
use crate::lookup::{Format, Found, Outcome};

/// `postern find`.
pub(super) async fn find(client: &mut RealClient, json: bool, numbers: &[String], now: u64) -> Result<Answer> {
    let numbers: Vec<PhoneNumber> = numbers.iter().map(|text| number(text)).collect::<Result<_>>()?;
    look_up(client, json, &numbers, now).await
}

/// `postern contacts import`.
pub(super) async fn import(
    client: &mut RealClient,
    json: bool,
    file: &Path,
    country: Option<&str>,
    now: u64,
) -> Result<Answer> {
    let format = match file.extension().and_then(|extension| extension.to_str()) {
        Some("vcf") => Format::Vcf,
        Some("csv") => Format::Csv,
        _ => return Err(Error::Invalid("an address book is a .vcf or a .csv file".to_owned())),
    };
    let text = std::fs::read_to_string(file)
        .map_err(|error| Error::Invalid(format!("cannot read {}: {error}", file.display())))?;
    let imported = client.import_contacts(&text, format, country)?;
    let numbers: Vec<PhoneNumber> = imported.entries.iter().map(|entry| entry.phone.clone()).collect();
    let mut answer = look_up(client, json, &numbers, now).await?;
    if !imported.unread.is_empty() {
        let unread = imported.unread.len();
        answer
            .text
            .push_str(&format!("\n{unread} entries have no number in international form: --country CH reads them."));
    }
    if let Value::Object(object) = &mut answer.json {
        object.insert("unread".to_owned(), json!(imported.unread));
    }
    Ok(answer)
}

/// What was found before the budget ran out counts.
async fn look_up(client: &mut RealClient, json: bool, numbers: &[PhoneNumber], now: u64) -> Result<Answer> {
    let (found, short) = {
        let bar = counting(json);
        match client.find(numbers, &mut |progress| bar.show(progress)).await {
            Ok(found) => (found, None),
            Err(error @ Error::LookupBudget { .. }) => (client.found_before(numbers)?, Some(error)),
            Err(error) => return Err(error),
        }
    };
    let budget = client.lookup_budget().await.ok();
    let mut lines: Vec<String> = found.iter().map(|found| line(client, found)).collect::<Result<_>>()?;
    let hits = found.iter().filter(|found| matches!(found.outcome, Outcome::Listed { .. })).count();
    lines.push(format!("{hits} of {} can be written to.", found.len()));
    if let Some(budget) = &budget {
        let left = budget.stored + budget.askable;
        lines.push(format!("{left} look-ups left, more {}.", show::when(now, budget.until)));
    }
    let documents: Vec<Value> = found.iter().map(document).collect();
    let mut answer = Answer::new(json!({ "found": documents, "budget": budget }), lines.join("\n"));
    if let Some(error) = short {
        answer.exit = error.exit_code();
        answer.text.push_str(&format!("\nnot done: {error}"));
        if let Value::Object(object) = &mut answer.json {
            object.insert("error".to_owned(), error_json(&error));
        }
    }
    Ok(answer)
}

fn document(found: &Found) -> Value {
    let phone = found.phone.as_str();
    match &found.outcome {
        Outcome::Listed { link, contact } => {
            json!({ "phone": phone, "outcome": "listed", "card": link.to_string(), "contact": contact })
        }
        Outcome::NotListed => json!({ "phone": phone, "outcome": "not-listed" }),
    }
}

fn line(client: &RealClient, found: &Found) -> Result<String> {
    let name = client.name_of(found.phone.as_str())?.map(|name| show::plain(&name)).unwrap_or_default();
    let what = match &found.outcome {
        Outcome::Listed { contact, .. } => format!("{contact}  {:<16}  {name}", found.phone.as_str()),
        Outcome::NotListed => format!("-         {:<16}  {name}  not listed", found.phone.as_str()),
    };
    Ok(what)
}

fn number(text: &str) -> Result<PhoneNumber> {
    text.parse().map_err(|error: postern_protocol::ids::NotE164| Error::Invalid(error.to_string()))
}
