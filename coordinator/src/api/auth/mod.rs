//! Who calls: a layer over every path, known or not. What it does not name as open is denied without a valid credential.
//!
//! HTTP Basic with the management credential, an API key or a token of the management issuer as bearer, or the session of a login; an
//! application's token is none of these.

mod client;
mod credential;
mod session;
mod throttle;
mod visits;
pub(super) mod write;

pub(crate) use credential::Credential;
pub use credential::CredentialError;
pub(crate) use session::{COOKIE_NAME, InUse, SESSION_LIFE, Session, Sessions, cookie};
pub(crate) use throttle::Failures;
pub(crate) use visits::{Due, Visits};

use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, Method};
use picket_shared::address::AddressKey;
use picket_shared::audit::{AuditRecord, EventType, IDENTIFIER_BYTES_MAX, Outbox, Severity, printable};
use picket_shared::clock::{Clock, Timestamp};
use picket_shared::state::RevocationView;
use picket_shared::token::{TokenError, TokenVerifier};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::problem::Problem;
use super::{Api, pages};
use crate::api_keys::{self, ApiKeys};
use crate::metrics::{Instruments, LoginOutcome};
use crate::scope::Scope;

/// failed logins of one address in a minute; then it waits
pub(crate) const FAILURES_MAX: usize = 10;
/// how long a login waits when its account failed too often from anywhere
pub(crate) const ACCOUNT_DELAY: Duration = Duration::from_secs(1);
/// the longest account name that is recorded, in bytes
const ACCOUNT_BYTES_MAX: usize = 64;
/// who a token's subject is in the audit trail, so that none passes for an administrator or an API key
const TOKEN_PREFIX: &str = "token:";

/// who calls, and what they may
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) name: String,
    pub(crate) scopes: Arc<[Scope]>,
    pub(crate) address: IpAddr,
}

impl Caller {
    pub(crate) fn may(&self, scope: Scope) -> bool {
        self.scopes.iter().any(|own| own.includes(scope))
    }
}

/// where the request comes from, logged in or not
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientAddress(pub(crate) IpAddr);

/// a handler that names a `Caller` is never reached without one
impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Caller>().cloned().ok_or_else(|| Problem::unauthorized("log in first"))
    }
}

/// what the layer decides with
pub(crate) struct Gate {
    pub(crate) id: String,
    pub(crate) credential: Option<Credential>,
    pub(crate) api_keys: ApiKeys,
    pub(crate) tokens: Option<TokenVerifier>,
    pub(crate) revocations: RevocationView,
    pub(crate) sessions: Sessions,
    pub(crate) addresses: Failures<AddressKey>,
    pub(crate) accounts: Failures<String>,
    pub(crate) visits: Visits,
    pub(crate) outbox: Outbox,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) instruments: Instruments,
}

pub(super) async fn authenticate(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let (mut head, body) = request.into_parts();
    let address = client::address(&head, &api.trusted_proxies);
    head.extensions.insert(ClientAddress(address));
    match admit(&api.gate, &head, address).await {
        Ok(Some(caller)) => {
            head.extensions.insert(caller);
        }
        Ok(None) => {}
        Err(problem) => return problem.into_response(),
    }
    next.run(Request::from_parts(head, body)).await
}

/// the caller; nobody on an open path; or why not
async fn admit(gate: &Gate, head: &Parts, address: IpAddr) -> Result<Option<Caller>, Problem> {
    let caller = identify(gate, &head.headers, address).await.map_err(|problem| challenged(problem, head))?;
    if caller.is_none() && !is_open(&head.method, head.uri.path()) {
        return Err(challenged(Problem::unauthorized("log in first"), head));
    }
    Ok(caller)
}

/// by the Authorization header, else by the session's cookie
async fn identify(gate: &Gate, headers: &HeaderMap, address: IpAddr) -> Result<Option<Caller>, Problem> {
    if let Some(claim) = claim(headers)? {
        return gate.let_in(claim, address).await.map(Some);
    }
    let session = gate.sessions.find(headers, gate.clock.now());
    Ok(session.map(|session| Caller { name: session.name, scopes: session.scopes, address }))
}

