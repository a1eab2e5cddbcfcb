//! Routes: which path of which host goes to which upstream, and how its bytes are understood.

use http::Uri;
use http::uri::{Authority, PathAndQuery};
use std::sync::Arc;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::config::{DenyMode, Parser, Protocol, RouteConfig, Transport};
use crate::pool::Pool;
use crate::protocol::{EventField, RefusalForm, RefusalFormError};
use crate::renewal::Renewal;
use crate::upstream_tls::{self, Connector, UpstreamTlsError};

/// a route that works
pub struct Route {
    pub path: Arc<str>,
    hosts: Vec<String>,
    pub protocol: Protocol,
    pub event_field: EventField,
    /// how a refused message is answered; `None`: not at all
    pub refusal: Option<RefusalForm>,
    transports: Vec<Transport>,
    pub parser: Parser,
    pub deny_mode: DenyMode,
    pub upstreams: Pool,
    /// of the files of its upstreams' TLS, until somebody runs it
    pub renewal: Option<Renewal>,
}

/// where a route's connections go
#[derive(Clone)]
pub struct Upstream {
    pub authority: Authority,
    /// replaces the route's prefix; `None` keeps the request's path
    path: Option<String>,
    pub tls: Option<Encryption>,
    is_encrypted: bool,
}

/// how a connection to an upstream is encrypted
#[derive(Clone)]
pub struct Encryption {
    pub connector: Connector,
    pub name: ServerName<'static>,
}

#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    #[error("`{0}` is not a URL such as http://127.0.0.1:3000 or ws://127.0.0.1:4000/ws")]
    NotAUrl(String),
    #[error("upstreamTls: {0}")]
    Tls(Box<UpstreamTlsError>),
    #[error("refusal: {0}")]
    Refusal(#[from] RefusalFormError),
    #[error("names no upstream")]
    NoUpstream,
}

impl From<UpstreamTlsError> for RouteError {
    fn from(error: UpstreamTlsError) -> Self {
        RouteError::Tls(Box::new(error))
    }
}

impl Upstream {
    pub fn parse(text: &str) -> Result<Self, RouteError> {
        let not_a_url = || RouteError::NotAUrl(text.to_owned());
        let uri: Uri = text.parse().map_err(|_| not_a_url())?;
        let is_encrypted = match uri.scheme_str() {
            Some("http" | "ws") => false,
            Some("https" | "wss") => true,
            _ => return Err(not_a_url()),
        };
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or_else(not_a_url)?;
        let has_path = text.trim_start_matches(|c| c != ':').trim_start_matches("://").contains('/');
        let path = has_path.then(|| uri.path().to_owned());
        Ok(Upstream { authority: authority.clone(), path, tls: None, is_encrypted })
    }

    fn host(&self) -> &str {
        self.authority.host().trim_start_matches('[').trim_end_matches(']')
    }

    /// host and port to connect to
    pub fn address(&self) -> (String, u16) {
        (self.host().to_owned(), self.authority.port_u16().unwrap_or(if self.is_encrypted { 443 } else { 80 }))
    }
}

impl Route {
    pub fn new(config: &RouteConfig) -> Result<Self, RouteError> {
        let (upstreams, renewal) = upstreams(config)?;
        Ok(Route {
            path: config.path.as_str().into(),
            hosts: config.hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
            protocol: config.protocol,
            event_field: EventField::parse(&config.event_field),
            refusal: refusal_form(config)?,
            transports: config.transports.clone(),
            parser: config.parser,
            deny_mode: config.deny_mode,
            upstreams: Pool::of(upstreams),
            renewal,
        })
    }

    /// whether clients of this route may use the transport
    pub fn offers(&self, transport: Transport) -> bool {
        self.protocol == Protocol::SocketIo && self.transports.contains(&transport)
    }

    fn serves(&self, host: Option<&str>, path: &str) -> bool {
        let host_fits = self.hosts.is_empty() || host.is_some_and(|host| self.hosts.iter().any(|own| own == host));
        host_fits && self.rest(path).is_some()
    }

    /// what follows the route's prefix, which ends at a segment
    fn rest<'a>(&self, path: &'a str) -> Option<&'a str> {
        let rest = path.strip_prefix(&*self.path)?;
        (self.path.ends_with('/') || rest.is_empty() || rest.starts_with('/')).then_some(rest)
    }

    /// the path and query that the upstream is asked for
    pub fn upstream_target(&self, upstream: &Upstream, request: &PathAndQuery) -> String {
        let path = match (&upstream.path, self.rest(request.path())) {
            (Some(replacement), Some("")) => replacement.clone(),
            (Some(replacement), Some(rest)) => {
                format!("{}/{}", replacement.trim_end_matches('/'), rest.trim_start_matches('/'))
            }
            _ => request.path().to_owned(),
        };
        match request.query() {
            Some(query) => format!("{path}?{query}"),
            None => path,
        }
    }
}

