//! `doctor`: whether this relay can work, and what to do if not.

use std::path::Path;
use std::sync::Arc;

use postern_operate::Doctor;
use postern_protocol::send::RELAY_INFO_PATH;
use postern_protocol::time::Clock;
use postern_store::{SystemClock, inspect};
use rand::rngs::SysRng;
use rand_core::UnwrapErr;

use super::{OfConfig, read_key};
use crate::app::identity;
use crate::config::Config;
use crate::db::MIGRATIONS;
use crate::service::issuer::{CallError, IssuerCalls};

/// Looks at everything; the report, and whether the relay can work.
pub(super) async fn examine(of: &OfConfig) -> (String, bool) {
    let mut doctor = Doctor::default();
    match of.load() {
        Ok(config) => {
            doctor.good("configuration", format_args!("{} is read", of.config.display()));
            look(&mut doctor, &of.config, &config).await;
        }
        Err(error) => doctor.bad(
            "configuration",
            error,
            "Correct the file; `init` in an empty directory writes one with every setting.",
        ),
    }
    doctor.report()
}

async fn look(doctor: &mut Doctor, file: &Path, config: &Config) {
    if postern_store::redacted(&config.database) != config.database {
        doctor.private("configuration file", file);
    }
    doctor.private("key file", &config.secret_key_file);
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
        }
        Err(error) => {
            doctor.bad("database", error, "See that it runs, that `database` names it, and that its user may come in.")
        }
    }
    ask_issuer(doctor, config).await;
    doctor.reaches(&config.url, RELAY_INFO_PATH, &config.name).await;
    if !config.enforce {
        doctor.warn(
            "rollout",
            "messages are taken without tokens",
            "`enforce = true` once few would be refused: see docs/operating.md.",
        );
    }
}

async fn ask_issuer(doctor: &mut Doctor, config: &Config) {
    let root = match read_key(&config.secret_key_file) {
        Ok(root) => root,
        Err(error) => {
            return doctor.bad(
                "key",
                error,
                "Put the file of `init` back, from a copy: without it this is another relay.",
            );
        }
    };
    let calls =
        IssuerCalls::new(config, identity(&root), Arc::new(SystemClock), Arc::new(|| Box::new(UnwrapErr(SysRng))));
    let asked = match calls {
        Ok(calls) => calls.keys().await,
        Err(error) => return doctor.bad("issuer", error, "See `issuer.url`."),
    };
    match asked {
        Ok(keys) => doctor
            .good("issuer", format_args!("{} knows this relay and has {} token keys", config.issuer.url, keys.len())),
        // It signs nothing for strangers.
        Err(error @ (CallError::Unauthentic | CallError::Refused(_))) => {
            let to_do = "It does not know this relay, or has cut it off: `postern-issuer add-relay` with what `init` printed, and \
                         `enabled`. Or clocks are far apart; or somebody else answers there, and `issuer.public_key` is another's.";
            doctor.bad("issuer", error, to_do);
        }
        Err(error) => {
            doctor.bad("issuer", error, "See that it runs, and that `issuer.url` leads to it from this machine.")
        }
    }
}
