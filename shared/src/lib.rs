//! What every part of Picket speaks: the vocabulary, the policy, the contracts of the state with their backends, telemetry.

pub mod address;
pub mod appeal;
pub mod audit;
pub mod behaviour;
pub mod clock;
pub mod forwarded;
pub mod hex;
pub mod listener;
pub mod policy;
pub mod problem;
pub mod random;
pub mod reason;
pub mod schema;
pub mod secret;
pub mod snapshot;
pub mod state;
pub mod tasks;
pub mod telemetry;
pub mod token;
pub mod window;
pub mod window_table;
