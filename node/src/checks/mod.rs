//! The checks, in the order of the pipelines: plain functions that take what they use and know nothing of their caller.
//!
//! A check does not log, count or close; `decide` does. Cost grows along the order: memory, then the shared state, then
//! cryptography.

pub mod behaviour;
pub mod concurrency;
pub mod connection_rate;
pub mod content;
pub mod country;
pub mod event_rate;
pub mod handshake_rate;
pub mod identity;
pub mod inspection_time;
pub mod message_rate;
pub mod origin;
pub mod payload;
pub mod permission;
pub mod reputation;
pub mod upgrade_rate;
