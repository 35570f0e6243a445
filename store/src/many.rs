//! One statement for many rows: the text is written for one, and each engine gets it in the form that suits it.
//!
//! PostgreSQL takes a column as one argument, an array: one statement for any number of rows. SQLite takes rows one after the other, in
//! powers of two, so that it keeps a handful of prepared statements for each text and not hundreds. Its arguments are bare `?`: those
//! with a number have a name, and names are looked up one by one.

use std::sync::OnceLock;

use crate::{Row, StoreError, Tx, Value};

/// The most rows of one statement at SQLite; at PostgreSQL a multiple.
pub(crate) const MOST_ROWS: usize = 256;
/// 1, 2, 4 … 256.
const SIZES: usize = 9;

/// What the column of an argument holds, or NULL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// BIGINT.
    Int,
    /// TEXT.
    Text,
    /// BLOB, BYTEA.
    Blob,
}

impl Column {
    const fn array(self) -> &'static str {
        match self {
            Self::Int => "bigint[]",
            Self::Text => "text[]",
            Self::Blob => "bytea[]",
        }
    }
}

/// A statement whose last group of arguments, `($1, $2, …)`, stands for one row. For a `static`.
#[derive(Debug)]
pub struct Many {
    one: &'static str,
    kind: Kind,
    columns: &'static [Column],
    sizes: [OnceLock<String>; SIZES],
    arrays: OnceLock<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// `VALUES ($1, $2), ($3, $4)`
    Rows,
    /// `IN ($1, $2)`
    List,
}

/// A text around its group.
struct Parts {
    before: &'static str,
    inside: &'static str,
    after: &'static str,
}

const WRONG: StoreError = StoreError::Statement;

impl Many {
    /// `INSERT INTO … VALUES ($1, $2) …`: as many groups as there are rows, of these columns.
    pub const fn rows(one: &'static str, columns: &'static [Column]) -> Self {
        Self::of(one, Kind::Rows, columns)
    }

    /// `… IN ($1)`: as many arguments as there are rows, of one column.
    pub const fn list(one: &'static str, columns: &'static [Column; 1]) -> Self {
        Self::of(one, Kind::List, columns)
    }

    const fn of(one: &'static str, kind: Kind, columns: &'static [Column]) -> Self {
        Self { one, kind, columns, sizes: [const { OnceLock::new() }; SIZES], arrays: OnceLock::new() }
    }

