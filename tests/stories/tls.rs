//! TLS on the gateway's own listener, and a certificate that is renewed while it serves.

use std::sync::Arc;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

use crate::harness::{Authority, Frame, HOME, Picket, Upstream, Wire, eventually, within};

/// A client that trusts the authority and nobody else.
struct Browser {
    config: ClientConfig,
}

impl Browser {
    fn trusting(authority: &Authority, versions: &[&'static SupportedProtocolVersion], protocols: &[&str]) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(authority.file("ca.pem")).unwrap()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Self { config }
    }

    async fn connects(&self, picket: &Picket) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(picket.gateway()).await.unwrap();
        let connector = TlsConnector::from(Arc::new(self.config.clone()));
        let name = ServerName::try_from("127.0.0.1").unwrap();
        within("a TLS handshake", connector.connect(name, stream)).await
    }

    /// The server's own certificate, as a new connection is shown it.
    async fn is_shown(&self, picket: &Picket) -> Vec<u8> {
        let stream = self.connects(picket).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    }
}

async fn upgrade(stream: &mut TlsStream<TcpStream>) {
    let request = format!(
        "GET /ws HTTP/1.1\r\nHost: shop.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: {HOME}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let answer = hears(stream, b"\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
}

async fn is_served(stream: &mut TlsStream<TcpStream>, text: &str) {
    stream.write_all(&Frame::text(text).bytes()).await.unwrap();
    hears(stream, text.as_bytes()).await;
}

/// Reads until the words came.
async fn hears(stream: &mut TlsStream<TcpStream>, words: &[u8]) -> String {
    let mut heard = Vec::new();
    while !heard.windows(words.len()).any(|window| window == words) {
        let read = within("bytes over TLS", stream.read_buf(&mut heard)).await.unwrap();
        assert!(read > 0, "ended after {:?}", String::from_utf8_lossy(&heard));
    }
    String::from_utf8_lossy(&heard).into_owned()
}

fn pair(authority: &Authority, name: &str) -> serde_json::Value {
    let (cert, key) = (authority.file(&format!("{name}.pem")), authority.file(&format!("{name}.key")));
    json!({ "tls": { "certFile": cert, "keyFile": key } })
}

#[tokio::test]
async fn a_websocket_comes_in_over_tls_1_2_and_1_3_and_the_upstream_is_told_https() {
    let authority = Authority::new();
    authority.signs("edge");
    let upstream = Upstream::echo().await;
    let picket =
        Picket::guarding(&upstream).node(pair(&authority, "edge")).node(json!({ "trustedProxies": [] })).start().await;

    for (version, protocols) in [(&TLS12, &["http/1.1"][..]), (&TLS13, &["h2", "http/1.1"]), (&TLS13, &[])] {
        let mut alice = Browser::trusting(&authority, &[version], protocols).connects(&picket).await.unwrap();
        let agreed = alice.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
        assert_eq!(agreed.is_some(), !protocols.is_empty());
        assert!(agreed.is_none_or(|name| name == b"http/1.1"));
        upgrade(&mut alice).await;
        is_served(&mut alice, r#"{"type":"over tls"}"#).await;
    }
    assert!(upstream.requests().iter().all(|request| request.first("x-forwarded-proto") == Some("https")));
    let only_h2 = Browser::trusting(&authority, &[&TLS13], &["h2"]).connects(&picket).await;
    assert!(only_h2.is_err(), "nothing but http/1.1 is spoken");
}

#[tokio::test]
async fn a_proxy_header_goes_before_the_tls_handshake() {
    let authority = Authority::new();
    authority.signs("edge");
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream)
        .node(pair(&authority, "edge"))
        .node(json!({ "proxyProtocol": "required" }))
        .start()
        .await;

    let mut stream = TcpStream::connect(picket.gateway()).await.unwrap();
    stream.write_all(b"PROXY TCP6 2001:db8::7 ::1 40000 443\r\n").await.unwrap();
    let config = Browser::trusting(&authority, &[&TLS13], &[]).config;
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let mut alice = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    upgrade(&mut alice).await;
    assert_eq!(upstream.requests()[0].first("x-forwarded-for"), Some("2001:db8::7"));
}

#[tokio::test]
async fn plain_text_and_a_handshake_that_never_ends_are_closed() {
    let authority = Authority::new();
    authority.signs("edge");
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream)
        .node(pair(&authority, "edge"))
        .node(json!({ "limits": { "headerTimeoutMs": 300 } }))
        .start()
        .await;

    for bytes in [&b"GET /ws HTTP/1.1\r\nHost: shop.test\r\n\r\n"[..], b"\x16\x03\x01\x02", b""] {
        let mut wire = Wire::to(picket.gateway()).await;
        wire.writes(bytes).await;
        let rest = wire.rest().await;
        assert!(!rest.starts_with(b"HTTP"), "{:?}", String::from_utf8_lossy(&rest));
    }
    upstream.saw_no_request();
}

