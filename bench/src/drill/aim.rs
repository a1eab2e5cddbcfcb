//! What is attacked, in which dialect, and as whom.

use anyhow::{Context, Result, bail};
use clap::Args;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::lookup_host;
use tokio::time::timeout;
use url::Url;

use crate::client::{Door, HOME, NotOpened, Socket};
use crate::dialect::Dialect;
use crate::token::{self, Signer};

/// a Socket.IO introduction included
const INTRODUCED_WITHIN: Duration = Duration::from_secs(10);
/// attackers are numbered from here, well-behaved clients from 0
pub const ATTACKERS: usize = 1000;

#[derive(Debug, Args)]
#[command(next_help_heading = "Target")]
pub struct Aim {
    /// The gateway, as ws://HOST:PORT/PATH; before its TLS, as wss:// is not spoken
    #[arg(long, value_name = "URL", required_unless_present = "practice", conflicts_with = "practice")]
    target: Option<String>,
    /// What the target speaks
    #[arg(long, default_value = "json")]
    pub protocol: Dialect,
    /// An origin that the target allows
    #[arg(long, default_value = HOME)]
    origin: String,
    /// A bearer token; repeat it, and connections take them in turn
    #[arg(long, env = "PICKET_DRILL_TOKEN", hide_env_values = true, value_delimiter = ',')]
    token: Vec<String>,
    /// Sign a token (HS256) for a user of each connection's own, with this secret
    #[arg(long, env = "PICKET_DRILL_JWT_SECRET", hide_env_values = true, conflicts_with = "token")]
    jwt_secret: Option<String>,
    /// `iss` of those tokens
    #[arg(long, default_value = crate::token::ISSUER)]
    jwt_issuer: String,
    /// `aud` of those tokens
    #[arg(long, default_value = crate::token::AUDIENCE)]
    jwt_audience: String,
    /// Send an X-Forwarded-For with an address of each connection's own (198.18.0.0/15); counts only where the target trusts this
    /// machine as a proxy
    #[arg(long)]
    forwarded_for: bool,
    /// The name of the events that are sent
    #[arg(long, default_value = "chat:message", value_parser = event_name)]
    event: String,
    /// The member that holds it, on a JSON route
    #[arg(long, default_value = "type", value_parser = event_name)]
    event_field: String,
    /// Attack what is not on this machine. You say that it is yours, or that its owner has agreed
    #[arg(long)]
    i_am_allowed_to_attack_this_target: bool,
}

/// who is behind a connection
enum Identities {
    Anonymous,
    Tokens(Vec<String>),
    Signed(Signer),
}

pub struct Target {
    pub url: String,
    pub dialect: Dialect,
    pub origin: String,
    door: Door,
    identities: Identities,
    forwarded_for: bool,
    event: String,
    event_field: String,
}

/// one client, before it has connected
pub struct Visitor {
    pub door: Door,
    /// what limits count it by
    pub subject: String,
    token: Option<String>,
    dialect: Dialect,
}

impl Aim {
    pub async fn resolve(&self) -> Result<Target> {
        let text = self.target.as_deref().context("no --target")?;
        let url = Url::parse(text).with_context(|| format!("{text} is no URL"))?;
        if !matches!(url.scheme(), "ws" | "http") {
            bail!("{text}: only ws:// is spoken; aim at the gateway before its TLS");
        }
        let host = url.host_str().context("a target without a host")?;
        let port = url.port_or_known_default().context("a target without a port")?;
        // Brackets belong to the URL's form of an IPv6 address.
        let addresses = lookup_host((host.trim_matches(['[', ']']), port)).await;
        let addresses: Vec<_> = addresses.with_context(|| format!("{host} cannot be resolved"))?.collect();
        let address = *addresses.first().with_context(|| format!("{host} has no address"))?;
        if !self.i_am_allowed_to_attack_this_target && !addresses.iter().all(|address| address.ip().is_loopback()) {
            bail!(
                "{host} is not on this machine. If it is yours, or its owner has agreed, \
                 say --i-am-allowed-to-attack-this-target"
            );
        }
        let identities = match (&self.jwt_secret, self.token.as_slice()) {
            (Some(secret), _) => Identities::Signed(Signer {
                secret: secret.clone(),
                issuer: self.jwt_issuer.clone(),
                audience: self.jwt_audience.clone(),
            }),
            (None, []) => Identities::Anonymous,
            (None, tokens) => Identities::Tokens(tokens.to_vec()),
        };
        let authority = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let door = Door::new(address, &path_of(&url, self.protocol)).header("host", &authority);
        Ok(self.target(text.to_owned(), door, identities, self.forwarded_for))
    }

