//! What teams build in JavaScript: a proxy on `ws`, and a Socket.IO server that checks in its own process.

use anyhow::Result;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::{Peer, Stage, Standing, debian, echo};
use crate::client::HOME;
use crate::machine;
use crate::ports;
use crate::process::{Running, command};
use crate::redis::Redis;
use crate::token::{AUDIENCE, ISSUER, SECRET};

pub fn missing(stage: &Stage) -> Option<String> {
    debian("node", "nodejs").or_else(|| debian("redis-server", "redis-server")).or_else(|| {
        let modules = stage.peers.join("node/node_modules");
        (!modules.is_dir())
            .then(|| "the packages of bench/peers/node are missing: npm ci --prefix bench/peers/node".to_owned())
    })
}

pub fn version(peer: Peer) -> String {
    let packages = if peer == Peer::NodeProxy { "ws 8.23.0" } else { "socket.io 4.8.4" };
    format!("{packages} on Node {}", machine::version(Path::new("node"), "--version"))
}

pub async fn start(peer: Peer, stage: &Stage, limit: u32) -> Result<Standing> {
    let checked = peer.checks();
    let redis = if checked { Some(Redis::start(Some(&stage.cores.rest)).await?) } else { None };
    let address = ports::free();
    let script = if peer == Peer::NodeProxy { "proxy.mjs" } else { "socketio.mjs" };
    let mut command = node(stage, &stage.cores.proxy, script, address);
    command
        .env("CHECKS", if checked { "on" } else { "off" })
        .env("REDIS_URL", redis.as_ref().map(Redis::url).unwrap_or_default())
        .env("JWT_SECRET", SECRET)
        .env("JWT_ISSUER", ISSUER)
        .env("JWT_AUDIENCE", AUDIENCE)
        .env("ORIGIN", HOME)
        .env("LIMIT", limit.to_string())
        .env("CONNECTIONS_LIMIT", super::LIMIT_BEYOND.to_string());
    let mut others = Vec::new();
    if peer == Peer::NodeProxy {
        let (echo, upstream) = echo(stage, peer.dialect()).await?;
        command.env("UPSTREAM", format!("ws://{upstream}"));
        others.push(echo);
    }
    let mut process = Running::start(peer.title(), command)?;
    process.listens(address).await?;
    Ok(Standing { process, address, redis, coordinator: None, _others: others, _directories: Vec::new() })
}

/// the Socket.IO server without checks, behind a proxy
pub async fn application(stage: &Stage) -> Result<(Running, SocketAddr)> {
    let address = ports::free();
    let mut command = node(stage, &stage.cores.rest, "socketio.mjs", address);
    command.env("CHECKS", "off");
    let mut process = Running::start("the Socket.IO application", command)?;
    process.listens(address).await?;
    Ok((process, address))
}

fn node(stage: &Stage, cores: &str, script: &str, address: SocketAddr) -> Command {
    let mut command = command(Some(cores), "node");
    command
        .arg(script)
        .current_dir(stage.peers.join("node"))
        .env("NODE_ENV", "production")
        .env("PORT", address.port().to_string());
    command
}