#[tokio::test]
async fn whoever_is_blocked_gets_no_tls_handshake() {
    let authority = Authority::new();
    authority.signs("edge");
    let upstream = Upstream::echo().await;
    let node = json!({ "proxyProtocol": "optional" });
    let picket = Picket::guarding(&upstream).node(pair(&authority, "edge")).node(node).start().await;
    picket.admin().blocks("198.51.100.7").await;
    let shakes_hands = async |address: &str| {
        let mut stream = TcpStream::connect(picket.gateway()).await.unwrap();
        stream.write_all(format!("PROXY TCP4 {address} 10.0.0.1 40000 443\r\n").as_bytes()).await.unwrap();
        let config = Browser::trusting(&authority, &[&TLS13], &[]).config;
        let name = ServerName::try_from("127.0.0.1").unwrap();
        within("a TLS handshake", TlsConnector::from(Arc::new(config)).connect(name, stream)).await.is_ok()
    };

    assert!(shakes_hands("198.51.100.8").await);
    eventually("the block to reach the node", async || (!shakes_hands("198.51.100.7").await).then_some(())).await;
    let record = picket.admin().audited("eventType=CONNECTION_BLOCKED", 1).await.remove(0);
    assert_eq!((&record["ip"], &record["reason"]), (&json!("198.51.100.7"), &json!("address_blocked")), "{record}");
    Browser::trusting(&authority, &[&TLS13], &[]).connects(&picket).await.expect("a trusted proxy stands for many");
    upstream.saw_no_request();
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_and_a_broken_one_leaves_the_old_in_use() {
    let authority = Authority::new();
    authority.signs("edge");
    let upstream = Upstream::echo().await;
    let picket =
        Picket::guarding(&upstream).node(pair(&authority, "edge")).node(json!({ "trustedProxies": [] })).start().await;
    let browser = Browser::trusting(&authority, &[&TLS13], &[]);
    let mut alice = browser.connects(&picket).await.unwrap();
    upgrade(&mut alice).await;
    let first = browser.is_shown(&picket).await;

    let outcomes = async |outcome: &str| {
        let metrics = picket.ops("/metrics").await.text;
        metrics.lines().any(|line| line.starts_with("picket_renewals_total") && line.contains(outcome))
    };
    std::fs::write(authority.file("edge.key"), "no key at all").unwrap();
    eventually("a renewal that failed", async || outcomes("failed").await.then_some(())).await;
    assert_eq!(browser.is_shown(&picket).await, first);
    assert!(picket.log().iter().any(|line| line.contains("the old ones stay")), "{:?}", picket.log());

    authority.signs("edge");
    eventually("the renewed certificate", async || (browser.is_shown(&picket).await != first).then_some(())).await;
    assert!(outcomes("renewed").await);
    is_served(&mut alice, r#"{"type":"still here"}"#).await;
}
