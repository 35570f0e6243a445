//! A failed connection: whether it failed because the server is somebody else.

use std::error::Error as StdError;
use std::io;

use rustls::{CertificateError, Error};

/// The server is not who its address says; nothing was sent to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WrongServer {
    /// Its key has another fingerprint than the address.
    #[error("its key is not the one in its address")]
    Key,
    /// Its certificate's time is over, by the clock of this machine.
    #[error("its certificate has expired")]
    Expired,
    /// Its certificate's time has not come, by the clock of this machine.
    #[error("its certificate is not valid yet")]
    NotYetValid,
    /// Its certificate is for another name.
    #[error("its certificate is for another name")]
    Name,
    /// No authority that this machine trusts has signed its certificate.
    #[error("its certificate is from nobody whom this machine trusts")]
    Issuer,
    /// Something else is wrong with its certificate.
    #[error("its certificate is not sound")]
    Certificate,
}

impl From<&CertificateError> for WrongServer {
    fn from(error: &CertificateError) -> Self {
        match error {
            CertificateError::ApplicationVerificationFailure => Self::Key,
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYetValid,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Self::Name,
            // Whose name stands there has not signed it.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::Issuer,
            _ => Self::Certificate,
        }
    }
}

/// Looks for it in an error and all that is behind it.
pub fn wrong_server(error: &(dyn StdError + 'static)) -> Option<WrongServer> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(Error::InvalidCertificate(why)) = error.downcast_ref::<Error>() {
            return Some(why.into());
        }
        // What an I/O error holds is not its source.
        let held = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match held {
            Some(held) => Some(held),
            None => error.source(),
        };
    }
    None
}
