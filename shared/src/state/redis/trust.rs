//! Whom a process trusts to be Redis, where that is not for the system's authorities to say.

use fred::rustls::pki_types::CertificateDer;
use fred::rustls::pki_types::pem::PemObject;
use fred::rustls::{ClientConfig, RootCertStore};
use std::path::Path;

use super::ConnectError;

/// trusts the authorities in a file of PEM certificates, and nobody else
pub(super) fn only(path: &Path) -> Result<ClientConfig, ConnectError> {
    let unusable = |why: String| ConnectError::Authorities { path: path.to_owned(), why };
    let pem = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
    let mut authorities = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
        authorities.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    if authorities.is_empty() {
        return Err(unusable("it holds no certificate in PEM".to_owned()));
    }
    Ok(ClientConfig::builder().with_root_certificates(authorities).with_no_client_auth())
}
