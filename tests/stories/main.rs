//! What Picket promises, told from outside: real processes, real sockets, the contract's words.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what it expects and fails loudly"
)]
#![expect(clippy::print_stderr, reason = "a failing story shows what the gateway said")]
#![expect(
    clippy::disallowed_methods,
    reason = "the stories run in real time and their actors end with the test's runtime"
)]

mod harness;

mod admission;
mod alarms;
mod behaviour;
mod blocks;
mod check_api;
mod cluster;
mod command_line;
mod content;
mod countries;
mod database;
mod documents;
mod doors;
mod frames;
mod graphql;
mod handshake;
mod identity;
mod inspection;
mod limits;
mod management;
mod msgpack;
mod operation;
mod policy_changes;
mod polling;
mod published_keys;
mod secrecy;
mod shadow;
mod socketio;
mod socketio_msgpack;
mod telemetry;
mod tls;
mod tokens_end;
mod upstreams;
