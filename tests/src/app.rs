//! The main flow as people live it with the `postern` command, again and again while servers fall, with a count of all that must be there
//! when they are done.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::person::Person;
use crate::world::{Place, Programs};

/// Tokens that an account begins with.
const TOKENS: usize = 5;

/// Somebody of a circle, and what must be found with them.
#[derive(Debug)]
struct Member {
    person: Person,
    /// Texts that were written to them and are no spam.
    texts: Vec<String>,
    /// Texts that they reported.
    spam: Vec<String>,
    /// Tokens of theirs that came back.
    returned: usize,
    /// Tokens of theirs that were burnt.
    burnt: usize,
}

/// What a circle did, as its people saw it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Deeds {
    /// Who registered.
    pub people: usize,
    /// Rounds that were done to their end.
    pub rounds: usize,
    /// Messages that were written, each once.
    pub messages: usize,
    /// Those of them that a reply credential paid for.
    pub replies: usize,
    /// First messages of an Olm session that were made with a one-time prekey.
    pub prekeys: usize,
    /// Tokens that came back.
    pub returned: usize,
    /// Tokens that were burnt.
    pub burnt: usize,
}

impl std::iter::Sum for Deeds {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            people: sum.people + one.people,
            rounds: sum.rounds + one.rounds,
            messages: sum.messages + one.messages,
            replies: sum.replies + one.replies,
            prekeys: sum.prekeys + one.prekeys,
            returned: sum.returned + one.returned,
            burnt: sum.burnt + one.burnt,
        })
    }
}

/// A host, and people who come one after the other. A round:
///
/// 1. A newcomer registers. The host writes to the newcomer's card link, twice, for a token each; the newcomer reads and accepts; the host
///    exchanges both tokens. From the third round on some that were exchanged for are spent.
/// 2. The newcomer answers by the reply credential that came with it, the host finds out who it was, and writes once more, free of charge.
/// 3. The newcomer writes to whoever came before, who reports it as spam.
#[derive(Debug)]
pub struct Circle<'a> {
    programs: &'a Programs,
    dir: &'a Path,
    place: &'a Place,
    number: usize,
    members: Vec<Member>,
    deeds: Deeds,
}

impl<'a> Circle<'a> {
    /// Circle `number`, below 100; profiles lie in `dir`.
    pub fn new(programs: &'a Programs, dir: &'a Path, place: &'a Place, number: usize) -> Self {
        Self { programs, dir, place, number, members: Vec::new(), deeds: Deeds::default() }
    }

    /// Lives rounds until told that it is enough, and at least so many; then looks whether everything is there.
    pub fn live(mut self, enough: &AtomicBool, at_least: usize) -> Deeds {
        let host = self.newcomer();
        let mut before = None;
        while self.deeds.rounds < at_least || !enough.load(Ordering::SeqCst) {
            let newcomer = self.newcomer();
            self.befriend(host, newcomer);
            self.chat(host, newcomer);
            if let Some(before) = before.replace(newcomer) {
                self.report(newcomer, before);
            }
            self.deeds.rounds += 1;
        }
        self.members.iter().for_each(Member::check);
        self.deeds
    }

    fn newcomer(&mut self) -> usize {
        let index = self.members.len();
        assert!(index < 100, "there are a hundred numbers for a circle");
        let (name, phone) =
            (format!("person-{}-{index}", self.number), format!("+4179126{:02}{index:02}", self.number));
        let person = Person::new(self.programs, self.dir, &name, &phone);
        person.register(self.place);
        self.members.push(Member { person, texts: Vec::new(), spam: Vec::new(), returned: 0, burnt: 0 });
        self.deeds.people += 1;
        index
    }

    /// Writes a text that nobody wrote before, until the relay has confirmed it; what the command said.
    fn write(&mut self, from: usize, to: &str) -> (String, Value) {
        let text = format!("message {} of circle {}", self.deeds.messages, self.number);
        let person = &self.members[from].person;
        let sent = person.until_ok(&["send", to, &text]);
        if sent["status"] == "queued" {
            person.until_ok(&["sync"]);
        }
        self.deeds.messages += 1;
        (text, sent)
    }

    /// Reads; the message with this text, which must be there once.
    fn read(&mut self, reader: usize, text: &str) -> Value {
        let mut found = self.members[reader].person.messages();
        found.retain(|message| message["text"] == *text);
        assert_eq!(found.len(), 1, "{text}: confirmed, and there so often");
        self.members[reader].texts.push(text.to_owned());
        found.remove(0)
    }

