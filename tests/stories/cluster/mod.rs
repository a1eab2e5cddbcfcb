//! What Picket promises of several nodes over one Redis: one budget, one block list, one policy; and what becomes of each when
//! a node, a coordinator or Redis is lost.

mod alarms;
mod audit;
mod blocks;
mod budgets;
mod canary;
mod failover;
mod herd;
mod incident;
mod keys;
mod kill_switch;
mod loss;
mod members;
mod meter;
mod outage;
mod overshoot;
mod partition;
mod places;
mod policy;
mod retries;
mod snapshot;
mod spool;
mod start;
mod store;
mod stream;
mod succession;
mod telemetry;
mod topologies;
mod what_if;
