//! nginx as a plain proxy: one process, no log of requests.

use anyhow::Result;
use std::net::SocketAddr;
use std::path::Path;
use tempfile::TempDir;

use super::{Stage, Standing, debian};
use crate::machine;
use crate::ports;
use crate::process::{Running, command};

/// to the application, between the requests of polling clients: two for each
const CONNECTIONS_KEPT: usize = 128;

pub fn missing() -> Option<String> {
    debian("nginx", "nginx-light")
}

pub fn version() -> String {
    machine::version(program(), "-v").replace("nginx version: nginx/", "nginx ")
}

/// Debian keeps it out of a user's path
fn program() -> &'static Path {
    let system = Path::new("/usr/sbin/nginx");
    if system.is_file() { system } else { Path::new("nginx") }
}

pub async fn start((application, upstream): (Running, SocketAddr), stage: &Stage) -> Result<Standing> {
    let address = ports::free();
    let directory = TempDir::new()?;
    let file = directory.path().join("nginx.conf");
    std::fs::write(&file, config(address, upstream, directory.path()))?;
    let mut command = command(Some(&stage.cores.proxy), program());
    command.arg("-p").arg(directory.path()).arg("-c").arg(&file).args(["-e", "stderr"]);
    let mut process = Running::start("nginx", command)?;
    process.listens(address).await?;
    Ok(Standing {
        process,
        address,
        redis: None,
        coordinator: None,
        _others: vec![application],
        _directories: vec![directory],
    })
}

fn config(address: SocketAddr, upstream: SocketAddr, directory: &Path) -> String {
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("    {kind}_temp_path {};\n", directory.join(kind).display()))
        .collect();
    format!(
        "daemon off;\nmaster_process off;\nworker_processes 1;\npid {};\nerror_log stderr error;\n\
         events {{ worker_connections 16000; }}\n\
         http {{\n    access_log off;\n{temporary}\
         \x20   upstream application {{ server {upstream}; keepalive {CONNECTIONS_KEPT}; keepalive_timeout 4s; }}\n\
         \x20   map $http_upgrade $connection_header {{ default upgrade; \"\" \"\"; }}\n\
         \x20   server {{\n        listen {address} backlog=4096;\n        location / {{\n            proxy_pass http://application;\n\
         \x20           proxy_http_version 1.1;\n            proxy_set_header Upgrade $http_upgrade;\n\
         \x20           proxy_set_header Connection $connection_header;\n            proxy_set_header Host $host;\n\
         \x20           proxy_buffer_size 4k;\n            proxy_read_timeout 1h;\n            proxy_send_timeout 1h;\n\
         \x20       }}\n    }}\n}}\n",
        directory.join("nginx.pid").display(),
    )
}
