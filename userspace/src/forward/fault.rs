//! Why records do not get to a destination, in words that say what to do.

use std::io;

use rustls::CertificateError;

/// Why it does not go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{}", words(.0))]
    Tls(#[from] rustls::Error),
    /// A file that is named in the configuration.
    #[error("{0}")]
    File(String),
    #[error("it has closed the connection")]
    Closed,
    #[error("it takes nothing, or does not answer")]
    Silent,
    /// A server that answers, and not as it should; or cannot be asked.
    #[error("{0}")]
    Refused(String),
    #[error("it has no address: {0}")]
    Name(String),
    /// Nobody wants to wait any longer.
    #[error("kordon stops")]
    Over,
}

/// An error of TLS, in words that say what to do.
fn words(error: &rustls::Error) -> String {
    use rustls::Error;
    let hint = match error {
        Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => "its certificate is signed by nobody in `ca`",
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "its certificate is for another name",
        Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "its certificate has expired, or the clock is wrong",
        Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => "its certificate is not valid yet, or the clock is wrong",
        Error::AlertReceived(_) => "it refuses, for instance because it wants another `cert`",
        Error::InvalidMessage(_) => "it does not speak TLS",
        _ => return error.to_string(),
    };
    format!("{hint} ({error})")
}
