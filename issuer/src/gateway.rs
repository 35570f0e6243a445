//! How a text reaches a phone, behind one small interface (design §4). For now: a file or the terminal.
//!
//! How to add a gateway: a variant of [`GatewayConfig`](crate::config::GatewayConfig), a type here, a line in [`open`].

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use futures::future::BoxFuture;
use postern_protocol::ids::PhoneNumber;

use crate::config::GatewayConfig;

/// The text was not accepted for delivery. Says nothing about number or text.
#[derive(Debug, thiserror::Error)]
#[error("the gateway did not accept the text: {0}")]
pub struct GatewayError(pub String);

/// Hands a text to somebody who delivers it.
pub trait TextGateway: Send + Sync + 'static {
    /// Sends `text` to `to`; `Ok` when it was accepted for delivery.
    fn send<'a>(&'a self, to: &'a PhoneNumber, text: &'a str) -> BoxFuture<'a, Result<(), GatewayError>>;
}

/// The gateway of a configuration.
pub fn open(config: &GatewayConfig) -> Box<dyn TextGateway> {
    match config {
        GatewayConfig::Console { file } => Box::new(Console { file: file.clone() }),
        GatewayConfig::Synthetic {} => Box::new(Nobody),
    }
}

/// Warns of a gateway that is for development only. The one that anybody can register by is announced past every filter of the log.
pub fn warn(config: &GatewayConfig) {
    match config {
        GatewayConfig::Console { .. } => {
            tracing::warn!(
                "texts go to the console gateway: whoever reads it can register any number; development only"
            );
        }
        GatewayConfig::Synthetic {} => eprintln!("{SYNTHETIC_WARNING}"),
    }
}

/// What is said at every start.
const SYNTHETIC_WARNING: &str = "
**********************************************************************************
*  postern-issuer: THE GATEWAY IS `synthetic`. This is for load tests alone.     *
*  No text is sent, and no real number can register. Whoever reaches this port   *
*  takes as many accounts and tokens as they like. Throw the database and the    *
*  keys away afterwards: whatever was signed here is worth nothing.              *
**********************************************************************************";

/// Takes no text: none is to be sent, and one that is sent nevertheless fails.
#[derive(Debug)]
pub struct Nobody;

impl TextGateway for Nobody {
    fn send<'a>(&'a self, _: &'a PhoneNumber, _: &'a str) -> BoxFuture<'a, Result<(), GatewayError>> {
        Box::pin(async { Err(GatewayError("this issuer sends no texts".to_owned())) })
    }
}

/// Writes texts to a file, readable by its owner only, or to standard output.
#[derive(Debug)]
pub struct Console {
    file: Option<PathBuf>,
}

impl TextGateway for Console {
    fn send<'a>(&'a self, to: &'a PhoneNumber, text: &'a str) -> BoxFuture<'a, Result<(), GatewayError>> {
        let line = format!("TEXT to={} body=\"{text}\"\n", to.as_str());
        let file = self.file.clone();
        Box::pin(async move {
            let written = tokio::task::spawn_blocking(move || write(file, &line)).await;
            match written {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(GatewayError(error.to_string())),
                Err(_) => Err(GatewayError("interrupted".to_owned())),
            }
        })
    }
}

fn write(file: Option<PathBuf>, line: &str) -> std::io::Result<()> {
    match file {
        None => std::io::stdout().lock().write_all(line.as_bytes()),
        Some(path) => OpenOptions::new().create(true).append(true).mode(0o600).open(path)?.write_all(line.as_bytes()),
    }
}
