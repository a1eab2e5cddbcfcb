//! The state that a process decides with: its own memory, or a Redis that it shares.

use picket_shared::clock::Clock;
use picket_shared::state::{ClockSource, RedisOptions, RedisState, State};
use picket_shared::tasks::Tasks;
use picket_shared::telemetry::{Metrics, StateCalls};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

use crate::config::Config;
use crate::role::Role;

/// the state, and whether it is away; `None` where it cannot be
pub struct Opened {
    pub state: State,
    pub outage: Option<watch::Receiver<bool>>,
    /// the one that all processes over this state share
    pub clock: Arc<dyn Clock>,
}

/// opens the state; a Redis that is away is waited for while the process serves without it
pub async fn open(
    role: Role,
    config: &Config,
    id: &str,
    tasks: &Tasks,
    clock: &Arc<dyn Clock>,
    metrics: &Metrics,
) -> anyhow::Result<Opened> {
    if role == Role::Standalone {
        return Ok(Opened { state: State::memory(), outage: None, clock: clock.clone() });
    }
    let options = RedisOptions {
        key_prefix: config.state.key_prefix.clone(),
        timeout: Duration::from_millis(config.state.timeout_ms),
        id: id.to_owned(),
        clock_source: ClockSource::Redis,
        required: false,
        // Nodes need no permission to write the block list: see docs/cluster.md.
        expires_blocks: role.is_coordinator(),
        ca_file: config.state.ca_file.clone(),
        calls: Some(StateCalls::new(&metrics.meter("picket"))),
    };
    let redis = RedisState::connect(&config.state.url, options, tasks, clock.clone()).await?;
    for warning in redis.warnings().await {
        tracing::warn!("{warning}");
    }
    if redis.is_open() {
        tracing::warn!("redis is not reachable at the start, it is tried again until it is");
    }
    Ok(Opened { state: redis.state(), outage: Some(redis.circuit()), clock: redis.clock() })
}
