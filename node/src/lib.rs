//! The edge: accepts connections, admits them, inspects every event, and passes on what is cleared.
//!
//! Read [`admission`] and [`inspection`] first: the two pipelines are the heart, and all else serves them.

pub mod admission;
mod answer;
mod arrival;
pub mod assertion;
pub mod attempt;
mod check_api;
pub mod checks;
pub mod config;
pub mod content;
mod cors;
mod decide;
mod door;
mod forwarded;
mod framing;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod gate;
mod geo;
mod handshake;
pub mod identity;
pub mod inspection;
mod listener;
mod membership;
mod memory;
mod metrics;
mod ops;
pub mod pardons;
mod pending;
mod polling;
mod pool;
pub mod protocol;
mod proxy_protocol;
pub mod refusal;
mod renewal;
pub mod route;
mod session;
mod spans;
mod start;
mod stopwatch;
mod switch;
pub mod tls;
mod upstream;
pub mod upstream_tls;

pub use start::{Parts, Running, StartError, start};
