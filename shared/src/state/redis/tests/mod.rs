//! The backend against a real redis-server.

mod audit;
mod cluster;
mod cost;
mod faults;
mod keys;
mod loss;
mod masters;
mod model;
mod permissions;
mod server;
mod shares;
mod skew;

use crate::clock::Timestamp;
use crate::state::{Block, BlockOrigin, BlockScope, CounterKey, LimitName, State, Subject};
use server::Server;

/// what the laws see, with the server that it needs
struct Lawful {
    state: State,
    _server: Server,
}

impl Lawful {
    async fn on(server: Server) -> Self {
        Lawful { state: server.state_by_caller().await, _server: server }
    }
}

impl std::ops::Deref for Lawful {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

crate::state::laws::suite!(*Lawful::on(Server::start().await).await);

mod on_valkey {
    use super::{Lawful, Server};

    crate::state::laws::suite!(*Lawful::on(Server::start_valkey().await).await);
}

/// a time that Redis does not look at
const UNUSED: Timestamp = Timestamp::from_millis(0);

fn messages_of(user: &str) -> CounterKey {
    CounterKey { subject: Subject::User(user.into()), limit: LimitName::Messages }
}

fn block(network: &str) -> Block {
    Block {
        network: crate::address::parse_network(network).unwrap(),
        reason: "test".into(),
        origin: BlockOrigin::Manual,
        by: "admin".into(),
        since: UNUSED,
        until: None,
        scope: BlockScope::Everyone,
        users: Vec::new(),
    }
}