    pub(crate) const fn columns(&self) -> &'static [Column] {
        self.columns
    }

    /// The group, and what stands around it without the word before it.
    fn parts(&self) -> Result<Parts, StoreError> {
        let word = if self.kind == Kind::Rows { "VALUES " } else { "IN " };
        let start = self.one.rfind("($1").ok_or(WRONG)?;
        let (before, rest) = self.one.split_at_checked(start).ok_or(WRONG)?;
        let (inside, after) = rest.get(1..).and_then(|rest| rest.split_once(')')).ok_or(WRONG)?;
        let (before, found) = before.split_at_checked(before.len().saturating_sub(word.len())).ok_or(WRONG)?;
        if !found.eq_ignore_ascii_case(word) {
            return Err(WRONG);
        }
        let sound = arguments(inside).all(|argument| (1..=self.columns.len()).contains(&argument));
        if sound { Ok(Parts { before, inside, after }) } else { Err(WRONG) }
    }

    /// For SQLite: the statement for 2^`power` rows.
    fn sized(&'static self, power: usize) -> Result<&'static str, StoreError> {
        let Parts { before, inside, after } = self.parts()?;
        let slot = self.sizes.get(power).ok_or(WRONG)?;
        Ok(slot.get_or_init(|| {
            let row = replaced(inside, |_| "?".to_owned());
            let (word, between) = match self.kind {
                Kind::Rows => ("VALUES", "), ("),
                Kind::List => ("IN", ", "),
            };
            let rows = vec![row.as_str(); 1 << power].join(between);
            format!("{before}{word} ({rows}){after}")
        }))
    }

    /// For PostgreSQL: the statement with an array for each column.
    pub(crate) fn arrays(&'static self) -> Result<&'static str, StoreError> {
        let Parts { before, inside, after } = self.parts()?;
        Ok(self.arrays.get_or_init(|| {
            let numbered = (1_usize..).zip(self.columns);
            let arrays: Vec<_> = numbered.clone().map(|(n, column)| format!("${n}::{}", column.array())).collect();
            let arrays = arrays.join(", ");
            match self.kind {
                Kind::List => format!("{before}= ANY({arrays}){after}"),
                Kind::Rows => {
                    let names: Vec<_> = numbered.map(|(n, _)| format!("c{n}")).collect();
                    let row = replaced(inside, |n| format!("a.c{n}"));
                    format!("{before}SELECT {row} FROM UNNEST({arrays}) AS a ({}){after}", names.join(", "))
                }
            }
        }))
    }

    /// For SQLite: takes rows for one statement, with the statement and its arguments in the order of the question marks.
    pub(crate) fn take(
        &'static self,
        rows: &mut std::vec::IntoIter<Vec<Value>>,
    ) -> Result<Option<(&'static str, Vec<Value>)>, StoreError> {
        let left = rows.len().min(MOST_ROWS);
        let Some(power) = left.checked_ilog2() else { return Ok(None) };
        // A list is filled up with its last value; rows are what they are.
        let (take, fill) = match self.kind {
            Kind::Rows => (1_usize << power, 0),
            Kind::List => (left, left.next_power_of_two().saturating_sub(left)),
        };
        let places: Vec<_> = arguments(self.parts()?.inside).map(|argument| argument.saturating_sub(1)).collect();
        let mut args = Vec::with_capacity(take.saturating_add(fill).saturating_mul(places.len()));
        for row in rows.by_ref().take(take) {
            for place in &places {
                args.push(row.get(*place).ok_or(WRONG)?.clone());
            }
        }
        if let Some(last) = args.last().cloned() {
            args.extend(std::iter::repeat_n(last, fill));
        }
        let power = take.saturating_add(fill).checked_ilog2().and_then(|power| usize::try_from(power).ok());
        Ok(Some((self.sized(power.unwrap_or(0))?, args)))
    }
}

/// The numbers of the arguments in a text, in order.
fn arguments(text: &str) -> impl Iterator<Item = usize> {
    text.split('$').skip(1).filter_map(|rest| {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        rest.get(..digits)?.parse().ok()
    })
}

/// The text with something else in the place of each argument.
fn replaced(text: &str, by: impl Fn(usize) -> String) -> String {
    let mut parts = text.split('$');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for (argument, part) in arguments(text).zip(parts) {
        out.push_str(&by(argument));
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
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let result = self.connection()?.fetch_many(many, rows).await;
        self.note(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static ROWS: Many = Many::rows(
        "INSERT INTO t (a, b, c) VALUES ($1, 'x', $2, $1) ON CONFLICT (a) DO NOTHING RETURNING a",
        &[Column::Blob, Column::Int],
    );
    static LIST: Many = Many::list("SELECT a FROM t WHERE a IN ($1) AND b = 1", &[Column::Text]);

    #[test]
    fn a_text_for_one_row_becomes_one_for_many_in_powers_of_two() {
        assert_eq!(
            ROWS.sized(1).unwrap(),
            "INSERT INTO t (a, b, c) VALUES (?, 'x', ?, ?), (?, 'x', ?, ?) ON CONFLICT (a) DO NOTHING RETURNING a"
        );
        assert_eq!(LIST.sized(0).unwrap(), "SELECT a FROM t WHERE a IN (?) AND b = 1");
        assert_eq!(LIST.sized(2).unwrap(), "SELECT a FROM t WHERE a IN (?, ?, ?, ?) AND b = 1");
    }

    #[test]
    fn arguments_stand_where_their_question_marks_do() {
        let rows: Vec<Vec<Value>> = (0..3).map(|n| vec![[n].into(), i64::from(n).into()]).collect();
        let mut rows = rows.into_iter();
        let (text, args) = ROWS.take(&mut rows).unwrap().unwrap();
        assert_eq!(text.matches('?').count(), 6);
        let row = |n: u8| [Value::from([n]), i64::from(n).into(), [n].into()];
        assert_eq!(args, [row(0), row(1)].concat());
        assert_eq!(ROWS.take(&mut rows).unwrap().unwrap().1, row(2));
        assert!(ROWS.take(&mut rows).unwrap().is_none());
        let mut rows = vec![vec!["a".into()], vec!["b".into()], vec!["c".into()]].into_iter();
        let (text, args) = LIST.take(&mut rows).unwrap().unwrap();
        assert_eq!((text.matches('?').count(), args), (4, ["a", "b", "c", "c"].map(Value::from).to_vec()));
    }

    #[test]
    fn a_text_for_one_row_becomes_one_with_an_array_for_each_column() {
        assert_eq!(
            ROWS.arrays().unwrap(),
            "INSERT INTO t (a, b, c) SELECT a.c1, 'x', a.c2, a.c1 FROM UNNEST($1::bytea[], $2::bigint[]) AS a (c1, c2) \
             ON CONFLICT (a) DO NOTHING RETURNING a"
        );
        assert_eq!(LIST.arrays().unwrap(), "SELECT a FROM t WHERE a = ANY($1::text[]) AND b = 1");
    }

    #[test]
    fn a_text_without_such_a_group_and_a_row_that_is_too_short_are_refused() {
        static NONE: Many = Many::rows("SELECT 1", &[Column::Int]);
        static BEYOND: Many = Many::rows("INSERT INTO t VALUES ($1, $2)", &[Column::Int]);
        for many in [&NONE, &BEYOND] {
            assert!(matches!(many.sized(0), Err(StoreError::Statement)));
            assert!(matches!(many.arrays(), Err(StoreError::Statement)));
        }
        assert!(matches!(ROWS.take(&mut vec![vec![Value::Null]].into_iter()), Err(StoreError::Statement)));
    }
}