    /// Writes for a token to somebody who has not answered.
    fn write_cold(&mut self, from: usize, card: &str) -> String {
        let (text, sent) = self.write(from, card);
        assert_eq!(sent["paid"]["by"], "token");
        // Nothing for a later message of a session. A claim that a falling relay never answered leaves the fallback key.
        let keys = [Value::Null, "one-time".into(), "unavailable".into()];
        assert!(keys.contains(&sent["first_key"]), "{sent}");
        self.deeds.prekeys += usize::from(sent["first_key"] == "one-time");
        text
    }

    fn befriend(&mut self, host: usize, newcomer: usize) {
        let card = self.members[newcomer].person.card();
        let texts = [self.write_cold(host, &card), self.write_cold(host, &card)];
        let messages = texts.map(|text| self.read(newcomer, &text));
        for message in &messages {
            assert_eq!((&message["folder"], &message["by"]), (&"requests".into(), &"token".into()));
            assert_eq!(message["from"], self.members[host].person.phone);
        }
        let reader = &self.members[newcomer].person;
        // One stands for all that they wrote. The relay was told at once, or is told now.
        reader.ok(&["accept", messages[0]["id"].as_str().unwrap()]);
        reader.until_ok(&["sync"]);
        let host = &mut self.members[host];
        host.person.until_ok(&["sync"]);
        host.returned += messages.len();
        self.deeds.returned += messages.len();
        assert_eq!(host.person.ok(&["tokens"])["left"], TOKENS, "released, asked for, and not back");
    }

    fn chat(&mut self, host: usize, newcomer: usize) {
        for (from, to) in [(newcomer, host), (host, newcomer)] {
            let name = self.members[to].person.phone.clone();
            let (text, sent) = self.write(from, &name);
            assert_eq!((&sent["paid"]["by"], &sent["tokens_left"]), (&"reply".into(), &TOKENS.into()));
            let message = self.read(to, &text);
            assert_eq!(message["folder"], "inbox");
            let who = self.members[to].person.ok(&["who", message["id"].as_str().unwrap()]);
            assert_eq!(who["who"]["by"], "reply");
            assert_eq!(who["who"]["contact"]["phone"], self.members[from].person.phone);
            self.deeds.replies += 1;
        }
    }

    fn report(&mut self, spammer: usize, victim: usize) {
        let card = self.members[victim].person.card();
        let text = self.write_cold(spammer, &card);
        let message = self.read(victim, &text);
        let reader = &mut self.members[victim];
        reader.person.ok(&["spam", message["id"].as_str().unwrap()]);
        reader.person.until_ok(&["sync"]);
        reader.texts.pop();
        reader.spam.push(text);
        self.members[spammer].burnt += 1;
        self.deeds.burnt += 1;
    }
}

impl Member {
    /// Everything that was written is there once and nothing else is; every token is where it must be.
    fn check(&self) {
        let (person, name) = (&self.person, &self.person.name);
        assert_eq!(texts(person.messages()), sorted(&self.texts), "{name}");
        let junk = person.until_ok(&["inbox", "--junk"])["messages"].as_array().unwrap().clone();
        assert_eq!(texts(junk), sorted(&self.spam), "{name}");
        let screen = person.ok(&["tokens"]);
        let counts = ["left", "sending", "renewing"].map(|what| screen[what].as_u64().unwrap());
        assert_eq!(counts, [(TOKENS - self.burnt) as u64, 0, 0], "{name}: {screen}");
        assert_eq!(screen["out"].as_array().unwrap().len(), self.burnt, "{name}: a burnt token is out for ever");
        let answered = screen["answered"].as_array().unwrap();
        assert!(answered.iter().all(|token| token["outcome"] == "returned"), "{name}: {screen}");
        assert_eq!(answered.len(), self.returned, "{name}: {screen}");
    }
}

fn texts(messages: Vec<Value>) -> Vec<String> {
    sorted(&messages.iter().map(|message| message["text"].as_str().unwrap().to_owned()).collect::<Vec<_>>())
}

fn sorted(texts: &[String]) -> Vec<String> {
    let mut texts = texts.to_vec();
    texts.sort();
    texts
}
