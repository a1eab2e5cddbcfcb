//! The processes that a history is about, where their gateways are, and what happens to them in each phase.

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

use super::plan::{Limits, NODES, Phase, WINDOWS_PER_PHASE};
use super::record::{Fault, Log, Look, Watch};
use crate::picket::{Picket, Plan, json_route, policy};
use crate::redis::Redis;

const LOOKS_EVERY: Duration = Duration::from_millis(100);
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// where the nodes listen; who comes in the place of another one has an address of its own
#[derive(Clone)]
pub struct Gateways(Arc<RwLock<Vec<Doors>>>);

#[derive(Clone, Copy)]
struct Doors {
    gateway: SocketAddr,
    ops: SocketAddr,
    /// nobody is there at present
    is_gone: bool,
}

impl Gateways {
    pub fn of(&self, node: usize) -> SocketAddr {
        self.doors(node).gateway
    }

    fn doors(&self, node: usize) -> Doors {
        self.0.read().unwrap_or_else(PoisonError::into_inner)[node]
    }

    fn set(&self, node: usize, doors: Doors) {
        self.0.write().unwrap_or_else(PoisonError::into_inner)[node] = doors;
    }
}

impl Doors {
    fn of(node: &Picket) -> Self {
        Doors { gateway: node.address, ops: node.ops, is_gone: false }
    }
}

pub struct Cluster {
    executable: PathBuf,
    upstream: SocketAddr,
    limits: Limits,
    timeout: Duration,
    redis: Redis,
    nodes: Vec<Option<Picket>>,
    _coordinator: Picket,
    pub gateways: Gateways,
}

fn plan<'a>(executable: &'a Path, redis: &Redis, upstream: SocketAddr, limits: &Limits) -> Plan<'a> {
    Plan {
        executable,
        redis: redis.url(),
        routes: json_route(upstream),
        policy: policy(limits.policy()),
        limits: json!({}),
    }
}

fn patience(timeout: Duration) -> Value {
    json!({ "state": { "timeoutMs": u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX) } })
}

impl Cluster {
    /// nodes wait for Redis as long as `timeout`
    pub async fn start(executable: PathBuf, upstream: SocketAddr, limits: &Limits, timeout: Duration) -> Result<Self> {
        let redis = Redis::start(None).await?;
        let plan = plan(&executable, &redis, upstream, limits);
        let coordinator = plan.coordinator("coordinator-1", None).await?;
        let mut nodes = Vec::new();
        for number in 1..=NODES {
            nodes.push(plan.node_with(&format!("edge-{number}"), None, patience(timeout), &[]).await?);
        }
        let gateways = Gateways(Arc::new(RwLock::new(nodes.iter().map(Doors::of).collect())));
        Ok(Cluster {
            nodes: nodes.into_iter().map(Some).collect(),
            executable,
            upstream,
            limits: limits.clone(),
            timeout,
            redis,
            _coordinator: coordinator,
            gateways,
        })
    }

    /// a window in calm, the fault for two and a half windows, and the rest of the phase in calm again
    pub async fn goes_through(&mut self, phase: Phase, log: &Log, watch: Watch) -> Result<()> {
        let (start, window) = (Instant::now(), self.limits.longest());
        let windows = |count: f64| start + window.mul_f64(count);
        sleep_until(windows(1.0)).await;
        self.fails(phase, log, watch).await?;
        sleep_until(windows(3.5)).await;
        self.recovers(phase, log, watch).await?;
        sleep_until(windows(WINDOWS_PER_PHASE as f64)).await;
        Ok(())
    }

    async fn fails(&mut self, phase: Phase, log: &Log, watch: Watch) -> Result<()> {
        let at = watch.now();
        match phase {
            Phase::Calm => {}
            Phase::Paused => {
                log.write(&Fault::Cut { at, forgets: false });
                self.redis.pause().await?;
            }
            Phase::Killed => {
                log.write(&Fault::Cut { at, forgets: true });
                self.redis.kill()?;
            }
            Phase::Node => {
                let node = NODES - 1;
                log.write(&Fault::NodeDies { node, at });
                self.gateways.set(node, Doors { is_gone: true, ..self.gateways.doors(node) });
                self.nodes[node] = None;
            }
        }
        Ok(())
    }

    async fn recovers(&mut self, phase: Phase, log: &Log, watch: Watch) -> Result<()> {
        let at = watch.now();
        match phase {
            Phase::Calm => {}
            Phase::Paused => {
                log.write(&Fault::Back { at });
                self.redis.resume().await?;
            }
            Phase::Killed => {
                log.write(&Fault::Back { at });
                self.redis.restart().await?;
            }
            Phase::Node => {
                let plan = plan(&self.executable, &self.redis, self.upstream, &self.limits);
                let node = plan.node_with("edge-again", None, patience(self.timeout), &[]).await?;
                self.gateways.set(NODES - 1, Doors::of(&node));
                self.nodes[NODES - 1] = Some(node);
                log.write(&Fault::NodeReturns { node: NODES - 1, at: watch.now() });
            }
        }
        Ok(())
    }

    pub fn still_runs(&mut self) -> Result<()> {
        self.nodes.iter_mut().flatten().try_for_each(|node| node.process.still_runs())
    }
}

/// asks every node again and again how it decides
pub async fn look_after(gateways: Gateways, log: Log, watch: Watch) -> Result<()> {
    let http = reqwest::Client::builder().no_proxy().timeout(ANSWERS_WITHIN).build().context("a client")?;
    loop {
        for node in 0..NODES {
            let doors = gateways.doors(node);
            if let Some(look) = look(&http, node, doors.ops, watch).await.filter(|_| !doors.is_gone) {
                log.write(&look);
            }
        }
        sleep(LOOKS_EVERY).await;
    }
}

#[derive(Deserialize)]
struct Readiness {
    mode: String,
}

/// `None`: it does not answer
async fn look(http: &reqwest::Client, node: usize, ops: SocketAddr, watch: Watch) -> Option<Look> {
    let sent = watch.now();
    let readiness = http.get(format!("http://{ops}/readyz")).send().await.ok()?;
    let Readiness { mode } = readiness.json().await.ok()?;
    let metrics = http.get(format!("http://{ops}/metrics")).send().await.ok()?.text().await.ok()?;
    let [alone, overshoot] =
        ["picket_limits_alone_total", "picket_limits_overshoot_total"].map(|name| sum(&metrics, name));
    Some(Look { node, sent, done: watch.now(), is_normal: mode == "normal", alone, overshoot })
}

/// a counter over all its labels
fn sum(metrics: &str, name: &str) -> u64 {
    metrics
        .lines()
        .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::sum;

    #[test]
    fn a_counter_is_summed_over_its_labels() {
        let metrics = "# TYPE a_total counter\na_total{b=\"c\"} 3\na_total{b=\"d\"} 4\na_total_more 9\n";
        assert_eq!(sum(metrics, "a_total"), 7);
    }
}
