//! The actors of the stories: the gateway under test, alone or as a cluster, the application behind it, the state it shares,
//! callers, and the administrator.

mod admin;
mod application;
mod authority;
mod caller;
mod client;
mod cluster;
mod collector;
mod detour;
mod engine_io;
mod events;
mod geography;
mod hostile;
mod http;
mod key_server;
mod log;
mod nginx;
mod pager;
mod patience;
mod picket;
mod polling;
mod postgres;
mod program;
mod redis;
mod resp;
mod sessions;
mod slow_pager;
mod tls_front;
mod tokens;
mod topology;
mod upstream;
mod wire;

pub use admin::{Admin, Reply};
pub use application::{Application, Form};
pub use authority::Authority;
pub use caller::{Caller, Outcome};
pub use client::Client;
pub use cluster::Cluster;
pub use collector::{Collector, Source, text};
pub use detour::Detour;
pub use engine_io::{SocketIo, packed, packed_head};
pub use events::Events;
pub use geography::Geography;
pub use hostile::HostileUpstream;
pub use key_server::KeyServer;
pub use nginx::Nginx;
pub use pager::Pager;
pub use patience::{eventually, soon, within};
pub use picket::{ADMIN, PASSWORD, Picket, PicketBuilder};
pub use polling::{Poller, SEPARATOR, body, is_unknown};
pub use postgres::{PASSWORD as DATABASE_PASSWORD, Postgres};
pub use program::{Ended, Program};
pub use redis::Redis;
pub use resp::Answer;
pub use sessions::SessionServer;
pub use slow_pager::SlowPager;
pub use tls_front::TlsFront;
pub use tokens::{
    Holder, OTHER_ISSUER, PUBLIC_KEY, SECRET, Token, issuer, other_publishing_issuer, publishing_issuer, rsa_issuer,
    seconds_from_now,
};
pub use topology::{DOWN_AFTER, Topology};
pub use upstream::{FLOOD_BYTES, Seen, Upstream};
pub use wire::{Frame, Wire, legal_close_codes};

/// The one origin that the harness's policy allows, and that every caller claims unless the story says otherwise.
pub const HOME: &str = "https://app.example.com";
