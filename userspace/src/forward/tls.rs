//! Whom kordon believes, and who it is, in TLS (RFC 5425).

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};

use super::{config::Destination, fault::Fault, stream::Secrets};

/// Whom the system believes.
pub(super) const SYSTEM: &str = "/etc/ssl/certs/ca-certificates.crt";

/// What a connection begins with. Files are read anew each time: certificates are renewed while the
/// daemon runs.
pub(super) fn secrets(destination: &Destination, host: &str) -> Result<Secrets, Fault> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let ca = destination.ca.as_deref().unwrap_or(Path::new(SYSTEM));
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(ca)?);
    let config = match &destination.client {
        None => config.with_no_client_auth(),
        Some((cert, key)) => {
            let bad = |path: &Path, e| Fault::File(format!("{}: {e}", path.display()));
            let chain = certificates(cert)?;
            let key = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|e| bad(key, e))?;
            config.with_client_auth_cert(chain, key)?
        }
    };
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| Fault::File(format!("`{host}` can be in no certificate")))?;
    Ok((Arc::new(config), name))
}

fn roots(path: &Path) -> Result<RootCertStore, Fault> {
    let mut roots = RootCertStore::empty();
    // The system's have some that are too odd to be used.
    let (added, _) = roots.add_parsable_certificates(certificates(path)?);
    if added == 0 {
        let words = format!("{}: no certificate in it can be used", path.display());
        return Err(Fault::File(words));
    }
    Ok(roots)
}

pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    let found = found.map_err(|e| Fault::File(format!("{}: {e}", path.display())))?;
    if found.is_empty() {
        let words = format!("{}: there is no certificate in it", path.display());
        return Err(Fault::File(words));
    }
    Ok(found)
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, Fault> {
    crate::regular::read(path)
        .map_err(|e| Fault::File(format!("{} cannot be read: {e}", path.display())))
}
