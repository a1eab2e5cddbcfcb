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
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::server::{WantsServerCert, WebPkiClientVerifier};
use tokio_rustls::rustls::{ConfigBuilder, RootCertStore, ServerConfig, WantsVerifier};

use super::authority::Authority;
use super::upstream::Upstream;

pub struct TlsFront {
    address: SocketAddr,
    server: JoinHandle<()>,
}

impl TlsFront {
    /// With the pair of that name, for clients that the same authority signed.
    pub async fn before(upstream: &Upstream, authority: &Authority, name: &str) -> Self {
        let config = builder().with_client_cert_verifier(clients_of(authority));
        Self::serving(config, authority, name, upstream.address()).await
    }

    /// With the pair of that name, for everybody.
    pub async fn open_before(behind: SocketAddr, authority: &Authority, name: &str) -> Self {
        Self::serving(builder().with_no_client_auth(), authority, name, behind).await
    }

    async fn serving(
        config: ConfigBuilder<ServerConfig, WantsServerCert>,
        authority: &Authority,
        name: &str,
        behind: SocketAddr,
    ) -> Self {
        let certificate = CertificateDer::from_pem_file(authority.file(&format!("{name}.pem"))).unwrap();
        let key = PrivateKeyDer::from_pem_file(authority.file(&format!("{name}.key"))).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config.with_single_cert(vec![certificate], key).unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
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

fn builder() -> ConfigBuilder<ServerConfig, WantsVerifier> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap()
}

fn clients_of(authority: &Authority) -> Arc<dyn ClientCertVerifier> {
    let mut clients = RootCertStore::empty();
    clients.add(CertificateDer::from_pem_file(authority.file("ca.pem")).unwrap()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    WebPkiClientVerifier::builder_with_provider(Arc::new(clients), provider).build().unwrap()
}
