//! The keys that an issuer publishes, fetched in the background: proving a token never waits for them.
//!
//! One task fetches, so no two fetches run at once, and it rests between them, whatever tokens ask for.

use arc_swap::ArcSwapOption;
use jsonwebtoken::Algorithm;
use reqwest::{Certificate, Client, StatusCode};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use url::Url;

use super::issuer::{IssuerConfig, KeyError};
use super::key_set::KeySet;
use crate::clock::{Clock, Timestamp};

const PACE: Pace = Pace { pause: Duration::from_secs(30), refresh: Duration::from_secs(300) };
/// how long keys are used after they were fetched last
const USABLE_FOR: Duration = Duration::from_secs(3600);
/// how long one fetch may take
const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// the longest answer that is read
const ANSWER_BYTES_MAX: usize = 256 * 1024;

pub struct RemoteKeys {
    issuer: String,
    url: Url,
    algorithms: Vec<Algorithm>,
    ca_file: Option<PathBuf>,
    client: Client,
    fetched: ArcSwapOption<Fetched>,
    wanted: Notify,
}

/// how often an issuer is asked
#[derive(Clone, Copy)]
struct Pace {
    /// the shortest time between two fetches, failed ones too
    pause: Duration,
    /// how often the keys are looked at without a need
    refresh: Duration,
}

struct Fetched {
    keys: KeySet,
    at: Timestamp,
}

impl RemoteKeys {
    pub(super) fn new(config: &IssuerConfig, url: Url) -> Result<Self, KeyError> {
        Ok(RemoteKeys {
            issuer: config.issuer.clone(),
            url,
            algorithms: config.algorithms.iter().map(|algorithm| algorithm.jose()).collect(),
            client: client(config.ca_file.as_deref())?,
            ca_file: config.ca_file.clone(),
            fetched: ArcSwapOption::empty(),
            wanted: Notify::new(),
        })
    }

    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// how old the keys are; `None` while there are none
    pub fn age(&self, now: Timestamp) -> Option<Duration> {
        self.fetched.load().as_ref().map(|fetched| now.since(fetched.at))
    }

    /// the keys, unless there are none or they were fetched too long ago
    pub(super) fn usable(&self, now: Timestamp) -> Option<UsableKeys> {
        let fetched = self.fetched.load_full()?;
        (now.since(fetched.at) <= USABLE_FOR).then_some(UsableKeys(fetched))
    }

    /// a token names a key that is not there: the keys are fetched again, as soon as the pause allows
    pub(super) fn want(&self) {
        self.wanted.notify_one();
    }

    /// fetches the keys now and again until `stop` resolves
    pub async fn follow(self: Arc<Self>, clock: Arc<dyn Clock>, stop: impl Future<Output = ()>) {
        self.follow_at(PACE, &*clock, stop).await;
    }

    async fn follow_at(&self, pace: Pace, clock: &dyn Clock, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        loop {
            let outcome = self.fetch().await;
            let next = match &outcome {
                Ok(_) => pace.refresh,
                Err(_) => pace.pause,
            };
            self.take(outcome, clock.now());
            tokio::select! {
                () = tokio::time::sleep(pace.pause) => {}
                () = &mut stop => return,
            }
            tokio::select! {
                () = tokio::time::sleep(next.saturating_sub(pace.pause)) => {}
                () = self.wanted.notified() => {}
                () = &mut stop => return,
            }
        }
    }

    fn take(&self, outcome: Result<KeySet, String>, now: Timestamp) {
        match outcome {
            Ok(keys) => {
                tracing::debug!(issuer = self.issuer, "keys fetched");
                self.fetched.store(Some(Arc::new(Fetched { keys, at: now })));
            }
            Err(error) => {
                let usable = self.usable(now).is_some();
                tracing::warn!(issuer = self.issuer, url = %self.url, error, usable, "keys not fetched, those that are known serve for an hour");
            }
        }
    }