fn refusal_form(config: &RouteConfig) -> Result<Option<RefusalForm>, RouteError> {
    match (&config.refusal, config.protocol) {
        (Some(template), _) => Ok(Some(RefusalForm::parse(template)?)),
        (None, Protocol::Json) => Ok(Some(RefusalForm::of_json_routes())),
        (None, Protocol::MsgPack | Protocol::SocketIo | Protocol::Text | Protocol::Opaque) => Ok(None),
    }
}

fn upstreams(config: &RouteConfig) -> Result<(Vec<Upstream>, Option<Renewal>), RouteError> {
    let mut upstreams: Vec<_> =
        config.upstream.urls().iter().map(|url| Upstream::parse(url)).collect::<Result<_, _>>()?;
    if upstreams.is_empty() {
        return Err(RouteError::NoUpstream);
    }
    if !upstreams.iter().any(|upstream| upstream.is_encrypted) {
        return Ok((upstreams, None));
    }
    let tls = config.upstream_tls.clone().unwrap_or_default();
    let (connector, renewal) = upstream_tls::connector(&tls)?;
    for upstream in upstreams.iter_mut().filter(|upstream| upstream.is_encrypted) {
        let name = upstream_tls::server_name(&tls, upstream.host())?;
        upstream.tls = Some(Encryption { connector: connector.clone(), name });
    }
    Ok((upstreams, renewal))
}

/// all routes; the longest path prefix wins, and a route that names hosts goes before one that takes any
pub struct Routes(Vec<Arc<Route>>);

impl Routes {
    pub fn new(mut routes: Vec<Route>) -> Self {
        routes.sort_by_key(|route| (std::cmp::Reverse(route.path.len()), route.hosts.is_empty()));
        Routes(routes.into_iter().map(Arc::new).collect())
    }

    pub fn find(&self, host: Option<&str>, path: &str) -> Option<&Arc<Route>> {
        self.0.iter().find(|route| route.serves(host, path))
    }
}

/// whether two servers could read this path differently: such a path is refused, so that rule and upstream mean the same
pub fn is_ambiguous(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    !path.starts_with('/')
        || path.contains("//")
        || path.contains('\\')
        || ["%2f", "%5c", "%2e", "%00"].iter().any(|escape| lower.contains(escape))
        || path.split('/').any(|segment| matches!(segment, "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(path: &str, hosts: &[&str], upstream: &str) -> Route {
        Route::new(&RouteConfig {
            path: path.into(),
            hosts: hosts.iter().map(|&host| host.into()).collect(),
            upstream: upstream.to_owned().into(),
            upstream_tls: None,
            protocol: Protocol::Json,
            deny_mode: crate::config::DenyMode::Http,
            event_field: "type".into(),
            refusal: None,
            transports: vec![Transport::Polling, Transport::WebSocket],
            parser: Parser::Default,
        })
        .unwrap()
    }

    #[test]
    fn the_longest_prefix_wins_and_ends_at_a_segment() {
        let routes = Routes::new(vec![
            route("/", &[], "http://a"),
            route("/ws", &[], "http://b"),
            route("/ws/admin", &[], "http://c"),
            route("/ws", &["shop.test"], "http://d"),
        ]);
        let goes_to = |host, path| routes.find(host, path).map(|route| route.upstreams.first().authority.to_string());
        assert_eq!(goes_to(None, "/ws/admin/x").as_deref(), Some("c"));
        assert_eq!(goes_to(None, "/ws/x").as_deref(), Some("b"));
        assert_eq!(goes_to(None, "/wsx").as_deref(), Some("a"));
        assert_eq!(goes_to(Some("shop.test"), "/ws").as_deref(), Some("d"));
    }

    #[test]
    fn an_upstream_path_replaces_the_prefix() {
        let target = |path: &str, upstream: &str, request: &str| {
            let route = route(path, &[], upstream);
            route.upstream_target(route.upstreams.first(), &request.parse().unwrap())
        };
        assert_eq!(target("/ws", "ws://u:4000/app", "/ws?x=1"), "/app?x=1");
        assert_eq!(target("/ws", "ws://u:4000/app/", "/ws/room"), "/app/room");
        assert_eq!(target("/ws", "ws://u:4000", "/ws/room"), "/ws/room");
        assert_eq!(target("/chat", "ws://u:4000/", "/chat"), "/");
    }

    #[test]
    fn h26_paths_with_two_readings_are_seen() {
        for path in ["/a/../b", "/a//b", "/a%2fb", "/a%2Eb", "/a\\b", "/./a", "a", "/a%00"] {
            assert!(is_ambiguous(path), "{path}");
        }
        assert!(!is_ambiguous("/socket.io/") && !is_ambiguous("/a/b..c/%20d"));
    }
}
