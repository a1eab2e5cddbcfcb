//! Login sessions of browsers: a random identifier in a cookie that scripts cannot read and other sites cannot send.

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};
use parking_lot::Mutex;
use picket_shared::clock::Timestamp;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

use crate::scope::Scope;

/// how long a session lasts
pub(crate) const SESSION_LIFE: Duration = Duration::from_secs(8 * 3600);
/// sessions at once; beyond it the one that ends first goes
const SESSIONS_MAX: usize = 1000;
pub(crate) const COOKIE_NAME: &str = "picket_session";
/// 256 bits
const ID_BYTES: usize = 32;

#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) name: String,
    pub(crate) scopes: Arc<[Scope]>,
    pub(crate) ends: Timestamp,
}

#[derive(Default)]
pub(crate) struct Sessions {
    open: Mutex<HashMap<String, Session>>,
    /// rings when one is closed before its time
    closings: watch::Sender<()>,
}

/// a session that a request goes on using after it was let in
pub(crate) struct InUse {
    id: String,
    closings: watch::Receiver<()>,
}

impl Sessions {
    /// opens a session; answers its identifier
    pub(crate) fn open(&self, session: Session, now: Timestamp) -> String {
        let id = picket_shared::random::hex(ID_BYTES);
        let mut open = self.open.lock();
        open.retain(|_, session| now < session.ends);
        if open.len() >= SESSIONS_MAX {
            let first = open.iter().min_by_key(|(_, session)| session.ends).map(|(id, _)| id.clone());
            first.and_then(|first| open.remove(&first));
            self.closings.send_replace(());
        }
        open.insert(id.clone(), session);
        id
    }

    /// the session that the request's cookie names, while it lasts
    pub(crate) fn find(&self, headers: &HeaderMap, now: Timestamp) -> Option<Session> {
        let open = self.open.lock();
        open.get(id_of(headers)?).filter(|session| now < session.ends).cloned()
    }

    pub(crate) fn close(&self, headers: &HeaderMap) {
        if let Some(id) = id_of(headers) {
            self.open.lock().remove(id);
            self.closings.send_replace(());
        }
    }

    /// what the request's cookie names, to wait for its end
    pub(crate) fn in_use(&self, headers: &HeaderMap) -> Option<InUse> {
        Some(InUse { id: id_of(headers)?.to_owned(), closings: self.closings.subscribe() })
    }

    /// until it is closed; that its time is up is for its user to see
    pub(crate) async fn ended(&self, session: &mut InUse) {
        while self.open.lock().contains_key(&session.id) {
            if session.closings.changed().await.is_err() {
                return;
            }
        }
    }
}

fn id_of(headers: &HeaderMap) -> Option<&str> {
    let cookies =
        headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(';'));
    cookies.filter_map(|cookie| cookie.trim().split_once('=')).find(|(name, _)| *name == COOKIE_NAME).map(|(_, id)| id)
}

/// `Set-Cookie` for a session; `Secure` where a proxy says that the browser speaks TLS
pub(crate) fn cookie(id: &str, life: Duration, headers: &HeaderMap) -> Option<HeaderValue> {
    let secure = headers.get("x-forwarded-proto").is_some_and(|scheme| scheme == "https");
    let attributes = if secure { "; Secure" } else { "" };
    HeaderValue::from_str(&format!(
        "{COOKIE_NAME}={id}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}{attributes}",
        life.as_secs()
    ))
    .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_millis(1_764_000_000_000);

    fn session() -> Session {
        Session { name: "warden".into(), scopes: Scope::ALL.into(), ends: START.plus(SESSION_LIFE) }
    }

    fn headers(cookie: &str) -> HeaderMap {
        HeaderMap::from_iter([(COOKIE, HeaderValue::from_str(cookie).unwrap())])
    }

    #[test]
    fn a_session_is_found_by_its_cookie_until_it_ends() {
        let sessions = Sessions::default();
        let id = sessions.open(session(), START);
        assert_eq!(id.len(), 64);
        let own = headers(&format!("theme=dark; {COOKIE_NAME}={id}"));
        assert!(sessions.find(&own, START).is_some());
        assert!(sessions.find(&own, START.plus(SESSION_LIFE)).is_none());
        for other in ["", "picket_session=", "picket_session=0", &format!("xpicket_session={id}"), &id] {
            assert!(sessions.find(&headers(other), START).is_none(), "{other}");
        }
        sessions.close(&own);
        assert!(sessions.find(&own, START).is_none());
    }

    #[tokio::test]
    async fn who_uses_a_session_hears_of_its_end_and_not_of_anothers() {
        let sessions = Sessions::default();
        let [own, other] = [(); 2].map(|()| headers(&format!("{COOKIE_NAME}={}", sessions.open(session(), START))));
        let mut used = sessions.in_use(&own).unwrap();
        sessions.close(&other);
        let waits = tokio::time::timeout(Duration::from_millis(20), sessions.ended(&mut used)).await;
        assert!(waits.is_err(), "another one was closed");
        sessions.close(&own);
        sessions.ended(&mut used).await;
        let mut late = sessions.in_use(&own).unwrap();
        sessions.ended(&mut late).await;
    }

    #[test]
    fn sessions_are_bounded() {
        let sessions = Sessions::default();
        for n in 0..SESSIONS_MAX + 50 {
            sessions.open(Session { ends: START.plus(Duration::from_secs(n as u64 + 1)), ..session() }, START);
        }
        assert_eq!(sessions.open.lock().len(), SESSIONS_MAX);
    }
}
