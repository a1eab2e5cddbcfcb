//! An open session: who holds it, what is said on it, and how it ends. The relay moves the bytes; conversations decide.

mod attention;
mod client;
mod guard;
mod patience;
mod plain;
mod polling;
mod presence;
mod probe;
mod relay;
mod socketio;
mod sockets;
mod step;

pub use attention::{Attention, ring_on_changes};
pub use client::Client;
pub use plain::Plain;
pub use polling::{Opener, PollingSession, PollingSessions, Terms, Turned};
pub use presence::Presence;
pub use probe::probe;
pub use relay::{Relay, dismiss};
pub use socketio::SocketIo;
pub use sockets::{Sockets, client_socket};
pub use step::{Conversation, Step, Violations, record};
