//! Who is told of alarms: a receiver of webhooks that verifies what comes by its signature, as Standard Webhooks asks.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::crypto::sign;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::patience::within;

const SECRET: [u8; 32] = *b"the secret of a pager in a story";

pub struct Pager {
    address: SocketAddr,
    rings: mpsc::UnboundedReceiver<(HeaderMap, String)>,
    folder: TempDir,
}

impl Pager {
    pub async fn listens() -> Self {
        let (sender, rings) = mpsc::unbounded_channel();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let hears = async |State(sender): State<mpsc::UnboundedSender<_>>, headers: HeaderMap, body: String| {
            sender.send((headers, body)).unwrap();
        };
        let router = Router::new().route("/pager", post(hears)).with_state(sender);
        tokio::spawn(async move { axum::serve(listener, router).await });
        let folder = TempDir::new().unwrap();
        let pager = Pager { address, rings, folder };
        std::fs::write(pager.secret_file(), format!("whsec_{}\n", STANDARD.encode(SECRET))).unwrap();
        pager
    }

    fn secret_file(&self) -> PathBuf {
        self.folder.path().join("pager.secret")
    }

    /// its entry in `policy.monitoring.notifications`
    pub fn entry(&self) -> Value {
        json!({
            "kind": "webhook",
            "url": format!("http://{}/pager", self.address),
            "minSeverity": "high",
            "secretFile": self.secret_file(),
        })
    }

    /// The next alarm of this kind, whose signature is right.
    pub async fn rings_for(&mut self, kind: &str) -> Value {
        within(&format!("an alarm of {kind}"), self.hears_of(kind)).await
    }

    /// As promised, for an alarm that takes longer than patience; and how long it took.
    pub async fn rings_soon_for(&mut self, kind: &str, promised: Duration) -> (Value, Duration) {
        let start = Instant::now();
        match tokio::time::timeout(promised, self.hears_of(kind)).await {
            Ok(alarm) => (alarm, start.elapsed()),
            Err(_) => panic!("an alarm of {kind}: not within {promised:?}"),
        }
    }

    async fn hears_of(&mut self, kind: &str) -> Value {
        loop {
            let (headers, body) = self.rings.recv().await.unwrap();
            let header = |name: &str| headers[name].to_str().unwrap();
            let signed = format!("{}.{}.{body}", header("webhook-id"), header("webhook-timestamp"));
            let url_safe = sign(signed.as_bytes(), &EncodingKey::from_secret(&SECRET), Algorithm::HS256).unwrap();
            let digest = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(url_safe).unwrap();
            assert_eq!(header("webhook-signature"), format!("v1,{}", STANDARD.encode(digest)));
            let alarm: Value = serde_json::from_str(&body).unwrap();
            if alarm["data"]["kind"] == kind {
                return alarm;
            }
        }
    }
}
