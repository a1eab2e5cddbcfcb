//! Codecs: what the bytes of a message mean. No IO, no clock, no policy.

mod event_name;
pub mod frames;
pub mod msgpack;
pub mod payload;
mod refusal_form;
pub mod socketio;

pub use event_name::{EventField, NamedAt, find, locate, locate_first};
pub use refusal_form::{RefusalForm, RefusalFormError, Refused};

#[cfg(test)]
mod differential;
