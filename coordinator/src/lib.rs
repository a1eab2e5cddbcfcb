//! The coordinator: gathers the audit trail, scores addresses, blocks them, and serves the management API.

pub mod config;
