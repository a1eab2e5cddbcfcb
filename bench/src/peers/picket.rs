//! Picket as in production: a node and a coordinator over Redis, the policy as shipped, its limits beyond the load.

use anyhow::Result;
use serde_json::{Value, json};

use super::{LIMIT_BEYOND, Stage, Standing, debian, echo};
use crate::dialect::Dialect;
use crate::picket::{Plan, json_route, policy};
use crate::redis::Redis;

pub fn missing() -> Option<String> {
    debian("redis-server", "redis-server")
}

/// `environment` is the node's, and so are `more_routes` beside the measured one
pub async fn start(
    stage: &Stage,
    dialect: Dialect,
    limit: u32,
    environment: &[(&str, String)],
    more_routes: &[Value],
) -> Result<Standing> {
    let (echo, upstream) = echo(stage, dialect).await?;
    let rest = Some(stage.cores.rest.as_str());
    let redis = Redis::start(rest).await?;
    let mut routes = match dialect {
        Dialect::Json => json_route(upstream),
        Dialect::Socketio => {
            json!([{ "path": "/socket.io/", "upstream": format!("http://{upstream}"), "protocol": "socketio" }])
        }
    };
    if let Some(routes) = routes.as_array_mut() {
        routes.extend_from_slice(more_routes);
    }
    let plan = Plan {
        executable: &stage.picket,
        redis: redis.url(),
        routes,
        policy: policy(limits(limit)),
        limits: json!({ "upgradesPerSecondMax": LIMIT_BEYOND }),
    };
    let coordinator = plan.coordinator("coordinator-1", rest).await?;
    let node = plan.node_with("edge-1", Some(&stage.cores.proxy), json!({}), environment).await?;
    let (coordinator, its_directory) = coordinator.into_parts();
    let address = node.address;
    let (process, directory) = node.into_parts();
    Ok(Standing {
        process,
        address,
        redis: Some(redis),
        coordinator: Some(coordinator),
        _others: vec![echo],
        _directories: vec![its_directory, directory],
    })
}

/// only what would refuse the load is other than as shipped
fn limits(messages: u32) -> Value {
    json!({ "rateLimiting": {
        "handshakeLimit": { "maxHandshakes": LIMIT_BEYOND },
        "connectionLimit": { "maxConnections": LIMIT_BEYOND },
        "messageLimit": { "maxMessages": messages },
        "eventLimit": { "maxEvents": LIMIT_BEYOND },
        "burstLimit": { "maxEvents": LIMIT_BEYOND },
    } })
}
