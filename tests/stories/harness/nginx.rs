//! A real nginx before an application, with the configuration that Picket's documentation gives.

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use tokio::net::TcpStream;

use super::application::CHECK_TOKEN;
use super::patience::eventually;

const CONFIGURATION: &str = include_str!("../../../deploy/nginx/picket-authz.conf");

pub struct Nginx {
    process: Child,
    address: SocketAddr,
    directory: TempDir,
}

impl Nginx {
    /// Asks the check API at `check` about every request to the application.
    pub async fn before(application: SocketAddr, check: SocketAddr) -> Self {
        let directory = TempDir::new().unwrap();
        let address = free_address();
        let site = replaced(&[
            ("listen 80;", &format!("listen {address};")),
            ("server 127.0.0.1:8082;", &format!("server {check};")),
            ("server 127.0.0.1:3000;", &format!("server {application};")),
            ("CHECK_TOKEN", CHECK_TOKEN),
        ]);
        let at = |name: &str| directory.path().join(name).display().to_string();
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {};\n", at(name)))
            .concat();
        // One process, so that its end is the end of all of it.
        let main = format!(
            "daemon off;\nmaster_process off;\npid {};\nerror_log {};\nevents {{ worker_connections 64; }}\nhttp {{\naccess_log off;\n{temporary}{site}\n}}\n",
            at("nginx.pid"),
            at("error.log"),
        );
        std::fs::write(at("nginx.conf"), main).unwrap();
        let process = Command::new("nginx")
            .args(["-p", &at(""), "-c", &at("nginx.conf"), "-e", &at("error.log")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx is installed: `tests/run` does it, or apt-get install nginx-light");
        let nginx = Self { process, address, directory };
        eventually("nginx listens", async || TcpStream::connect(address).await.ok()).await;
        nginx
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        if self.process.kill().is_ok() && self.process.wait().is_err() {
            eprintln!("nginx {} was not reaped", self.process.id());
        }
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.directory.path().join("error.log")).unwrap_or_default();
            eprintln!("--- what nginx said ---\n{log}");
        }
    }
}

/// The documented configuration with these texts replaced, each of which must be there.
fn replaced(replacements: &[(&str, &str)]) -> String {
    replacements.iter().fold(CONFIGURATION.to_owned(), |text, (old, new)| {
        assert!(text.contains(old), "no {old:?} in the configuration");
        text.replace(old, new)
    })
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