    async fn fetch(&self) -> Result<KeySet, String> {
        // Authorities are renewed, too: the file is read for each fetch.
        let client = match &self.ca_file {
            Some(file) => client(Some(file)).map_err(|error| error.to_string())?,
            None => self.client.clone(),
        };
        let mut answer = client.get(self.url.clone()).send().await.map_err(|error| match error.is_timeout() {
            true => format!("no answer within {ANSWER_WAIT:?}"),
            false => format!("no answer: {}", cause(&error)),
        })?;
        if answer.status() != StatusCode::OK {
            return Err(format!("status {}", answer.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|_| "the answer broke off".to_owned())? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(format!("more than {ANSWER_BYTES_MAX} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        KeySet::parse(&body, &self.algorithms).ok_or_else(|| "no key set with a key for these algorithms".to_owned())
    }
}

fn client(ca_file: Option<&Path>) -> Result<Client, KeyError> {
    let mut builder = Client::builder().timeout(ANSWER_WAIT).redirect(reqwest::redirect::Policy::none()).no_proxy();
    if let Some(path) = ca_file {
        let pem = std::fs::read(path).map_err(|error| KeyError::Unreadable(path.to_owned(), error.to_string()))?;
        let authorities = Certificate::from_pem_bundle(&pem).unwrap_or_default();
        if authorities.is_empty() {
            return Err(KeyError::BadAuthorities(path.to_owned()));
        }
        builder = builder.tls_certs_only(authorities);
    }
    builder.build().map_err(|error| KeyError::Client(cause(&error)))
}

/// the innermost says most, and no URL
fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// keys in use, whatever is fetched meanwhile
pub(super) struct UsableKeys(Arc<Fetched>);

impl std::ops::Deref for UsableKeys {
    type Target = KeySet;

    fn deref(&self) -> &KeySet {
        &self.0.keys
    }
}

#[cfg(test)]
mod tests {
    use super::super::SigningAlgorithm;
    use super::super::verifier::{ClaimNames, TokenError, TokenVerifier};
    use super::*;
    use crate::clock::ManualClock;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
    use jsonwebtoken::jwk::Jwk;
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::json;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::time::{Instant, sleep};

    const NOW: Timestamp = Timestamp::from_millis(1_764_000_000_000);
    const MINUTE: Duration = Duration::from_secs(60);

    /// an issuer with one key, and who believes it
    struct Issuer {
        key: EncodingKey,
        verifier: TokenVerifier,
    }

    impl Issuer {
        fn at(url: &str) -> Self {
            let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
            let key = EncodingKey::from_ec_der(pair.to_pkcs8v1().unwrap().as_ref());
            let config = IssuerConfig {
                issuer: "shop".into(),
                audience: "chat".into(),
                algorithms: vec![SigningAlgorithm::ES256],
                secret: None,
                secret_file: None,
                public_key_file: None,
                jwks_url: Some(url.to_owned()),
                ca_file: None,
            };
            Issuer { key, verifier: TokenVerifier::new(&[config], ClaimNames::default()).unwrap() }
        }

        fn keys(&self) -> &Arc<RemoteKeys> {
            self.verifier.remote_keys().next().unwrap()
        }

        fn published(&self) -> String {
            let mut jwk = Jwk::from_encoding_key(&self.key, Algorithm::ES256).unwrap();
            jwk.common.key_id = Some("known".into());
            json!({ "keys": [jwk] }).to_string()
        }

        fn believes(&self, kid: &str, now: Timestamp) -> Result<(), TokenError> {
            let header = Header { kid: Some(kid.into()), ..Header::new(Algorithm::ES256) };
            let expires = now.as_millis() / 1000 + 60;
            let claims = json!({ "iss": "shop", "aud": "chat", "sub": "alice", "exp": expires });
            self.verifier.verify(&encode(&header, &claims, &self.key).unwrap(), now).map(drop)
        }
    }

    #[test]
    fn x32_known_keys_serve_for_an_hour_while_their_issuer_is_away_and_no_longer() {
        let issuer = Issuer::at("http://127.0.0.1:1/");
        let (keys, published) = (issuer.keys(), issuer.published());
        let fetched = || Ok(KeySet::parse(published.as_bytes(), &[Algorithm::ES256]).unwrap());
        assert_eq!((keys.age(NOW), issuer.believes("known", NOW)), (None, Err(TokenError::NoKeys)));

        keys.take(fetched(), NOW);
        for minutes in [0, 30, 59, 60] {
            let now = NOW.plus(minutes * MINUTE);
            keys.take(Err("away".into()), now);
            assert_eq!(issuer.believes("known", now), Ok(()), "after {minutes} minutes");
            assert_eq!(issuer.believes("unknown", now), Err(TokenError::Invalid), "after {minutes} minutes");
        }
        let late = NOW.plus(60 * MINUTE + Duration::from_millis(1));
        assert_eq!(issuer.believes("known", late), Err(TokenError::NoKeys));
        assert_eq!(keys.age(late), Some(60 * MINUTE + Duration::from_millis(1)));

        keys.take(fetched(), late);
        assert_eq!(issuer.believes("known", late), Ok(()), "it is back");
    }

    #[tokio::test]
    async fn j09_x32_an_issuer_that_is_away_is_asked_once_in_each_pause_however_many_tokens_ask() {
        const PAUSE: Duration = Duration::from_millis(100);
        const PAUSES: u32 = 8;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = Issuer::at(&format!("http://{}/", listener.local_addr().unwrap()));
        let (asked, away, published) = (AtomicUsize::new(0), AtomicBool::new(false), issuer.published());
        let answers = async {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 4096];
                assert_ne!(stream.read(&mut request).await.unwrap(), 0);
                asked.fetch_add(1, SeqCst);
                let status = if away.load(SeqCst) { "500 Away" } else { "200 OK" };
                let length = published.len();
                let answer =
                    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{published}");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        };
        let clock = ManualClock::at(NOW);
        let pace = Pace { pause: PAUSE, refresh: 1000 * PAUSE };
        let follows = issuer.keys().follow_at(pace, &clock, std::future::pending());
        let story = async {
            let start = Instant::now();
            while issuer.believes("known", NOW).is_err() {
                sleep(Duration::from_millis(1)).await;
            }
            away.store(true, SeqCst);
            while start.elapsed() < PAUSES * PAUSE {
                for n in 0..50 {
                    assert_eq!(issuer.believes(&format!("unknown-{n}"), NOW), Err(TokenError::Invalid));
                }
                assert_eq!(issuer.believes("known", NOW), Ok(()), "they serve meanwhile");
                sleep(Duration::from_millis(5)).await;
            }
            let most = start.elapsed().as_millis() / PAUSE.as_millis() + 1;
            let asked = asked.load(SeqCst) as u128;
            assert!((3..=most).contains(&asked), "{asked} questions, where {most} are allowed");
        };
        tokio::select! {
            () = story => {}
            () = follows => unreachable!("nobody stops it"),
            never = answers => never,
        }
    }
}
