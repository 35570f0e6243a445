//! What a server has on disk: every row of every table, and a search of it.

use std::path::Path;

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};

/// One table, whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Its rows.
    pub rows: Vec<Vec<Value>>,
}

/// All tables of a database file, in order of name.
pub fn of(file: &Path) -> Vec<Table> {
    let db = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    db.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
    let mut names = db.prepare("select name from sqlite_schema where type = 'table' order by name").unwrap();
    let names: Vec<String> = names.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let read = |name: String| {
        let mut statement = db.prepare(&format!("select * from \"{name}\"")).unwrap();
        let width = statement.column_count();
        let rows = statement.query_map([], |row| (0..width).map(|i| row.get(i)).collect()).unwrap();
        Table { rows: rows.map(Result::unwrap).collect(), name }
    };
    names.into_iter().map(read).collect()
}

/// The same as statements that would write it again, blobs in lower-case hexadecimal.
pub fn dump(tables: &[Table]) -> String {
    let literal = |value: &Value| match value {
        Value::Null => "null".to_owned(),
        Value::Integer(n) => n.to_string(),
        Value::Real(x) => x.to_string(),
        Value::Text(text) => format!("'{}'", text.replace('\'', "''")),
        Value::Blob(bytes) => format!("x'{}'", hex(bytes)),
    };
    let mut out = String::new();
    for table in tables {
        for row in &table.rows {
            let values: Vec<String> = row.iter().map(literal).collect();
            out.push_str(&format!("insert into {} values ({});\n", table.name, values.join(", ")));
        }
    }
    out
}

/// The bytes of a text or a blob; a number has none, and names nobody.
pub fn bytes(value: &Value) -> &[u8] {
    match value {
        Value::Text(text) => text.as_bytes(),
        Value::Blob(bytes) => bytes,
        Value::Null | Value::Integer(_) | Value::Real(_) => &[],
    }
}

/// Whether `needle` stands in `hay`: as it is, in hexadecimal, or in base64url, by itself or behind a version byte 1.
pub fn contains(hay: &[u8], needle: &[u8]) -> bool {
    let base64 = |bytes: &[u8]| postern_protocol::ids::encode_base64(bytes).into_bytes();
    let lower = hex(needle);
    let spellings = [
        needle.to_vec(),
        lower.to_uppercase().into_bytes(),
        lower.into_bytes(),
        base64(needle),
        base64(&[&[1], needle].concat()),
    ];
    spellings.iter().any(|spelling| hay.windows(spelling.len()).any(|window| window == spelling))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
