//! A real PostgreSQL on a free port of loopback, in a folder of its own, which a story may kill, bring back and hold up. It ends with
//! the process that started it, however that ends.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

pub const PASSWORD: &str = "canary-of-the-database-5d0f2a";
const TRY_EVERY: Duration = Duration::from_millis(50);
const TRIES_MAX: u32 = 1200;

/// The server runs until standard input ends, which it does when this process is gone; until then each line there is something that
/// becomes of it, and is answered when it did. It refuses to run as root. Nothing committed is lost with its process: only a machine that
/// loses its power loses what `fsync` would have kept.
const SCRIPT: &str = r#"
    set -e
    umask 077
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    read -r password
    echo "$password" > "$folder/password"
    read -r certificate
    read -r key
    tls=off
    if [ -n "$key" ]; then
        echo "$certificate" | base64 -d > "$folder/server.pem"
        echo "$key" | base64 -d > "$folder/server.key"
        tls=on
    fi
    "$1/initdb" -D "$folder/data" -U picket -A scram-sha-256 --pwfile="$folder/password" -N --no-locale -E UTF8 >"$folder/log" 2>&1
    starts() {
        "$1/postgres" -D "$folder/data" -p "$2" -k "$folder" -c listen_addresses=127.0.0.1 -c fsync=off \
            -c full_page_writes=off -c max_connections=300 \
            -c ssl=$tls -c ssl_cert_file="$folder/server.pem" -c ssl_key_file="$folder/server.key" >>"$folder/log" 2>&1 &
        server=$!
    }
    signals() {
        kill -$1 $server $(cat /proc/$server/task/$server/children) 2>/dev/null || true
    }
    starts "$1" "$2"
    while read -r becomes; do
        case $becomes in
            dead) kill -QUIT $server; wait $server || true ;;
            back) starts "$1" "$2" ;;
            still) signals STOP ;;
            moving) signals CONT ;;
        esac
        echo done
    done
    signals CONT
    kill -INT $server
    wait $server || true
"#;

pub struct Postgres {
    port: u16,
    programs: PathBuf,
    databases: AtomicU32,
    supervisor: Child,
    orders: Mutex<Option<Orders>>,
}

/// how the supervisor is told, and how it answers
struct Orders {
    told: ChildStdin,
    done: BufReader<ChildStdout>,
}

impl Postgres {
    pub fn start() -> Postgres {
        Self::start_with("", "")
    }

    /// With TLS for those who ask for it; a certificate and its key in PEM.
    pub fn start_with_tls(certificate: &[u8], key: &[u8]) -> Postgres {
        Self::start_with(&STANDARD.encode(certificate), &STANDARD.encode(key))
    }

    fn start_with(certificate: &str, key: &str) -> Postgres {
        let programs = programs();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let is_root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
        let mut command = if is_root { Command::new("runuser") } else { Command::new("sh") };
        if is_root {
            command.args(["-u", "postgres", "--", "sh"]);
        }
        command.args(["-c", SCRIPT, "postgres"]).arg(&programs).arg(port.to_string()).current_dir("/");
        let mut supervisor = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("sh and runuser");
        let mut told = supervisor.stdin.take().unwrap();
        writeln!(told, "{PASSWORD}\n{certificate}\n{key}").unwrap();
        let done = BufReader::new(supervisor.stdout.take().unwrap());
        let orders = Mutex::new(Some(Orders { told, done }));
        let server = Postgres { port, programs, databases: AtomicU32::new(0), supervisor, orders };
        server.answers();
        server
    }

    /// the URL of a new database
    pub fn database(&self) -> String {
        let name = format!("picket_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let created = self.program("createdb").arg(&name).output().unwrap();
        assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));
        format!("postgres://picket:{PASSWORD}@127.0.0.1:{}/{name}", self.port)
    }

    /// how many of Picket's connections are encrypted, and how many are not
    pub fn encrypted(&self) -> (usize, usize) {
        let count = |encrypted: bool| {
            let query = format!(
                "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'picket' AND ssl = {encrypted}"
            );
            let output = self.program("psql").args(["-d", "postgres", "-Atc", &query]).output().unwrap();
            String::from_utf8_lossy(&output.stdout).trim().parse().expect("a number")
        };
        (count(true), count(false))
    }

    /// At once, as if its process were killed: no goodbye to whoever is connected.
    pub fn dies(&self) {
        self.becomes("dead");
    }

    /// With what was committed.
    pub fn returns(&self) {
        self.becomes("back");
        self.answers();
    }

    /// SIGSTOP: connections stay up, nothing is answered.
    pub fn stands_still(&self) {
        self.becomes("still");
    }

    pub fn goes_on(&self) {
        self.becomes("moving");
    }

    fn becomes(&self, what: &str) {
        let mut orders = self.orders.lock().unwrap();
        let Orders { told, done } = orders.as_mut().expect("a server that is in use");
        writeln!(told, "{what}").unwrap();
        let mut line = String::new();
        done.read_line(&mut line).unwrap();
        assert_eq!(line, "done\n", "{what}");
    }

    fn answers(&self) {
        let mut tries = 0;
        while !self.program("pg_isready").output().is_ok_and(|output| output.status.success()) {
            assert!(tries < TRIES_MAX, "PostgreSQL did not start");
            tries += 1;
            std::thread::sleep(TRY_EVERY);
        }
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.args(["-h", "127.0.0.1", "-U", "picket", "-p"]).arg(self.port.to_string());
        command.env("PGPASSWORD", PASSWORD).stdin(Stdio::null());
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // A supervisor whose standard input ends, ends.
        drop(self.orders.get_mut().map(Option::take));
        let _ended = self.supervisor.wait();
    }
}

/// the newest server that is installed
fn programs() -> PathBuf {
    let versions =
        std::fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is not installed: apt-get install postgresql");
    let version = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
    let newest = versions.filter_map(|entry| Some(entry.ok()?.path())).max_by_key(version);
    newest.expect("a version of PostgreSQL").join("bin")
}