/// what answers without a credential; compared byte for byte, so that no other spelling of a path is open
fn is_open(method: &Method, path: &str) -> bool {
    match *method {
        Method::GET | Method::HEAD => path == "/api/security/health" || pages::is_page(path),
        Method::POST => path == "/api/security/login",
        _ => false,
    }
}

/// a page's own script gets no password dialog of the browser
fn challenged(problem: Problem, head: &Parts) -> Problem {
    let of_script = head.headers.get("sec-fetch-dest").is_some_and(|destination| destination == "empty");
    problem.with_challenge(!of_script)
}

/// what a request claims to be
pub(crate) enum Claim {
    Password { name: String, password: String },
    Token(String),
}

/// with what somebody proves who they are
#[derive(Clone, Copy)]
enum Proof {
    Password,
    ApiKey,
    Token,
}

impl Proof {
    fn as_str(self) -> &'static str {
        match self {
            Proof::Password => "password",
            Proof::ApiKey => "apiKey",
            Proof::Token => "token",
        }
    }
}

fn claim(headers: &HeaderMap) -> Result<Option<Claim>, Problem> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let unreadable = || Problem::unauthorized("the Authorization header cannot be read");
    let (scheme, rest) = value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or_else(unreadable)?;
    if values.next().is_some() {
        return Err(unreadable());
    }
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(Some(Claim::Token(rest.trim().to_owned())));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(Problem::unauthorized("log in with Basic or Bearer"));
    }
    let plain =
        STANDARD.decode(rest.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(unreadable)?;
    let (name, password) = plain.split_once(':').ok_or_else(unreadable)?;
    Ok(Some(Claim::Password { name: name.to_owned(), password: password.to_owned() }))
}

impl Gate {
    /// the session that a request was let in by; `None` if it came with a credential of its own
    pub(crate) fn session_in_use(&self, headers: &HeaderMap) -> Option<InUse> {
        let has_own = headers.contains_key(AUTHORIZATION);
        if has_own { None } else { self.sessions.in_use(headers) }
    }

    /// for a session: each login is on record
    pub(crate) async fn log_in(&self, claim: Claim, address: IpAddr) -> Result<Caller, Problem> {
        let (caller, proof) = self.prove(claim, address).await?;
        self.record(address, &caller.name, proof, LoginOutcome::Accepted);
        Ok(caller)
    }

    /// for one request: programs prove themselves with each, so one login an hour stands for all from an address
    async fn let_in(&self, claim: Claim, address: IpAddr) -> Result<Caller, Problem> {
        let (caller, proof) = self.prove(claim, address).await?;
        if self.visits.come(&caller.name, address, proof.as_str(), self.clock.now()) == Due::Now {
            self.record(address, &caller.name, proof, LoginOutcome::Accepted);
        }
        Ok(caller)
    }

    async fn prove(&self, claim: Claim, address: IpAddr) -> Result<(Caller, Proof), Problem> {
        self.slow(address)?;
        Ok(match claim {
            Claim::Password { name, password } => (self.password(name, password, address).await?, Proof::Password),
            Claim::Token(token) if token.starts_with(api_keys::PREFIX) => (self.key(&token, address)?, Proof::ApiKey),
            Claim::Token(token) => (self.token(&token, address)?, Proof::Token),
        })
    }

    async fn password(&self, name: String, password: String, address: IpAddr) -> Result<Caller, Problem> {
        let Some(credential) = &self.credential else {
            return Err(Problem::unauthorized("no management credential is configured"));
        };
        let caller = |name| Caller { name, scopes: Scope::ALL.into(), address };
        if credential.is_remembered(&name, &password) {
            return Ok(caller(name));
        }
        let account = printable(&name, ACCOUNT_BYTES_MAX);
        if self.accounts.full(&account, self.clock.now()).is_some() {
            tokio::time::sleep(ACCOUNT_DELAY).await;
        }
        let turn = credential.turn().await.ok_or_else(|| Problem::unavailable("shutting down"))?;
        // While it waited others may have failed, or the same credential may have been proved.
        let now = self.slow(address)?;
        if credential.is_remembered(&name, &password) {
            return Ok(caller(name));
        }
        // Charged before it is judged, so that guesses at once are counted like guesses one after the other.
        self.addresses.charge(AddressKey::of(address), now);
        let verdict = credential.verify(turn, &name, &password).await;
        if !verdict.right {
            self.accounts.charge(account.clone(), now);
            self.record(address, &account, Proof::Password, LoginOutcome::Refused);
            return Err(Problem::unauthorized("name or password is wrong"));
        }
        self.addresses.refund(&AddressKey::of(address), now);
        Ok(caller(name))
    }

