//! `POST /revoke`: tokens die before their time, and the sockets that they opened close, on every node.

use axum::extract::State;
use http::StatusCode;
use picket_shared::audit::{EventType, IDENTIFIER_BYTES_MAX, Severity, printable};
use picket_shared::clock::Timestamp;
use picket_shared::policy::Mistake;
use picket_shared::state::{Added, REVOCATIONS_MAX, Revocation, Revoked};
use picket_shared::token::LEEWAY;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::auth::Caller;
use super::input::{self, Input, NoQuery};
use super::openapi::Operation;
use super::problem::Problem;
use super::{Answer, Shared, Success};
use crate::scope::Scope;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Revoke {
    /// the one token of this id
    #[schemars(length(min = 1, max = 256))]
    jti: Option<String>,
    /// the tokens of this user
    #[schemars(length(min = 1, max = 256))]
    user_id: Option<String>,
    /// only those that were issued before; now, if not given
    issued_before: Option<String>,
    /// needed to revoke the tokens of everybody
    #[serde(default)]
    force: bool,
}

/// which tokens died, and until when that is remembered
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Remembered {
    jti: Option<String>,
    user_id: Option<String>,
    issued_before: Option<Timestamp>,
    by: String,
    until: Timestamp,
}

impl From<Revocation> for Remembered {
    fn from(Revocation { revoked, by, until, .. }: Revocation) -> Self {
        let (jti, user_id, issued_before) = match revoked {
            Revoked::Token(jti) => (Some(jti), None, None),
            Revoked::User(user, before) => (None, Some(user), Some(before)),
            Revoked::Everyone(before) => (None, None, Some(before)),
        };
        Remembered { jti, user_id, issued_before, by, until }
    }
}

pub(super) async fn post(
    State(api): Shared,
    caller: Caller,
    _: NoQuery,
    Input(input): Input<Revoke>,
) -> Answer<Remembered> {
    let now = api.clock.now();
    let revoked = revoked(&input, now)?;
    let since = match revoked {
        Revoked::Token(_) => now,
        Revoked::User(_, before) | Revoked::Everyone(before) => before.max(now),
    };
    let until = since.plus(api.token_age_max).plus(LEEWAY);
    let revocation = Revocation { revoked, by: caller.name.clone(), at: now, until };
    match api.state.revocations.revoke(vec![revocation.clone()], now).await? {
        Added::Yes => {}
        Added::Full => {
            return Err(Problem::conflict(format!(
                "{REVOCATIONS_MAX} revocations are in force; one with `issuedBefore` alone replaces many of them"
            )));
        }
    }
    tracing::info!(by = caller.name, "tokens revoked");
    api.record(EventType::AdminAction, Severity::High, &caller, "tokens revoked", |record| match &revocation.revoked {
        Revoked::Token(jti) => record.with("jti", jti.as_str()),
        Revoked::User(user, before) => {
            let user = printable(user, IDENTIFIER_BYTES_MAX);
            record.with("revokedUser", user).with("issuedBefore", before.to_string())
        }
        Revoked::Everyone(before) => record.with("issuedBefore", before.to_string()),
    });
    Ok(Success(revocation.into()))
}

pub(super) fn describe() -> Operation {
    Operation::new(Scope::BlocksWrite, "Tokens die, and the sockets that they opened close, on every node")
        .body::<Revoke>(json!({ "userId": "alice" }))
        .gives::<Remembered>("which tokens died, and until when that is remembered")
        .example(json!({
            "jti": null,
            "userId": "alice",
            "issuedBefore": "2026-01-31T12:00:00.000Z",
            "by": "warden",
            "until": "2027-02-01T12:01:00.000Z",
        }))
        .fails(
            StatusCode::CONFLICT,
            "it would log everybody out and is not forced, or too many revocations are in force",
        )
}

fn revoked(input: &Revoke, now: Timestamp) -> Result<Revoked, Problem> {
    for (field, id) in [("jti", &input.jti), ("userId", &input.user_id)] {
        let sound = id.as_deref().map_or(Ok(()), input::without_nul);
        sound.map_err(|message| Problem::mistake(field, message))?;
    }
    let before = match &input.issued_before {
        None => None,
        Some(text) => Some(moment(text, now).map_err(|mistake| Problem::mistakes(vec![mistake]))?),
    };
    match (&input.jti, &input.user_id, before) {
        (Some(jti), None, None) => Ok(Revoked::Token(jti.clone())),
        (None, Some(user), before) => Ok(Revoked::User(user.clone(), before.unwrap_or(now))),
        (None, None, Some(before)) if input.force => Ok(Revoked::Everyone(before)),
        (None, None, Some(_)) => Err(Problem::conflict("that logs everybody out; send `force: true` if that is meant")),
        (Some(_), _, _) => {
            Err(Problem::mistake("jti", "means one token: give neither userId nor issuedBefore with it"))
        }
        (None, None, None) => Err(Problem::mistake("", "name a token (jti), a user (userId) or a time (issuedBefore)")),
    }
}

fn moment(text: &str, now: Timestamp) -> Result<Timestamp, Mistake> {
    let moment = Timestamp::parse_rfc3339(text)
        .ok_or_else(|| Mistake::new("issuedBefore", "must be a time such as 2026-01-31T12:00:00Z"))?;
    match moment <= now.plus(LEEWAY) {
        true => Ok(moment),
        false => Err(Mistake::new("issuedBefore", "must not be in the future: later logins would be refused")),
    }
}
