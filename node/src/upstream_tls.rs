//! TLS to an upstream: whom the node believes, which certificate it shows, and which keys it insists on.

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName, UnixTime};
use tokio_rustls::rustls::server::{ParsedCertificate, VerifierBuilderError};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use crate::renewal::{Purpose, Renewal, Watched};
use crate::tls::{self, PairFiles, TlsError};

/// SHA-256 of a public key as it stands in a certificate (SubjectPublicKeyInfo)
type Pin = [u8; 32];

/// how an `https://` or `wss://` upstream is known; the files are read again when they change
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct UpstreamTls {
    /// PEM of the only authorities that vouch for it; default: the system's
    #[schemars(with = "Option<String>")]
    pub ca_file: Option<PathBuf>,
    /// what the node shows when it is asked for a certificate
    pub client_certificate: Option<PairFiles>,
    /// SHA-256 of its public key in base64 (RFC 7469 section 2.4): it must have one of these keys, besides being vouched for
    pub pins: Vec<String>,
    /// the name in its certificate; default: the host of the URL
    pub server_name: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum UpstreamTlsError {
    #[error(transparent)]
    File(#[from] TlsError),
    #[error("the system's authorities cannot be read: {0}; name some in caFile")]
    NoAuthorities(String),
    #[error("{path}: {error}", path = .path.display())]
    Authority { path: PathBuf, error: Error },
    #[error("`{0}` is no pin: SHA-256 of the public key, in base64")]
    Pin(String),
    #[error("`{name}` is no name in a certificate: {error}")]
    Name { name: String, error: InvalidDnsNameError },
    #[error(transparent)]
    Verifier(#[from] VerifierBuilderError),
    #[error(transparent)]
    Unusable(#[from] Error),
}

/// by which new connections are encrypted
pub type Connector = Arc<ArcSwap<ClientConfig>>;

/// the renewal is for what is read from files
pub fn connector(config: &UpstreamTls) -> Result<(Connector, Option<Renewal>), UpstreamTlsError> {
    let watched = Watched::of(Purpose::UpstreamTls, config.files());
    let connector = Arc::new(ArcSwap::from_pointee(client(config)?));
    if config.files().next().is_none() {
        return Ok((connector, None));
    }
    let (renewed, config) = (connector.clone(), config.clone());
    let renewal = watched.renewed_by(move || {
        renewed.store(Arc::new(client(&config).map_err(|error| error.to_string())?));
        Ok(())
    });
    Ok((connector, Some(renewal)))
}

impl UpstreamTls {
    fn files(&self) -> impl Iterator<Item = &Path> {
        let pair = self.client_certificate.iter().flat_map(PairFiles::paths);
        self.ca_file.as_deref().into_iter().chain(pair)
    }
}

fn client(config: &UpstreamTls) -> Result<ClientConfig, UpstreamTlsError> {
    let authorities = match &config.ca_file {
        Some(path) => authorities_in(path)?,
        None => system_authorities()?,
    };
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(authorities), tls::provider()).build()?;
    let pins = config.pins.iter().map(|text| pin(text)).collect::<Result<_, _>>()?;
    let builder = ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned { inner, pins }));
    let mut client = match &config.client_certificate {
        Some(files) => {
            let chain = tls::certificates(&files.cert_file, &tls::read(&files.cert_file)?)?;
            builder.with_client_auth_cert(chain, tls::private_key(&files.key_file, &tls::read(&files.key_file)?)?)?
        }
        None => builder.with_no_client_auth(),
    };
    client.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(client)
}

/// the name that the upstream's certificate must be for
pub fn server_name(config: &UpstreamTls, host: &str) -> Result<ServerName<'static>, UpstreamTlsError> {
    let name = config.server_name.as_deref().unwrap_or(host);
    ServerName::try_from(name.to_owned()).map_err(|error| UpstreamTlsError::Name { name: name.to_owned(), error })
}

fn authorities_in(path: &Path) -> Result<RootCertStore, UpstreamTlsError> {
    let mut authorities = RootCertStore::empty();
    for certificate in tls::certificates(path, &tls::read(path)?)? {
        let added = authorities.add(certificate);
        added.map_err(|error| UpstreamTlsError::Authority { path: path.to_owned(), error })?;
    }
    Ok(authorities)
}

fn system_authorities() -> Result<RootCertStore, UpstreamTlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut authorities = RootCertStore::empty();
    // One odd certificate of a system must not take the others away.
    authorities.add_parsable_certificates(found.certs);
    if authorities.is_empty() {
        let why: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
        return Err(UpstreamTlsError::NoAuthorities(why.join(", ")));
    }
    Ok(authorities)
}

fn pin(text: &str) -> Result<Pin, UpstreamTlsError> {
    let bytes = STANDARD.decode(text).ok().and_then(|bytes| Pin::try_from(bytes).ok());
    bytes.ok_or_else(|| UpstreamTlsError::Pin(text.to_owned()))
}

/// what any client checks, and then the key
#[derive(Debug)]
struct Pinned {
    inner: Arc<WebPkiServerVerifier>,
    /// none: any key that an authority vouches for
    pins: Vec<Pin>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        if self.pins.is_empty() {
            return Ok(verified);
        }
        let key = ParsedCertificate::try_from(end_entity)?.subject_public_key_info();
        match self.pins.contains(&Pin::from(Sha256::digest(&key))) {
            true => Ok(verified),
            false => Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_32_bytes_in_base64() {
        assert!(pin(&STANDARD.encode([7; 32])).is_ok());
        for text in ["", "sha256/x", &STANDARD.encode([7; 31]), &STANDARD.encode([7; 33])] {
            assert!(pin(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_or_an_address_is_what_a_certificate_is_for() {
        let config = UpstreamTls::default();
        assert!(server_name(&config, "chat.internal").is_ok() && server_name(&config, "127.0.0.1").is_ok());
        assert!(server_name(&config, "not a name").is_err());
        let other = UpstreamTls { server_name: Some("chat.example.com".into()), ..config };
        assert_eq!(server_name(&other, "127.0.0.1").unwrap(), ServerName::try_from("chat.example.com").unwrap());
    }
}
