//! Gateways that send nothing: to a file or the terminal, and to nobody.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use futures::future::BoxFuture;

use super::{GatewayError, Message, TextGateway};

/// Takes no text: none is to be sent, and one that is sent nevertheless fails.
#[derive(Debug)]
pub struct Nobody;

impl TextGateway for Nobody {
    fn send<'a>(&'a self, _: &'a Message<'a>) -> BoxFuture<'a, Result<(), GatewayError>> {
        Box::pin(async { Err(GatewayError::Setup("this issuer sends no texts".to_owned())) })
    }
}

/// Writes texts to a file, readable by its owner only, or to standard output.
#[derive(Debug)]
pub struct Console {
    file: Option<PathBuf>,
}

impl Console {
    /// To this file, or standard output.
    pub const fn new(file: Option<PathBuf>) -> Self {
        Self { file }
    }
}

impl TextGateway for Console {
    fn send<'a>(&'a self, message: &'a Message<'a>) -> BoxFuture<'a, Result<(), GatewayError>> {
        let line = format!("TEXT to={} body=\"{}\"\n", message.to.as_str(), message.words);
        let file = self.file.clone();
        Box::pin(async move {
            let written = tokio::task::spawn_blocking(move || write(file, &line)).await;
            match written {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(GatewayError::Down(error.to_string())),
                Err(_) => Err(GatewayError::Down("interrupted".to_owned())),
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
