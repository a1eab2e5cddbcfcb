//! The edge: accepts connections, admits them, inspects every event, and passes on what is cleared.

pub mod config;
pub mod content;
