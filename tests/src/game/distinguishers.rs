//! The adversary: everything we could think of, each by itself and the best of all.

use postern_protocol::lookup::LookupToken;

use super::evidence::{Adversary, Contact, View};
use super::lookups::{FILLED_UP, FIXED_DELAY, Played};
use super::people::CANDIDATES;
use super::statistics::Tally;

/// What is to be found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Question {
    /// Which of a thousand accounts looked a number up.
    Who,
    /// Which of a thousand numbers.
    Which,
    /// Whether it is listed: no, yes.
    Whether,
}

impl Question {
    /// How many answers there are.
    pub const fn candidates(self) -> usize {
        match self {
            Self::Who | Self::Which => CANDIDATES,
            Self::Whether => 2,
        }
    }

    /// The answer.
    pub fn secret(self, played: &Played) -> usize {
        match self {
            Self::Who => played.account,
            Self::Which => played.number,
            Self::Whether => usize::from(played.listed),
        }
    }
}

/// One way to tell.
#[derive(Clone, Copy)]
pub struct Distinguisher {
    /// What it answers.
    pub question: Question,
    /// What it looks at.
    pub name: &'static str,
    /// A score for each candidate.
    score: fn(&mut Adversary, &View<'_>) -> Vec<f64>,
}

const fn by(question: Question, name: &'static str, score: fn(&mut Adversary, &View<'_>) -> Vec<f64>) -> Distinguisher {
    Distinguisher { question, name, score }
}

/// The name of all of a question together.
pub const BEST: &str = "best of all";

/// All of them.
pub const ALL: &[Distinguisher] = &[
    by(Question::Who, "equal bytes", equal_bytes),
    by(Question::Who, "rows touched", |_, v| each(CANDIDATES, |i| truth(v.touched.contains(&i)))),
    by(Question::Who, "order of asking", |a, v| each(CANDIDATES, |i| near(a.asked[0][i], v.round % CANDIDATES))),
    by(Question::Who, "order of rows", |a, v| each(CANDIDATES, |i| near(a.asked[1][i], v.round % CANDIDATES))),
    by(Question::Who, "asked last", |a, v| best(a, v, |c, v| (before(c, v) && c.tokens > 0).then_some(c.place as f64))),
    by(Question::Who, "asked so long ago", |a, v| best(a, v, asked_so_long_ago)),
    by(Question::Who, "asked in the window", |a, v| best(a, v, asked_in_window)),
    by(Question::Who, "seen before", |a, v| best(a, v, |c, v| before(c, v).then_some(c.place as f64))),
    by(Question::Who, "seen meanwhile", |a, v| best(a, v, |c, v| v.places.contains(&c.place).then_some(1.0))),
    by(Question::Who, "seen next", |a, v| best(a, v, |c, v| (c.place >= v.places.end).then_some(-(c.place as f64)))),
    by(Question::Who, "connection", |a, v| best(a, v, same_connection)),
    by(Question::Who, "as many as are left", as_many_as_left),
    by(Question::Who, "as many asked for next", |a, v| best(a, v, as_many_next)),
    by(Question::Who, "size of the log", size_of_log),
    by(Question::Which, "equal bytes", |a, v| a.numbers.scores(&v.fields)),
    by(Question::Which, "bucket", bucket),
    by(Question::Which, "card", card),
    by(Question::Which, "ascending", ascending),
    by(Question::Whether, "records fetched", |a, v| {
        let many = v.requests.iter().filter(|request| request.path.contains("/records/")).count();
        more("records", a, many)
    }),
    by(Question::Whether, "number of requests", |a, v| more("requests", a, v.requests.len())),
    by(Question::Whether, "bytes answered", |a, v| {
        more("bytes", a, v.requests.iter().map(|request| request.answer.len()).sum())
    }),
    by(Question::Whether, "card", |a, v| {
        let many = v.requests.iter().filter(|request| request.path.ends_with("/card")).count();
        more("cards", a, many)
    }),
];

fn each(candidates: usize, score: impl Fn(usize) -> f64) -> Vec<f64> {
    (0..candidates).map(score).collect()
}

fn truth(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}

fn near(a: usize, b: usize) -> f64 {
    -(a.abs_diff(b) as f64)
}

fn equal_bytes(a: &mut Adversary, view: &View<'_>) -> Vec<f64> {
    let (before, since) = (a.accounts.scores(&view.fields), a.accounts_since.scores(&view.fields));
    before.iter().zip(since).map(|(before, since)| before + since).collect()
}

/// The best score of each account's contacts.
fn best(a: &Adversary, view: &View<'_>, score: impl Fn(&Contact, &View<'_>) -> Option<f64>) -> Vec<f64> {
    let mut scores = vec![f64::MIN; CANDIDATES];
    for contact in &a.contacts {
        if let Some(score) = score(contact, view) {
            scores[contact.account] = scores[contact.account].max(score);
        }
    }
    scores
}

fn before(contact: &Contact, view: &View<'_>) -> bool {
    contact.place < view.places.start
}

fn asked_so_long_ago(contact: &Contact, view: &View<'_>) -> Option<f64> {
    let ago = view.times[0].0.saturating_sub(contact.at.0);
    (before(contact, view) && contact.tokens > 0).then(|| -(ago.abs_diff(FIXED_DELAY * 1000) as f64))
}

fn asked_in_window(contact: &Contact, view: &View<'_>) -> Option<f64> {
    (before(contact, view) && contact.tokens > 0 && contact.at.seconds() / 86_400 == view.asked.window).then_some(1.0)
}

