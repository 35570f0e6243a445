//! `doctor`: whether this issuer can work, and what to do if not.

use std::path::Path;

use postern_operate::Doctor;
use postern_protocol::register::ISSUER_INFO_PATH;
use postern_protocol::time::Clock;
use postern_store::{SystemClock, inspect};

use super::{OfConfig, open};
use crate::config::Config;
use crate::db::MIGRATIONS;
use crate::secrets::Secrets;
use crate::service::keys;

/// Looks at everything; the report, and whether the issuer can work.
pub(super) async fn examine(of: &OfConfig) -> (String, bool) {
    let mut doctor = Doctor::default();
    match of.load() {
        Ok(config) => {
            doctor.good("configuration", format_args!("{} is read", of.config.display()));
            look(&mut doctor, of, &config).await;
        }
        Err(error) => doctor.bad(
            "configuration",
            error,
            "Correct the file; `init` in an empty directory writes one with every setting.",
        ),
    }
    doctor.report()
}

async fn look(doctor: &mut Doctor, of: &OfConfig, config: &Config) {
    if postern_store::redacted(&config.database) != config.database {
        doctor.private("configuration file", &of.config);
    }
    doctor.private("key file", &config.secret_key_file);
    if let Err(error) = Secrets::load(&config.secret_key_file, &config.ca_certificate_file) {
        doctor.bad("key", error, "Put the files of `init` back, from a copy: without them this is another issuer.");
    }
    if let Some(Err(error)) = config.tls.clone().map(postern_tls::ServerTls::load) {
        doctor.bad("TLS", error, "See `[tls]`: certificate and key must be there, and belong together.");
    }
    if let Some(path) = config.database.strip_prefix("sqlite://") {
        doctor.disk(Path::new(path));
    }
    doctor.open_files(config.limits.connections);
    match inspect(&config.database, MIGRATIONS).await {
        Ok(found) => {
            doctor.schema(found.applied, found.known);
            doctor.clock(SystemClock.now(), found.clock);
            // Opening would migrate: that is not a doctor's to do.
            if found.applied == found.known {
                token_key(doctor, of).await;
            }
        }
        Err(error) => {
            doctor.bad("database", error, "See that it runs, that `database` names it, and that its user may come in.")
        }
    }
    doctor.reaches(&config.url, ISSUER_INFO_PATH, &config.name).await;
    if config.relays.iter().all(|relay| !relay.enabled) {
        doctor.warn(
            "relays",
            "there are none",
            "Nobody can register: `postern-issuer add-relay` with what `postern-relay init` printed.",
        );
    }
}

async fn token_key(doctor: &mut Doctor, of: &OfConfig) {
    let can_sign = match open(of).await {
        Ok(issuer) => {
            let can_sign = keys::can_sign(&issuer).await.map_err(super::CliError::from);
            issuer.close().await;
            can_sign
        }
        Err(error) => Err(error),
    };
    match can_sign {
        Ok(true) => doctor.good("token key", "there is one that signs"),
        Ok(false) => doctor.bad(
            "token key",
            "there is none",
            "This is not the database that `init` made, or it was emptied: `rotate-keys` makes one.",
        ),
        Err(error) => doctor.bad(
            "token key",
            error,
            "The database is of another key file: put the two together that belong together.",
        ),
    }
}
