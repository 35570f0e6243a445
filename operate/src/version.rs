//! What program this is.

/// Name, version, the commit it was built from (if `POSTERN_COMMIT` was set for the build), and the newest schema it knows; one line of JSON.
pub fn version_line(program: &str, version: &str, schema: i64) -> String {
    let commit = option_env!("POSTERN_COMMIT");
    serde_json::json!({ "program": program, "version": version, "commit": commit, "schema": schema }).to_string()
}
