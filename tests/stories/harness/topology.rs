//! Redis as it is run in production: a Cluster, behind Sentinels, with TLS, or Valkey; each with the users and permissions of
//! `deploy/redis-acl.conf`, and a default user for the story.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::authority::Authority;
use super::patience::{eventually, soon};
use super::redis::{Redis, free_address};
use super::resp::Answer;

const RULES: &str = include_str!("../../../deploy/redis-acl.conf");
const NODE: &str = "picket-node:NODE-PASSWORD";
const COORDINATOR: &str = "picket-coordinator:COORDINATOR-PASSWORD";
/// How long a master is silent before a Sentinel takes it for dead.
pub const DOWN_AFTER: Duration = Duration::from_millis(1500);
/// How long all of Redis's own parts may take until they know each other: Sentinels say hello every two seconds.
const MEETS_WITHIN: Duration = Duration::from_secs(20);

pub struct Topology {
    /// The servers with data, the first one a master.
    servers: Vec<Redis>,
    _sentinels: Vec<Redis>,
    scheme: &'static str,
    address: SocketAddr,
    query: String,
    authority: Option<Authority>,
}

impl Topology {
    pub async fn single() -> Self {
        Self::of(Redis::start_with("redis-server".into(), RULES, vec![]).await, "redis")
    }

    pub async fn valkey() -> Self {
        Self::of(Redis::start_with(valkey(), RULES, vec![]).await, "redis")
    }

    /// Over TLS only an authority of the story's own vouches for it.
    pub async fn with_tls() -> Self {
        let authority = Authority::new();
        authority.signs("redis");
        let address = free_address();
        let mut arguments = vec!["--tls-port".to_owned(), address.port().to_string()];
        for (option, file) in [("cert", "redis.pem"), ("key", "redis.key"), ("ca-cert", "ca.pem")] {
            arguments.extend([format!("--tls-{option}-file"), authority.file(file).display().to_string()]);
        }
        arguments.extend(["--tls-auth-clients".into(), "no".into()]);
        let redis = Redis::start_with("redis-server".into(), RULES, arguments).await;
        Self { address, authority: Some(authority), ..Self::of(redis, "rediss") }
    }

    /// A Cluster of three masters.
    pub async fn cluster() -> Self {
        const SLOTS: usize = 16_384;
        const MASTERS: usize = 3;
        let (mut servers, mut buses) = (Vec::new(), Vec::new());
        for _ in 0..MASTERS {
            let bus = free_address().port().to_string();
            let options = ["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-announce-ip", "127.0.0.1"];
            let arguments = options.map(str::to_owned).into();
            servers.push(Redis::start_with("redis-server".into(), RULES, arguments).await);
            buses.push(bus);
        }
        for (number, server) in servers.iter().enumerate() {
            let (first, end) = (SLOTS * number / MASTERS, SLOTS * (number + 1) / MASTERS);
            server.does(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &(end - 1).to_string()]).await;
            server.does(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]).await;
            let port = server.address().port().to_string();
            servers[0].does(&["CLUSTER", "MEET", "127.0.0.1", &port, &buses[number]]).await;
        }
        for server in &servers {
            eventually("a cluster of three", async || {
                let told = server.does(&["CLUSTER", "INFO"]).await.text();
                (told.contains("cluster_state:ok") && told.contains("cluster_size:3")).then_some(())
            })
            .await;
        }
        let query = format!("?node={}&node={}", servers[1].address(), servers[2].address());
        let address = servers[0].address();
        Self { servers, _sentinels: Vec::new(), scheme: "redis-cluster", address, query, authority: None }
    }

    /// A master and a replica behind three Sentinels, two of whom must agree.
    pub async fn sentinel() -> Self {
        let master = Redis::start_with("redis-server".into(), RULES, vec![]).await;
        let port = master.address().port();
        let options = ["--replicaof", &format!("127.0.0.1 {port}"), "--repl-diskless-sync-delay", "0"];
        let arguments = options.map(str::to_owned).into();
        let replica = Redis::start_with("redis-server".into(), RULES, arguments).await;
        eventually("a replica in sync", async || {
            replica.does(&["INFO", "replication"]).await.text().contains("master_link_status:up").then_some(())
        })
        .await;
        let mut sentinels = Vec::new();
        for _ in 0..3 {
            sentinels.push(sentinel(port).await);
        }
        for sentinel in &sentinels {
            let knows = async || {
                let told = sentinel.does(&["INFO", "sentinel"]).await.text();
                told.contains("slaves=1,sentinels=3").then_some(())
            };
            soon("sentinels that know each other", MEETS_WITHIN, knows).await;
        }
        let query =
            format!("?sentinelServiceName=main&node={}&node={}", sentinels[1].address(), sentinels[2].address());
        let address = sentinels[0].address();
        let servers = vec![master, replica];
        Self { servers, _sentinels: sentinels, scheme: "redis-sentinel", address, query, authority: None }
    }

    fn of(redis: Redis, scheme: &'static str) -> Self {
        let address = redis.address();
        Self { servers: vec![redis], _sentinels: Vec::new(), scheme, address, query: String::new(), authority: None }
    }

    /// `state` of a node's configuration, with a user of its own.
    pub fn for_nodes(&self) -> Value {
        self.state(NODE)
    }

    pub fn for_coordinators(&self) -> Value {
        self.state(COORDINATOR)
    }

    fn state(&self, user: &str) -> Value {
        let url = format!("{}://{user}@{}{}", self.scheme, self.address, self.query);
        json!({ "state": { "url": url, "caFile": self.authority.as_ref().map(|authority| authority.file("ca.pem")) } })
    }

    pub fn master(&self) -> &Redis {
        &self.servers[0]
    }

    /// SIGKILL; a replica takes its place if there is one.
    pub fn loses_its_master(&mut self) {
        self.servers[0].dies();
    }

    /// What was asked for and refused, by all servers: user and object of each. Nothing if the permissions are enough.
    pub async fn refusals(&self) -> Vec<String> {
        let mut refusals = Vec::new();
        for server in &self.servers {
            for entry in server.does(&["ACL", "LOG"]).await.list() {
                let fields = entry.list();
                let field = |name: &[u8]| {
                    let at = fields.iter().position(|field| *field == Answer::Bytes(name.to_vec())).unwrap();
                    fields[at + 1].clone().text()
                };
                refusals.push(format!("{} {} {}", field(b"username"), field(b"reason"), field(b"object")));
            }
        }
        refusals
    }
}

async fn sentinel(master: u16) -> Redis {
    let down_after = DOWN_AFTER.as_millis();
    let settings = format!(
        "sentinel monitor main 127.0.0.1 {master} 2\nsentinel down-after-milliseconds main {down_after}\nsentinel failover-timeout main 6000\n"
    );
    Redis::start_with("redis-server".into(), &settings, vec!["--sentinel".into()]).await
}

/// Where `tests/run` says that it is, or where it puts it.
fn valkey() -> PathBuf {
    let known = || Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv-valkey/bin/valkey-server");
    let program = std::env::var_os("PICKET_VALKEY_SERVER").map_or_else(known, PathBuf::from);
    assert!(program.is_file(), "no valkey-server at {}: `tests/run valkey` installs it", program.display());
    program
}
