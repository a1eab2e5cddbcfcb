//! Codecs: what the bytes of a message mean. No IO, no clock, no policy.

mod event_name;
pub mod frames;
pub mod msgpack;
pub mod payload;
pub mod socketio;

#[cfg(test)]
mod differential;

pub use event_name::{EventField, NamedAt, locate, locate_first};
