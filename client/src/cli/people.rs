//! Commands about people: who there is, who wrote, who is let through.

use serde_json::json;

use super::answer::Answer;
use super::commands::RealClient;
use super::progress::spinning;
use crate::contact::{Contact, Standing};
use crate::error::{Error, Result};
use crate::reply::{BlockChange, By};

/// `postern contacts`.
pub(super) fn contacts(client: &RealClient) -> Result<Answer> {
    let contacts = client.contacts()?;
    let lines: Vec<String> = contacts.iter().map(line).collect();
    let text = if lines.is_empty() { "No contacts.".to_owned() } else { lines.join("\n") };
    Ok(Answer::new(json!({ "contacts": contacts }), text))
}

fn line(contact: &Contact) -> String {
    format!("{}  {:<16}  {}", contact.id, contact.phone, standing(contact.standing))
}

const fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Contact => "contact",
        Standing::Request => "request",
        Standing::Declined => "declined",
        Standing::Spam => "spam",
        Standing::Blocked => "blocked",
    }
}

/// `postern block`.
pub(super) async fn block(client: &mut RealClient, json: bool, name: &str, reveal: bool) -> Result<Answer> {
    let change = spinning(json, "telling the relay", client.block(name, reveal)).await?;
    Ok(changed(change, "is blocked: nothing of theirs is shown from now on, and they are not told"))
}

/// `postern unblock`.
pub(super) async fn unblock(client: &mut RealClient, json: bool, name: &str) -> Result<Answer> {
    let change = spinning(json, "telling the relay", client.unblock(name)).await?;
    Ok(changed(change, "is a contact again"))
}

fn changed(change: BlockChange, what: &str) -> Answer {
    let (relay_knows, later) = match change.failure {
        None => (true, ""),
        Some(_) => (false, "\nThe relay hears of it at the next `postern sync`."),
    };
    let text = format!("{} {what}.{later}", change.contact.phone);
    let json = json!({ "contact": change.contact, "relay_knows": relay_knows });
    noted(Answer::new(json, text), change.failure)
}

/// What was decided stands; telling the relay is a matter of the next sync.
fn noted(answer: Answer, failure: Option<Error>) -> Answer {
    let failures: Vec<Error> = failure.into_iter().collect();
    Answer { exit: 0, ..answer.failures(&failures) }
}

/// `postern who`.
pub(super) fn who(client: &RealClient, id: &str) -> Result<Answer> {
    let who = client.who(id)?;
    let name = who.contact.as_ref().map_or("nobody that you know", |contact| contact.phone.as_str());
    let text = match (who.by, who.slot) {
        (By::Reply, Some(slot)) => format!("It came by a reply credential of {name} (slot {slot})."),
        (By::Reply, None) => "It came by a reply credential that is none of your contacts'.".to_owned(),
        (By::Token, _) => format!("It came by a token; certified as its sender: {name}."),
    };
    Ok(Answer::new(json!({ "who": who }), text))
}

/// `postern rotate-reply-key`.
pub(super) async fn rotate(client: &mut RealClient, json: bool, at_once: bool) -> Result<Answer> {
    let rotated = spinning(json, "telling the relay", client.rotate_reply_key(at_once)).await?;
    let old = if at_once { "The old one is dropped" } else { "The old one is taken until its credentials end" };
    let text = format!(
        "Reply key {} is in force. {old}; your contacts get new credentials with your next messages to them.",
        rotated.key_version
    );
    let json = json!({ "key_version": rotated.key_version, "relay_knows": rotated.failure.is_none() });
    Ok(noted(Answer::new(json, text), rotated.failure))
}
