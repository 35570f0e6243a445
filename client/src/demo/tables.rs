//! Reads every table of a server's SQLite file, to show what that server knows and to search it.

use std::collections::BTreeSet;
use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

/// One table, whole.
pub(super) struct Table {
    pub(super) name: String,
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<Vec<Cell>>,
}

/// One value.
pub(super) enum Cell {
    Null,
    Integer(i64),
    Text(String),
    Blob(Vec<u8>),
}

impl Cell {
    fn from(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Null => Self::Null,
            ValueRef::Integer(n) => Self::Integer(n),
            ValueRef::Real(x) => Self::Text(x.to_string()),
            ValueRef::Text(bytes) => Self::Text(String::from_utf8_lossy(bytes).into_owned()),
            ValueRef::Blob(bytes) => Self::Blob(bytes.to_vec()),
        }
    }

    /// The bytes to search for or in; integers name nobody.
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Null | Self::Integer(_) => &[],
            Self::Text(text) => text.as_bytes(),
            Self::Blob(bytes) => bytes,
        }
    }

    /// A few characters for the screen.
    pub(super) fn short(&self) -> String {
        match self {
            Self::Null => "-".to_owned(),
            Self::Integer(n) => n.to_string(),
            Self::Text(text) if text.chars().count() <= 14 => text.clone(),
            Self::Text(text) => text.chars().take(13).chain(['…']).collect(),
            Self::Blob(bytes) => {
                let head: String = bytes.iter().take(3).map(|b| format!("{b:02x}")).collect();
                if bytes.len() > 3 { format!("{head}…[{}]", bytes.len()) } else { head }
            }
        }
    }
}

/// All tables of the file but SQLite's own and the migration log, in order of name.
pub(super) fn read(file: &Path) -> rusqlite::Result<Vec<Table>> {
    let db = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    let mut statement = db.prepare(
        "select name from sqlite_schema where type = 'table' and name not like 'sqlite\\_%' escape '\\'
         and name <> 'schema_history' order by name",
    )?;
    let names: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    names.into_iter().map(|name| read_table(&db, name)).collect()
}

fn read_table(db: &Connection, name: String) -> rusqlite::Result<Table> {
    let mut statement = db.prepare(&format!("select * from \"{name}\""))?;
    let columns: Vec<String> = statement.column_names().into_iter().map(str::to_owned).collect();
    let width = columns.len();
    let rows = statement
        .query_map([], |row| (0..width).map(|i| row.get_ref(i).map(Cell::from)).collect())?
        .collect::<rusqlite::Result<_>>()?;
    Ok(Table { name, columns, rows })
}

/// Whether any value of any row of these tables contains `needle` as it is, in base64url or in hexadecimal.
pub(super) fn contains(tables: &[Table], needle: &[u8]) -> Option<String> {
    let spellings = [
        needle.to_vec(),
        postern_protocol::ids::encode_base64(needle).into_bytes(),
        needle.iter().flat_map(|b| format!("{b:02x}").into_bytes()).collect(),
    ];
    for table in tables {
        for cell in table.rows.iter().flatten() {
            let hit = |spelling: &Vec<u8>| cell.bytes().windows(spelling.len()).any(|window| window == spelling);
            if spellings.iter().any(hit) {
                return Some(table.name.clone());
            }
        }
    }
    None
}

/// All values of 16 bytes or more: long enough that two equal ones mean a link.
pub(super) fn long_values<'a>(tables: impl IntoIterator<Item = &'a Table>) -> BTreeSet<&'a [u8]> {
    let cells = tables.into_iter().flat_map(|table| table.rows.iter().flatten());
    cells.map(Cell::bytes).filter(|bytes| bytes.len() >= 16).collect()
}

/// Of longer tables only the beginning is printed; they are searched whole.
const MOST_ROWS: usize = 20;

/// The tables as lines no wider than `width` characters.
pub(super) fn lines(tables: &[Table], width: usize) -> Vec<String> {
    let mut out = Vec::new();
    for table in tables {
        out.push(clip(&format!("{} ({} rows)", table.name, table.rows.len()), width));
        out.push(clip(&format!("  {}", table.columns.join(" | ")), width));
        for row in table.rows.iter().take(MOST_ROWS) {
            let cells: Vec<String> = row.iter().map(Cell::short).collect();
            out.push(clip(&format!("  {}", cells.join(" | ")), width));
        }
        if let Some(more) = table.rows.len().checked_sub(MOST_ROWS).filter(|more| *more > 0) {
            out.push(format!("  … and {more} more"));
        }
        out.push(String::new());
    }
    out
}

/// Two columns of lines beside each other.
pub(super) fn side_by_side(left: &[String], right: &[String], width: usize) -> String {
    let mut out = String::new();
    for i in 0..left.len().max(right.len()) {
        let cell = |lines: &[String]| lines.get(i).cloned().unwrap_or_default();
        let (l, r) = (cell(left), cell(right));
        let pad = width.saturating_sub(l.chars().count());
        out.push_str(&format!("{l}{} │ {r}\n", " ".repeat(pad)));
    }
    out
}

fn clip(line: &str, width: usize) -> String {
    if line.chars().count() <= width {
        return line.to_owned();
    }
    line.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(value: Cell) -> Vec<Table> {
        vec![Table { name: "t".into(), columns: vec!["c".into()], rows: vec![vec![Cell::Null, value]] }]
    }

    #[test]
    fn a_planted_value_is_found_in_every_spelling_and_place() {
        let needle = [0xfbu8; 32];
        let hexadecimal = "fb".repeat(32);
        let base64 = postern_protocol::ids::encode_base64(&needle);
        let inside = [b"before".as_slice(), &needle, b"after"].concat();
        for planted in [Cell::Blob(inside), Cell::Text(format!("x{base64}y")), Cell::Text(hexadecimal)] {
            assert_eq!(contains(&table(planted), &needle), Some("t".to_owned()));
        }
        assert_eq!(contains(&table(Cell::Blob(vec![0xfb; 31])), &needle), None);
    }

    #[test]
    fn a_value_in_two_databases_is_a_link() {
        let (a, b) = (table(Cell::Blob(vec![7; 32])), table(Cell::Blob(vec![7; 32])));
        assert_eq!(long_values(&a).intersection(&long_values(&b)).count(), 1);
    }
}
