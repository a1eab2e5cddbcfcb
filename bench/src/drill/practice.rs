//! A target to practise on: Redis, a coordinator, a node with the policy of production, and an application that echoes.

use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::PathBuf;
use tokio::net::TcpListener;

use crate::cli::picket_executable;
use crate::dialect::Dialect;
use crate::echo;
use crate::picket::{Picket, Plan, json_route, policy};
use crate::redis::Redis;

#[derive(Debug, Args)]
#[command(next_help_heading = "Practice")]
pub struct PracticeArgs {
    /// Instead of --target: a Picket that this program starts with the policy of production, and ends afterwards
    #[arg(long)]
    practice: bool,
    /// A JSON merge patch over its policy
    #[arg(long, requires = "practice", value_parser = patch)]
    practice_policy: Option<Value>,
    /// The processor cores of its node, such as 0 or 0-1
    #[arg(long, requires = "practice")]
    practice_cores: Option<String>,
    /// The picket executable [default: beside this one]
    #[arg(long, requires = "practice")]
    picket: Option<PathBuf>,
}

/// all of it ends when this is dropped
pub struct Practice {
    pub address: SocketAddr,
    _node: Picket,
    _coordinator: Picket,
    _redis: Redis,
}

impl PracticeArgs {
    pub fn wanted(&self) -> bool {
        self.practice
    }
}

impl Practice {
    pub async fn start(args: &PracticeArgs, dialect: Dialect) -> Result<Self> {
        let executable = picket_executable(args.picket.as_ref())?;
        let upstream = application(dialect).await?;
        let redis = Redis::start(None).await?;
        let routes = match dialect {
            Dialect::Json => json_route(upstream),
            Dialect::Socketio => {
                json!([{ "path": "/socket.io/", "upstream": format!("http://{upstream}"), "protocol": "socketio" }])
            }
        };
        let policy = policy(args.practice_policy.clone().unwrap_or_else(|| json!({})));
        let plan = Plan { executable: &executable, redis: redis.url(), routes, policy, limits: json!({}) };
        let coordinator = plan.coordinator("coordinator-1", None).await?;
        let node = plan.node("edge-1", args.practice_cores.as_deref()).await?;
        Ok(Practice { address: node.address, _node: node, _coordinator: coordinator, _redis: redis })
    }
}

/// on a thread of its own, which ends with this process
async fn application(dialect: Dialect) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?.into_std()?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    std::thread::Builder::new().name("application".to_owned()).spawn(move || {
        let served = runtime.block_on(async { echo::serve(TcpListener::from_std(listener)?, dialect).await });
        if let Err(error) = served {
            eprintln!("the application of the practice target ended: {error:#}");
        }
    })?;
    Ok(address)
}

fn patch(text: &str) -> Result<Value, String> {
    serde_json::from_str::<Value>(text)
        .map_err(|error| error.to_string())
        .and_then(|value| if value.is_object() { Ok(value) } else { Err("not an object".to_owned()) })
}
