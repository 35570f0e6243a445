//! A search of what a server keeps: every row of every table.

pub use postern_test_database::{Table, Value};

/// Tables as statements that would write them again, blobs in lower-case hexadecimal.
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
