//! Where connections come in, and whether they speak TLS.

use std::net::SocketAddr;
use std::sync::Arc;

use postern_tls::{ServerTls, TlsError, TlsFiles};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// A port that is listened at, with TLS or without.
#[derive(Debug)]
pub struct Listener {
    pub(crate) tcp: TcpListener,
    pub(crate) tls: Option<Arc<ServerTls>>,
}

/// Why nothing can be listened at.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The operating system says no.
    #[error("cannot listen on {0}: {1}")]
    Address(SocketAddr, std::io::Error),
    /// Certificate or key.
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
}

impl From<TcpListener> for Listener {
    fn from(tcp: TcpListener) -> Self {
        Self { tcp, tls: None }
    }
}

impl Listener {
    /// Listens, and from now on reads certificate and key again whenever the process gets SIGHUP. Without TLS that does nothing; in
    /// particular it does not end the process.
    ///
    /// # Errors
    /// [`ListenError`]. Call it within a runtime.
    pub async fn bind(at: SocketAddr, tls: Option<&TlsFiles>) -> Result<Self, ListenError> {
        let tls = tls.cloned().map(ServerTls::load).transpose()?.map(Arc::new);
        let refused = |error| ListenError::Address(at, error);
        let mut hangup = signal(SignalKind::hangup()).map_err(refused)?;
        let tcp = TcpListener::bind(at).await.map_err(refused)?;
        if let Some(tls) = &tls {
            tracing::info!(fingerprint = %tls.pin(), "serving TLS");
        }
        let again = tls.clone();
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                reload(again.clone()).await;
            }
        });
        Ok(Self { tcp, tls })
    }

    /// The line that says where: `listening on https://…`.
    ///
    /// # Errors
    /// When the socket has no address.
    pub fn line(&self) -> std::io::Result<String> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        Ok(format!("listening on {scheme}://{}", self.tcp.local_addr()?))
    }
}

async fn reload(tls: Option<Arc<ServerTls>>) {
    let Some(tls) = tls else { return };
    // Files are read elsewhere: connections do not wait for a disk.
    match tokio::task::spawn_blocking(move || tls.reload()).await {
        Ok(Ok(pin)) => tracing::info!(fingerprint = %pin, "certificate and key were read again"),
        Ok(Err(error)) => tracing::error!(%error, "the new certificate is not taken, the old one stays"),
        Err(_) => {}
    }
}
