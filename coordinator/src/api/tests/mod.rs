//! The management API over HTTP, as an administrator and as everybody else meet it.

mod access;
mod audit;
mod blocking;
mod dashboard;
mod faults;
mod office;
mod openapi;
mod policy;
mod secrecy;
mod state;
mod stream;
mod what_if;
