//! An open session: who holds it, what is said on it, and how it ends. The relay moves the bytes; conversations decide.

mod attention;
mod guard;
mod patience;
mod plain;
mod presence;
mod relay;
mod socketio;
mod sockets;
mod step;

pub use attention::{Attention, ring_on_changes};
pub use plain::Plain;
pub use presence::Presence;
pub use relay::Relay;
pub use socketio::SocketIo;
pub use sockets::Sockets;
pub use step::{Conversation, Step, Violations, record};
