//! Where a token may stand in a request or a Socket.IO CONNECT: the configured places, first found wins.

use http::{HeaderMap, header};
use picket_shared::secret::Secret;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenSource {
    /// `auth.token` of the Socket.IO CONNECT packet
    SocketIoAuth,
    /// `Authorization: Bearer TOKEN` (RFC 6750)
    Authorization,
    /// the subprotocol offered after `bearer` or `access_token`, for browsers, which cannot set headers
    Subprotocol,
    Query(String),
    Cookie(String),
}

impl TokenSource {
    pub fn parse(text: &str) -> Option<Self> {
        let named = |prefix: &str| text.strip_prefix(prefix).filter(|name| !name.is_empty()).map(str::to_owned);
        match text {
            "socketio-auth" => Some(TokenSource::SocketIoAuth),
            "authorization" => Some(TokenSource::Authorization),
            "subprotocol" => Some(TokenSource::Subprotocol),
            _ => named("query:").map(TokenSource::Query).or_else(|| named("cookie:").map(TokenSource::Cookie)),
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct TokenSources(pub Vec<TokenSource>);

/// a token, and how early in the configured order its source stands
#[derive(Clone, Debug)]
pub struct FoundToken {
    pub token: Secret,
    place: usize,
}

impl TokenSources {
    /// the token of an upgrade request
    pub fn in_request(&self, headers: &HeaderMap, query: Option<&str>) -> Option<FoundToken> {
        let at = |source: &TokenSource| match source {
            TokenSource::SocketIoAuth => None,
            TokenSource::Authorization => bearer(headers),
            TokenSource::Subprotocol => subprotocol(headers),
            TokenSource::Query(name) => in_query(query?, name),
            TokenSource::Cookie(name) => cookie(headers, name),
        };
        self.0.iter().enumerate().find_map(|(place, source)| at(source).map(|token| FoundToken { token, place }))
    }

    /// a parameter of a token that the query has twice: who reads the first one is not who reads the last
    pub fn doubled(&self, query: Option<&str>) -> Option<&str> {
        let names = self.0.iter().filter_map(|source| match source {
            TokenSource::Query(name) => Some(name.as_str()),
            _ => None,
        });
        let pairs = || url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        names.into_iter().find(|name| pairs().filter(|(key, _)| key == name).count() > 1)
    }

    /// the token of a Socket.IO CONNECT or of its upgrade request, whichever source stands first
    pub fn in_connect(&self, auth: Option<Secret>, request: Option<&FoundToken>) -> Option<Secret> {
        let auth_place = self.0.iter().position(|source| *source == TokenSource::SocketIoAuth);
        match (auth.zip(auth_place), request) {
            (Some((_, place)), Some(found)) if found.place < place => Some(found.token.clone()),
            (Some((auth, _)), _) => Some(auth),
            (None, found) => found.map(|found| found.token.clone()),
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<Secret> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| Secret::new(token.trim()))
}

fn subprotocol(headers: &HeaderMap) -> Option<Secret> {
    let offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL);
    let mut names =
        offered.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).map(str::trim);
    names.find(|name| matches!(*name, "bearer" | "access_token"))?;
    names.next().map(Secret::new)
}

fn in_query(query: &str, name: &str) -> Option<Secret> {
    url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, token)| Secret::new(token))
}

fn cookie(headers: &HeaderMap, name: &str) -> Option<Secret> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut cookies = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    cookies.find(|(key, _)| *key == name).map(|(_, token)| Secret::new(token.trim_matches('"')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_configured_source_that_has_a_token_wins() {
        let parse = |texts: &[&str]| TokenSources(texts.iter().map(|text| TokenSource::parse(text).unwrap()).collect());
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, "Bearer from-header".parse().unwrap());
        headers.insert(header::COOKIE, "a=b; sid=\"from-cookie\"".parse().unwrap());
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, "chat, bearer, from-subprotocol".parse().unwrap());
        let found = |texts: &[&str]| {
            parse(texts)
                .in_request(&headers, Some("x=1&token=from%2Dquery"))
                .map(|found| found.token.expose().to_owned())
        };
        assert_eq!(found(&["socketio-auth", "authorization"]).as_deref(), Some("from-header"));
        assert_eq!(found(&["cookie:sid", "authorization"]).as_deref(), Some("from-cookie"));
        assert_eq!(found(&["query:token"]).as_deref(), Some("from-query"));
        assert_eq!(found(&["subprotocol"]).as_deref(), Some("from-subprotocol"));
        assert_eq!(found(&["cookie:other"]), None);
        assert_eq!(TokenSource::parse("query:"), None);
        let connect = |texts: &[&str]| {
            let sources = parse(texts);
            let request = sources.in_request(&headers, None);
            sources.in_connect(Some(Secret::new("from-auth")), request.as_ref()).map(|token| token.expose().to_owned())
        };
        assert_eq!(connect(&["subprotocol", "socketio-auth"]).as_deref(), Some("from-subprotocol"));
        assert_eq!(connect(&["query:none", "socketio-auth", "cookie:sid"]).as_deref(), Some("from-auth"));
        assert_eq!(connect(&["cookie:sid"]).as_deref(), Some("from-cookie"));
        assert_eq!(connect(&["query:none"]), None);
    }
}
