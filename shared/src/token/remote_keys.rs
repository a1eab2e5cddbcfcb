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

/// the shortest time between two fetches, failed ones too
const FETCH_PAUSE: Duration = Duration::from_secs(30);
/// how often the keys are looked at without a need
const REFRESH_EVERY: Duration = Duration::from_secs(300);
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
        tokio::pin!(stop);
        loop {
            let outcome = self.fetch().await;
            let next = match &outcome {
                Ok(_) => REFRESH_EVERY,
                Err(_) => FETCH_PAUSE,
            };
            self.take(outcome, clock.now());
            tokio::select! {
                () = tokio::time::sleep(FETCH_PAUSE) => {}
                () = &mut stop => return,
            }
            tokio::select! {
                () = tokio::time::sleep(next.saturating_sub(FETCH_PAUSE)) => {}
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