    /// a Picket of this program's own: it trusts its tokens and its addresses
    pub fn at_practice(&self, address: SocketAddr) -> Result<Target> {
        if self.origin != HOME {
            bail!("the practice target allows only {HOME}");
        }
        let door = Door::new(address, self.protocol.path());
        Ok(self.target(format!("ws://{address} (practice)"), door, Identities::Signed(Signer::own()), true))
    }

    fn target(&self, url: String, door: Door, identities: Identities, forwarded_for: bool) -> Target {
        Target {
            url,
            dialect: self.protocol,
            origin: self.origin.clone(),
            door: door.header("origin", &self.origin),
            identities,
            forwarded_for,
            event: self.event.clone(),
            event_field: self.event_field.clone(),
        }
    }
}

impl Target {
    pub fn address(&self) -> SocketAddr {
        self.door.address
    }

    /// nobody's in particular
    pub fn door(&self) -> &Door {
        &self.door
    }

    pub fn visitor(&self, number: usize) -> Result<Visitor> {
        let (token, user) = match &self.identities {
            Identities::Anonymous => (None, None),
            Identities::Tokens(tokens) => {
                let turn = number % tokens.len();
                (Some(tokens[turn].clone()), Some(format!("token {turn}")))
            }
            Identities::Signed(signer) => {
                let user = format!("drill-{number}");
                (Some(signer.sign(&user, token::ROLE)?), Some(user))
            }
        };
        let mut door = self.door.clone();
        let mut address = None;
        if self.forwarded_for {
            let own = format!("198.{}.{}.{}", 18 + number / 62_500 % 2, number / 250 % 250, number % 250 + 1);
            door = door.forwarded_for(&own);
            address = Some(own);
        }
        if let Some(token) = &token {
            door = door.header("authorization", &format!("Bearer {token}"));
        }
        let subject = user.or(address).unwrap_or_else(|| "this address".to_owned());
        Ok(Visitor { door, subject, token, dialect: self.dialect })
    }

    /// an event with a text that is already escaped
    pub fn event(&self, text: &str) -> String {
        self.dialect.event(&self.event_field, &self.event, text)
    }

    /// an event with members that are raw JSON
    pub fn event_of(&self, members: &str) -> String {
        self.dialect.event_of(&self.event_field, &self.event, members)
    }
}

impl Visitor {
    pub fn with_send_buffer(mut self, bytes: u32) -> Self {
        self.door.send_buffer = Some(bytes);
        self
    }

    pub async fn connect(&self) -> Result<Socket, NotOpened> {
        let mut socket = self.door.open().await?;
        match timeout(INTRODUCED_WITHIN, self.dialect.introduce(&mut socket, self.token.as_deref())).await {
            Ok(Ok(())) => Ok(socket),
            Ok(Err(error)) => Err(NotOpened::Unwelcome(error.to_string())),
            Err(_) => Err(NotOpened::TooSlow),
        }
    }
}

/// Socket.IO's usual place, and its transport, where the URL does not say otherwise
fn path_of(url: &Url, dialect: Dialect) -> String {
    let path = match (url.path(), dialect) {
        ("/" | "", Dialect::Socketio) => "/socket.io/",
        (path, _) => path,
    };
    match (url.query(), dialect) {
        (Some(query), _) => format!("{path}?{query}"),
        (None, Dialect::Socketio) => format!("{path}?EIO=4&transport=websocket"),
        (None, Dialect::Json) => path.to_owned(),
    }
}

/// a name that needs no escaping
fn event_name(text: &str) -> Result<String, String> {
    let plain =
        !text.is_empty() && text.chars().all(|letter| letter.is_ascii_graphic() && !matches!(letter, '"' | '\\'));
    if plain { Ok(text.to_owned()) } else { Err("a name of printable ASCII without quotes".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socketio_goes_to_its_usual_place_unless_told_otherwise() {
        let path = |url: &str, dialect| path_of(&Url::parse(url).unwrap(), dialect);
        assert_eq!(path("ws://h:1", Dialect::Socketio), "/socket.io/?EIO=4&transport=websocket");
        assert_eq!(path("ws://h:1/live/", Dialect::Socketio), "/live/?EIO=4&transport=websocket");
        assert_eq!(path("ws://h:1/ws?room=1", Dialect::Json), "/ws?room=1");
    }
}