    fn key(&self, key: &str, address: IpAddr) -> Result<Caller, Problem> {
        let found = self.api_keys.find(key).map(|(name, scopes)| Caller { name: name.to_owned(), scopes, address });
        found.ok_or_else(|| self.refuse_token(address, Proof::ApiKey, self.clock.now()))
    }

    fn token(&self, token: &str, address: IpAddr) -> Result<Caller, Problem> {
        let now = self.clock.now();
        let Some(tokens) = &self.tokens else {
            return Err(self.refuse_token(address, Proof::Token, now));
        };
        let user = tokens.verify(token, now).map_err(|error| match error {
            TokenError::Expired => {
                self.turn_away(address, "", "expired token", now);
                Problem::unauthorized("the token has expired")
            }
            TokenError::Invalid => self.refuse_token(address, Proof::Token, now),
            TokenError::NoKeys => Problem::unavailable("the keys of coordinator.tokens could not be fetched"),
        })?;
        let name = format!("{TOKEN_PREFIX}{}", printable(&user.id, IDENTIFIER_BYTES_MAX));
        if self.revocations.against(&user).is_some() {
            self.turn_away(address, &name, "revoked token", now);
            return Err(Problem::unauthorized("the token has been revoked"));
        }
        let has = |role: &str| user.roles.iter().any(|own| own == role);
        let scopes: Arc<[Scope]> = match (has("admin"), has("viewer")) {
            (true, _) => Scope::ALL.into(),
            (false, true) => Scope::ALL.into_iter().filter(|scope| scope.is_read()).collect(),
            (false, false) => {
                self.turn_away(address, &name, "token without a role", now);
                return Err(Problem::forbidden("the token has neither the role `admin` nor `viewer`"));
            }
        };
        Ok(Caller { name, scopes, address })
    }

    /// Who has a genuine token guesses nothing, so no attempt is charged, and a program that tries on and on is recorded once an hour
    fn turn_away(&self, address: IpAddr, account: &str, why: &'static str, now: Timestamp) {
        if self.visits.come(account, address, why, now) == Due::Now {
            self.record(address, account, Proof::Token, LoginOutcome::Refused);
        }
    }

    fn refuse_token(&self, address: IpAddr, proof: Proof, now: Timestamp) -> Problem {
        self.addresses.charge(AddressKey::of(address), now);
        self.record(address, "", proof, LoginOutcome::Refused);
        Problem::unauthorized("the token is not valid here")
    }

    /// an address that failed too often waits, whatever it brings; no other address does
    fn slow(&self, address: IpAddr) -> Result<Timestamp, Problem> {
        let now = self.clock.now();
        match self.addresses.full(&AddressKey::of(address), now) {
            None => Ok(now),
            Some(wait) => {
                self.instruments.count_login(LoginOutcome::Slowed);
                Err(Problem::too_many("too many failed logins from this address", wait))
            }
        }
    }

    fn record(&self, address: IpAddr, account: &str, proof: Proof, outcome: LoginOutcome) {
        let (severity, message) = match outcome {
            LoginOutcome::Accepted => (Severity::Low, "login to the management API"),
            LoginOutcome::Refused | LoginOutcome::Slowed => (Severity::Medium, "failed login to the management API"),
        };
        let record = AuditRecord::new(EventType::AdminLogin, severity, address, message, self.clock.now());
        let record = record.with("outcome", outcome.as_str()).with("account", account).with("proof", proof.as_str());
        self.outbox.record(AuditRecord { node: Some(self.id.clone()), ..record });
        self.instruments.count_login(outcome);
    }
}