fn same_connection(contact: &Contact, view: &View<'_>) -> Option<f64> {
    let connections = view.requests.iter().map(|request| request.connection);
    connections.map(|connection| -(connection.abs_diff(contact.connection) as f64)).reduce(f64::max)
}

/// A batch of odd size is what was left of what the account had asked for.
fn as_many_as_left(a: &mut Adversary, view: &View<'_>) -> Vec<f64> {
    let mut issued = vec![0; CANDIDATES];
    let contacts = a.contacts.iter().filter(|contact| contact.place < view.places.start);
    contacts.for_each(|contact| issued[contact.account] += contact.tokens);
    each(CANDIDATES, |i| truth(issued[i] % FILLED_UP == view.asked.tokens.len() % FILLED_UP))
}

fn as_many_next(contact: &Contact, view: &View<'_>) -> Option<f64> {
    let next = contact.place >= view.places.end && contact.tokens == view.asked.tokens.len();
    next.then_some(-(contact.place as f64))
}

/// Who asks what came after the log had this size last saw it then.
fn size_of_log(a: &mut Adversary, view: &View<'_>) -> Vec<f64> {
    let from = view.requests.iter().find_map(|request| request.path.split_once("?from=")?.1.split('&').next());
    let from: Option<u64> = from.and_then(|from| from.parse().ok());
    let mut seen = vec![None; CANDIDATES];
    let contacts = a.contacts.iter().filter(|contact| contact.place < view.places.start && contact.tokens > 0);
    contacts.for_each(|contact| seen[contact.account] = Some(a.log_size(contact.at)));
    each(CANDIDATES, |i| truth(from.is_some() && from == seen[i]))
}

/// Whoever is in a bucket that was fetched, if they are listed.
fn bucket(a: &mut Adversary, view: &View<'_>) -> Vec<f64> {
    let fetched: Vec<u32> =
        view.requests.iter().filter_map(|request| request.path.split_once("/records/")?.1.parse().ok()).collect();
    // With one bucket it says nothing but that it was fetched, which is another question.
    let several = a.buckets.iter().any(|bucket| *bucket != 0);
    each(CANDIDATES, |i| truth(several && a.listed[i] && fetched.contains(&a.buckets[i])))
}

fn card(a: &mut Adversary, view: &View<'_>) -> Vec<f64> {
    let is_of = |mailbox: &String| view.requests.iter().any(|request| request.path.contains(mailbox.as_str()));
    each(CANDIDATES, |i| truth(a.mailboxes[i].as_ref().is_some_and(is_of)))
}

fn ascending(a: &mut Adversary, view: &View<'_>) -> Vec<f64> {
    let here = view.round * CANDIDATES / a.rounds;
    each(CANDIDATES, |i| near(a.ascending[i], here))
}

/// More than usual means that somebody was found, fewer that nobody was.
fn more(what: &'static str, a: &mut Adversary, measured: usize) -> Vec<f64> {
    let deviation = a.deviation(what, measured as f64);
    vec![0.0, deviation]
}

/// The adversary in a game, with what it achieved.
pub struct Tallies {
    adversary: Adversary,
    /// One for each of [`ALL`], then one for each question's best.
    tallies: Vec<(Question, &'static str, Tally)>,
}

const QUESTIONS: [Question; 3] = [Question::Who, Question::Which, Question::Whether];

impl Tallies {
    /// Nothing yet.
    pub fn new(adversary: Adversary) -> Self {
        let names = ALL.iter().map(|d| (d.question, d.name)).chain(QUESTIONS.map(|question| (question, BEST)));
        let tally = |(n, (question, name)): (usize, (Question, &'static str))| {
            (question, name, Tally::new(question.candidates(), n as u64))
        };
        Self { adversary, tallies: names.enumerate().map(tally).collect() }
    }

    /// Goes on with another game.
    pub fn go_on(&mut self, adversary: Adversary) {
        self.adversary = adversary;
    }

    /// Plays a round.
    pub fn add(&mut self, round: usize, played: &Played) {
        let view = self.adversary.look_at(round, played);
        assert!(view.asked.tokens.iter().all(|token| token.0.len() == LookupToken::LEN));
        let mut standings = QUESTIONS.map(|question| vec![0.0; question.candidates()]);
        for (n, distinguisher) in ALL.iter().enumerate() {
            let scores = (distinguisher.score)(&mut self.adversary, &view);
            for (standing, scored) in standings[distinguisher.question as usize].iter_mut().zip(surprise(&scores)) {
                *standing = f64::max(*standing, scored);
            }
            self.tallies[n].2.add(&scores, distinguisher.question.secret(played));
        }
        for (n, question) in QUESTIONS.iter().enumerate() {
            self.tallies[ALL.len() + n].2.add(&standings[n], question.secret(played));
        }
    }

    /// What came out.
    pub fn results(&self) -> &[(Question, &'static str, Tally)] {
        &self.tallies
    }

    /// What one of them achieved.
    pub fn of(&self, question: Question, name: &str) -> &Tally {
        &self.tallies.iter().find(|(q, n, _)| (*q, *n) == (question, name)).unwrap().2
    }
}

/// How remarkable each candidate's score is: the share of candidates that do not have as high a one.
fn surprise(scores: &[f64]) -> Vec<f64> {
    let mut sorted = scores.to_vec();
    sorted.sort_by(f64::total_cmp);
    let of = |score: &f64| {
        let below = sorted.partition_point(|other| other < score);
        below as f64 / scores.len() as f64
    };
    scores.iter().map(of).collect()
}
