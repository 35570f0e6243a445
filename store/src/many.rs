//! One statement for many rows: the text is written for one, and repeated.
//!
//! Rows come in powers of two, so that an engine keeps a handful of prepared statements for each text and not hundreds.

use std::sync::OnceLock;

use crate::{Row, StoreError, Tx, Value};

/// The most rows of one statement; PostgreSQL takes 65,535 arguments.
const MOST_ROWS: usize = 256;
/// 1, 2, 4 … 256.
const SIZES: usize = 9;

/// A statement whose last group of arguments, `($1, $2, …)`, stands for one row. For a `static`.
#[derive(Debug)]
pub struct Many {
    one: &'static str,
    kind: Kind,
    texts: [OnceLock<String>; SIZES],
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// `values ($1, $2), ($3, $4)`
    Rows,
    /// `in ($1, $2)`
    List,
}

impl Many {
    /// `insert into … values ($1, $2) …`: as many groups as there are rows.
    pub const fn rows(one: &'static str) -> Self {
        Self { one, kind: Kind::Rows, texts: [const { OnceLock::new() }; SIZES] }
    }

    /// `… in ($1)`: as many arguments as there are rows, of one column.
    pub const fn list(one: &'static str) -> Self {
        Self { one, kind: Kind::List, texts: [const { OnceLock::new() }; SIZES] }
    }

    /// The statement for 2^`power` rows.
    fn text(&'static self, power: usize) -> Result<&'static str, StoreError> {
        const WRONG: StoreError = StoreError::Statement;
        let (start, end) = self.group().ok_or(WRONG)?;
        let (before, rest) = self.one.split_at_checked(start).ok_or(WRONG)?;
        let (group, after) = rest.split_at_checked(end.saturating_sub(start)).ok_or(WRONG)?;
        let inside = group.get(1..group.len().saturating_sub(1)).ok_or(WRONG)?;
        let columns = arguments(inside).max().ok_or(WRONG)?;
        let slot = self.texts.get(power).ok_or(WRONG)?;
        Ok(slot.get_or_init(|| {
            let rows = (0..1_usize << power).map(|row| numbered(inside, row.saturating_mul(columns)));
            let between = match self.kind {
                Kind::Rows => "), (",
                Kind::List => ", ",
            };
            format!("{before}({}){after}", rows.collect::<Vec<_>>().join(between))
        }))
    }

    /// Where the group begins and ends.
    fn group(&self) -> Option<(usize, usize)> {
        let start = self.one.rfind("($1")?;
        let length = self.one.get(start..)?.find(')')?;
        Some((start, start.saturating_add(length).saturating_add(1)))
    }
}

/// The numbers of the arguments in a text.
fn arguments(text: &str) -> impl Iterator<Item = usize> {
    text.split('$').skip(1).filter_map(|rest| {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        rest.get(..digits)?.parse().ok()
    })
}

/// The text with its arguments counted from another number on.
fn numbered(text: &str, from: usize) -> String {
    let mut parts = text.split('$');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for (argument, part) in arguments(text).zip(parts) {
        out.push_str(&format!("${}", argument.saturating_add(from)));
        out.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    out
}

impl Tx<'_> {
    /// Runs a statement for all rows; everything that it returns. Rows may come back in any order.
    ///
    /// # Errors
    /// [`StoreError`] as the engine reports it; the transaction must then be given up.
    pub async fn fetch_many(&mut self, many: &'static Many, rows: Vec<Vec<Value>>) -> Result<Vec<Row>, StoreError> {
        let mut found = Vec::new();
        let mut rows = rows.into_iter();
        loop {
            let left = rows.len().min(MOST_ROWS);
            let Some(power) = left.checked_ilog2() else { return Ok(found) };
            // A list is filled up with its last value; rows are what they are.
            let (take, fill) = match many.kind {
                Kind::Rows => (1_usize << power, 0),
                Kind::List => (left, left.next_power_of_two().saturating_sub(left)),
            };
            let mut args: Vec<Value> = rows.by_ref().take(take).flatten().collect();
            if let Some(last) = args.last().cloned() {
                args.extend(std::iter::repeat_n(last, fill));
            }
            let power = (take.saturating_add(fill)).checked_ilog2().and_then(|power| usize::try_from(power).ok());
            found.extend(self.fetch_all(many.text(power.unwrap_or(0))?, &args).await?);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_for_one_row_becomes_one_for_many() {
        static ROWS: Many = Many::rows("insert into t (a, b) values ($1, $2) on conflict (a) do nothing returning a");
        assert_eq!(
            ROWS.text(1).unwrap(),
            "insert into t (a, b) values ($1, $2), ($3, $4) on conflict (a) do nothing returning a"
        );
        static LITERAL: Many = Many::rows("insert into t values ($1, 'x', $2, $1)");
        assert_eq!(LITERAL.text(1).unwrap(), "insert into t values ($1, 'x', $2, $1), ($3, 'x', $4, $3)");
        static LIST: Many = Many::list("select a from t where a in ($1)");
        assert_eq!(LIST.text(0).unwrap(), "select a from t where a in ($1)");
        assert_eq!(LIST.text(2).unwrap(), "select a from t where a in ($1, $2, $3, $4)");
        static NONE: Many = Many::rows("select 1");
        assert!(matches!(NONE.text(0), Err(StoreError::Statement)));
    }
}
