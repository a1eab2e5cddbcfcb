//! Opaque session tokens: the application's own endpoint says whose they are. Answers are cached, questions are bounded.

use parking_lot::Mutex;
use picket_shared::clock::Timestamp;
use picket_shared::reason::Reason;
use picket_shared::secret::Secret;
use picket_shared::state::RevocationView;
use picket_shared::token::User;
use reqwest::{Client, StatusCode, Url};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::Semaphore;

use crate::refusal::Denial;

/// answers that are remembered
const CACHE_ENTRIES_MAX: usize = 10_000;
/// questions that are open at once; more wait at most [`ANSWER_WAIT`] in all
const QUESTIONS_MAX: usize = 64;
const ANSWER_WAIT: Duration = Duration::from_secs(3);
/// between two looks for answers that no longer hold
const SWEEP_PAUSE: Duration = Duration::from_secs(1);
/// the longest answer that is read
const ANSWER_BYTES_MAX: usize = 65_536;

#[derive(Debug, thiserror::Error)]
pub enum IntrospectionError {
    #[error("not a URL: {0}")]
    Url(String),
    #[error("the HTTP client cannot start: {0}")]
    Client(#[from] reqwest::Error),
}

pub struct Introspector {
    client: Client,
    url: Url,
    user_pointer: String,
    role_pointer: String,
    hold: Duration,
    answers: Mutex<Answers>,
    questions: Semaphore,
}

#[derive(Default)]
struct Answers {
    known: HashMap<[u8; 32], Answer>,
    /// a full cache is not searched for each newcomer
    sweep_after: Timestamp,
}

#[derive(Clone)]
struct Answer {
    user: Option<User>,
    until: Timestamp,
}

impl Introspector {
    pub fn new(url: &str, user_pointer: &str, role_pointer: &str, hold: Duration) -> Result<Self, IntrospectionError> {
        let client =
            Client::builder().timeout(ANSWER_WAIT).redirect(reqwest::redirect::Policy::none()).no_proxy().build()?;
        Ok(Introspector {
            client,
            url: url.parse().map_err(|_| IntrospectionError::Url(url.to_owned()))?,
            user_pointer: user_pointer.to_owned(),
            role_pointer: role_pointer.to_owned(),
            hold,
            answers: Mutex::default(),
            questions: Semaphore::new(QUESTIONS_MAX),
        })
    }

    /// whom the session belongs to; an answer that was given before a revocation of its user is asked for again
    pub async fn user(&self, token: &Secret, revocations: &RevocationView, now: Timestamp) -> Result<User, Denial> {
        let key: [u8; 32] = Sha256::digest(token.expose()).into();
        let holds = |answer: &&Answer| {
            let is_void = answer.user.as_ref().is_some_and(|user| revocations.against(user).is_some());
            now < answer.until && !is_void
        };
        let known = self.answers.lock().known.get(&key).filter(holds).cloned();
        let user = match known {
            Some(answer) => answer.user,
            None => {
                let user = tokio::time::timeout(ANSWER_WAIT, self.ask(token, now))
                    .await
                    .unwrap_or_else(|_| Err(Reason::UpstreamSlow.into()))?;
                self.remember(key, Answer { user: user.clone(), until: now.plus(self.hold) }, now);
                user
            }
        };
        user.ok_or_else(|| Denial::from(Reason::TokenInvalid).because("the session endpoint does not know it"))
    }

    fn remember(&self, key: [u8; 32], answer: Answer, now: Timestamp) {
        let mut answers = self.answers.lock();
        if answers.known.len() >= CACHE_ENTRIES_MAX && now >= answers.sweep_after {
            answers.known.retain(|_, answer| now < answer.until);
            answers.sweep_after = now.plus(SWEEP_PAUSE);
        }
        if answers.known.len() < CACHE_ENTRIES_MAX || answers.known.contains_key(&key) {
            answers.known.insert(key, answer);
        }
    }

    async fn ask(&self, token: &Secret, now: Timestamp) -> Result<Option<User>, Denial> {
        let unavailable = |what: String| {
            Denial::from(Reason::UpstreamUnavailable).because(format!("auth.sessions.introspectUrl {what}"))
        };
        let _place = self.questions.acquire().await.map_err(|_| unavailable("is closed".into()))?;
        let request = self.client.get(self.url.clone()).bearer_auth(token.expose());
        let answer = request.send().await.map_err(|error| match error.is_timeout() {
            true => Denial::from(Reason::UpstreamSlow),
            false => unavailable("does not answer".into()),
        })?;
        match answer.status() {
            StatusCode::OK => self.read(answer, now).await.map_err(unavailable),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Ok(None),
            status => Err(unavailable(format!("answers {status}"))),
        }
    }

    /// the user that the answer names; `null`, or an answer that names none, is nobody
    async fn read(&self, mut answer: reqwest::Response, asked: Timestamp) -> Result<Option<User>, String> {
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|_| "breaks off".to_owned())? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(format!("answers more than {ANSWER_BYTES_MAX} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        let value: Value = serde_json::from_slice(&body).map_err(|_| "does not answer JSON".to_owned())?;
        let id = value.is_object().then(|| value.pointer(&self.user_pointer)).flatten();
        let user = id.and_then(|id| User::from_json(id, value.pointer(&self.role_pointer)));
        Ok(user.map(|user| User { issued: Some(asked), ..user }))
    }
}
