//! TLS on the gateway: a certificate and its key, read again while the node runs.

use arc_swap::ArcSwap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{self, ServerConfig};

use crate::renewal::{Purpose, Renewal, Watched};

/// the longest file that is read
const FILE_BYTES_MAX: u64 = 1_048_576;

/// a certificate chain, the server's own first, and its key, both in PEM
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PairFiles {
    #[schemars(with = "String")]
    pub cert_file: PathBuf,
    #[schemars(with = "String")]
    pub key_file: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{path}: {error}")]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("{path}: {error}")]
    NotPem { path: PathBuf, error: pem::Error },
    #[error("{0}: it holds no certificate in PEM")]
    Empty(PathBuf),
    #[error("{cert_file} and {key_file}: {error}", cert_file = .files.cert_file.display(), key_file = .files.key_file.display())]
    Unusable { files: Box<PairFiles>, error: rustls::Error },
}

impl PairFiles {
    /// whether a gateway could use them
    pub fn check(&self) -> Result<(), TlsError> {
        self.certified().map(drop)
    }

    pub(crate) fn paths(&self) -> [&Path; 2] {
        [&self.cert_file, &self.key_file]
    }

    /// a key that signs for its certificate
    fn certified(&self) -> Result<CertifiedKey, TlsError> {
        let chain = certificates(&self.cert_file, &read(&self.cert_file)?)?;
        let key = private_key(&self.key_file, &read(&self.key_file)?)?;
        CertifiedKey::from_der(chain, key, &provider())
            .map_err(|error| TlsError::Unusable { files: Box::new(self.clone()), error })
    }
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    use std::io::Read;

    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes));
    read.map_err(|error| TlsError::Unreadable { path: path.to_owned(), error })?;
    Ok(bytes)
}

pub(crate) fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let not_pem = |error| TlsError::NotPem { path: path.to_owned(), error };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(not_pem)?;
    if chain.is_empty() { Err(TlsError::Empty(path.to_owned())) } else { Ok(chain) }
}

pub(crate) fn private_key(path: &Path, pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| TlsError::NotPem { path: path.to_owned(), error })
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// the pair in use, which clients are shown from their next handshake on
#[derive(Debug)]
struct Current(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

pub fn acceptor(files: &PairFiles) -> Result<(TlsAcceptor, Renewal), TlsError> {
    let watched = Watched::of(Purpose::GatewayTls, files.paths());
    let current = Arc::new(Current(ArcSwap::from_pointee(files.certified()?)));
    let unusable = |error| TlsError::Unusable { files: Box::new(files.clone()), error };
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(unusable)?
        .with_no_client_auth()
        .with_cert_resolver(current.clone());
    // The only protocol in which a WebSocket begins here; who offers others alone is refused in the handshake (RFC 7301).
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let files = files.clone();
    let renewal = watched.renewed_by(move || {
        let certified = files.certified().map_err(|error| error.to_string())?;
        current.0.store(Arc::new(certified));
        Ok(())
    });
    Ok((TlsAcceptor::from(Arc::new(config)), renewal))
}
