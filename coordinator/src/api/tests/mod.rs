//! The management API over HTTP, as an administrator and as everybody else meet it.

mod access;
mod audit;
mod blocking;
mod office;
mod policy;
mod secrecy;
mod state;
