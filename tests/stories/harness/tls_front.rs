//! TLS before an upstream: asks for a certificate of the authority's, and passes the bytes on.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use super::authority::Authority;
use super::upstream::Upstream;

pub struct TlsFront {
    address: SocketAddr,
    server: JoinHandle<()>,
}

impl TlsFront {
    /// With the pair of that name, for clients that the same authority signed.
    pub async fn before(upstream: &Upstream, authority: &Authority, name: &str) -> Self {
        let acceptor = TlsAcceptor::from(Arc::new(config(authority, name)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, behind) = (listener.local_addr().unwrap(), upstream.address());
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(mut front) = acceptor.accept(stream).await else { return };
                    let Ok(mut back) = TcpStream::connect(behind).await else { return };
                    copy_bidirectional(&mut front, &mut back).await.ok();
                });
            }
        });
        Self { address, server }
    }

    pub fn url(&self, scheme: &str, path: &str) -> String {
        format!("{scheme}://{}{path}", self.address)
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn config(authority: &Authority, name: &str) -> ServerConfig {
    let certificate = |file: &str| CertificateDer::from_pem_file(authority.file(file)).unwrap();
    let mut clients = RootCertStore::empty();
    clients.add(certificate("ca.pem")).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(clients), provider.clone()).build().unwrap();
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![certificate(&format!("{name}.pem"))],
            PrivateKeyDer::from_pem_file(authority.file(&format!("{name}.key"))).unwrap(),
        )
        .unwrap()
}
