//! Where a database is: its URL, read and redacted.

use std::fmt;
use std::path::{Path, PathBuf};

use sqlx::postgres::PgConnectOptions;
use url::Url;

use crate::StoreError;

/// Connections of one process to PostgreSQL, unless the URL says otherwise.
const POOL_SIZE: u32 = 16;
/// This program's own parameter of the URL.
const POOL_SIZE_KEY: &str = "pool_size";
/// What the driver understands. It would log others with their values, and a misspelt `sslmode` must not go unnoticed.
const KNOWN_KEYS: [&str; 11] = [
    POOL_SIZE_KEY,
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "host",
    "port",
    "user",
    "password",
    "dbname",
    "application_name",
];
const REDACTED: &str = "redacted";

/// A database URL that was understood.
pub(crate) enum Place {
    Sqlite(PathBuf),
    Postgres(Box<PostgresPlace>),
}

/// A PostgreSQL database.
pub(crate) struct PostgresPlace {
    /// Password included: not to be shown.
    pub(crate) options: PgConnectOptions,
    pub(crate) pool_size: u32,
}

impl fmt::Debug for PostgresPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PostgresPlace(..)")
    }
}

impl Place {
    pub(crate) fn parse(url: &str) -> Result<Self, StoreError> {
        if let Some(path) = url.strip_prefix("sqlite://").filter(|path| !path.is_empty()) {
            return Ok(Self::Sqlite(Path::new(path).to_owned()));
        }
        let url = Url::parse(url).map_err(|_| StoreError::Url)?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(StoreError::Url);
        }
        PostgresPlace::parse(url).map(|place| Self::Postgres(Box::new(place)))
    }
}

impl PostgresPlace {
    fn parse(mut url: Url) -> Result<Self, StoreError> {
        let parameters: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        let is_known = |(key, _): &&(String, String)| KNOWN_KEYS.contains(&key.as_str());
        if parameters.iter().any(|parameter| !is_known(&parameter)) {
            return Err(StoreError::UrlParameter);
        }
        let asked = parameters.iter().rev().find(|(key, _)| key == POOL_SIZE_KEY);
        let pool_size =
            asked.map_or(Ok(POOL_SIZE), |(_, value)| value.parse()).map_err(|_| StoreError::UrlParameter)?;
        if pool_size == 0 {
            return Err(StoreError::UrlParameter);
        }
        let rest: Vec<_> = parameters.iter().filter(|(key, _)| key != POOL_SIZE_KEY).collect();
        url.set_query(None);
        if !rest.is_empty() {
            url.query_pairs_mut().extend_pairs(rest);
        }
        let options = url.as_str().parse().map_err(|_| StoreError::UrlParameter)?;
        Ok(Self { options, pool_size })
    }
}

/// The URL of a database as it may be shown: a password in it is replaced.
pub fn redacted(url: &str) -> String {
    if url.starts_with("sqlite://") {
        return url.to_owned();
    }
    // What cannot be read may hide a password anywhere.
    let Ok(mut shown) = Url::parse(url) else { return REDACTED.to_owned() };
    if shown.password().is_some() && shown.set_password(Some(REDACTED)).is_err() {
        return REDACTED.to_owned();
    }
    let hide =
        |(key, value): (String, String)| if key == "password" { (key, REDACTED.to_owned()) } else { (key, value) };
    let parameters: Vec<_> = shown.query_pairs().into_owned().map(hide).collect();
    if !parameters.is_empty() {
        shown.query_pairs_mut().clear().extend_pairs(parameters);
    }
    shown.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn postgres(url: &str) -> Result<PostgresPlace, StoreError> {
        match Place::parse(url)? {
            Place::Postgres(place) => Ok(*place),
            Place::Sqlite(_) => Err(StoreError::Url),
        }
    }

    #[test]
    fn a_url_says_engine_place_and_size_of_the_pool() {
        assert!(matches!(Place::parse("sqlite:///a/b.db"), Ok(Place::Sqlite(path)) if path == Path::new("/a/b.db")));
        let place =
            postgres("postgres://relay:hunter2@db.example:5433/postern?pool_size=3&sslmode=verify-full").unwrap();
        assert_eq!((place.pool_size, place.options.get_host(), place.options.get_port()), (3, "db.example", 5433));
        assert_eq!(place.options.get_database(), Some("postern"));
        assert_eq!(postgres("postgresql://relay@db.example/postern").unwrap().pool_size, POOL_SIZE);
        let socket = postgres("postgres://relay@localhost/postern?host=/run/postgresql").unwrap();
        assert_eq!(socket.options.get_socket(), Some(&PathBuf::from("/run/postgresql")));
        for other in ["", "sqlite://", "mysql://db.example/x", "/a/b.db"] {
            assert!(matches!(Place::parse(other), Err(StoreError::Url)), "{other}");
        }
    }

    #[test]
    fn a_parameter_that_would_be_ignored_is_refused() {
        for wrong in ["ssl_mode=verify-full", "sslmode=verify", "pool_size=0", "pool_size=many", "port=x"] {
            let parsed = postgres(&format!("postgres://relay@db.example/postern?{wrong}"));
            assert!(matches!(parsed, Err(StoreError::UrlParameter)), "{wrong}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        for url in ["postgres://relay:hunter2@db.example/x", "postgres://relay@db.example/x?password=hunter2&port=1"] {
            let shown = redacted(url);
            assert!(shown.contains("db.example/x") && !shown.contains("hunter2"), "{shown}");
            assert!(!format!("{:?}", postgres(url).unwrap()).contains("hunter2"));
        }
        assert_eq!(redacted("postgres://relay:hunter2@db.example:port/x"), "redacted");
        assert_eq!(redacted("sqlite:///tmp/x.db"), "sqlite:///tmp/x.db");
    }
}
