//! The command line.

use clap::{Args, Parser, Subcommand};
use picket_coordinator::config::Scope;
use std::path::PathBuf;
use std::time::Duration;

use picket_coordinator::Checkpoint;

use crate::commands::api_key;
use crate::role::Role;

/// Security gateway for WebSocket and Socket.IO applications
#[derive(Debug, Parser)]
#[command(name = "picket", version, arg_required_else_help = true, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  picket standalone                       a demo chat to attack, for a first look
  picket standalone --config picket.yaml --data-dir /var/lib/picket
  picket node --config picket.yaml        one of several nodes, over Redis
  picket check-config picket.yaml         every mistake with its line
  picket token --subject alice --role member --ttl 1h
  picket audit verify --store sqlite:/var/lib/picket/picket.db
  picket api-key siem --scope audit:read  a key for the management API
  PICKET_NODE__LISTEN=0.0.0.0:9000 picket standalone --config picket.yaml

Settings: flags go before the environment (PICKET_NODE__LISTEN is node.listen),
that before the file, that before the defaults of production or development.
PICKET_LOG filters the log, as in info,picket_node=debug.";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run node and coordinator in one process, with the state in memory
    #[command(after_help = STANDALONE)]
    Standalone(ServeArgs),
    /// Run a node: it decides at the edge, and shares its state over Redis (state.url)
    Node(ServeArgs),
    /// Run a coordinator: it gathers audit, blocks, and serves the management API, over Redis (state.url)
    Coordinator(ServeArgs),
    /// Print the effective configuration with secrets masked, or every mistake in it
    CheckConfig(CheckConfigArgs),
    /// Print the JSON Schema of the configuration file
    Schema,
    /// Say in plain words why somebody was refused, by the code that the client was told or by the id of the audit record
    #[command(after_help = EXPLAIN)]
    Explain(ExplainArgs),
    /// Make a key for the management API: prints it once, with the part of the configuration that admits it
    ApiKey(ApiKeyArgs),
    /// Sign an application token with a configured HMAC secret, for development
    #[command(after_help = TOKEN)]
    Token(TokenArgs),
    /// Look after the audit trail
    #[command(subcommand)]
    Audit(AuditCommand),
}

#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Check by its hash chains whether the trail is what was written; exit code 1 and the first broken place if not, or what is not
    /// proven
    #[command(after_help = VERIFY)]
    Verify(VerifyArgs),
}

const VERIFY: &str = "\
Examples:
  picket audit verify --store sqlite:/var/lib/picket/picket.db
  PICKET_AUDIT_STORE=postgres://picket:…@db/picket picket audit verify
  curl -u admin https://…/api/security/audit-logs/export | picket audit verify --export -

Who owns the store can write all of it anew. Against that, compare with checkpoints
that the coordinator told its log: --checkpoint WRITER:NUMBER:HASH.";

#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The store: sqlite:PATH or postgres://…, also while a coordinator has it
    #[arg(long, value_name = "URL", env = "PICKET_AUDIT_STORE", hide_env_values = true)]
    pub store: Option<String>,
    /// An export in NDJSON; - is standard input. Goes before the store
    #[arg(long, value_name = "FILE")]
    pub export: Option<PathBuf>,
    /// What the chain had at a record, as it was kept elsewhere; may be given several times
    #[arg(long = "checkpoint", value_name = "WRITER:NUMBER:HASH")]
    pub checkpoints: Vec<Checkpoint>,
    /// An export may have records of no chain, from before there were chains: nothing proves them
    #[arg(long, requires = "export")]
    pub allow_unchained: bool,
}

const STANDALONE: &str = "\
Without a configuration file the environment is development. Without routes, in
development and on a loopback address, a demo chat is the upstream.
Ctrl-C drains: sockets are closed spread over time; a second one ends at once.";

const EXPLAIN: &str = "\
The credential is a username and a password (SOCKET_ADMIN_USERNAME,
SOCKET_ADMIN_PASSWORD, or --username and --password-file), or a token of
coordinator.tokens in a file (--token-file).";

const TOKEN: &str = "\
The issuer stands in the configuration, with a secret of 32 bytes or more:
  auth:
    jwt:
      issuers:
        - issuer: https://id.example.com
          audience: chat
          algorithms: [HS256]
          secretFile: jwt.secret";

#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// The configuration file, in YAML
    #[arg(long, value_name = "FILE", env = "PICKET_CONFIG")]
    pub config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct ServeArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Where a coordinator's audit store and a node's snapshot of policy and blocks lie. Without it, standalone makes a
    /// temporary folder that is removed at the end, a coordinator uses coordinator.auditStore, and a node keeps no snapshot
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct CheckConfigArgs {
    /// The configuration file; goes before --config
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub config: ConfigArgs,
    /// The role whose configuration it is
    #[arg(long, value_enum, default_value_t = Role::Standalone)]
    pub role: Role,
}

#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The code that the client was told (`appeal`), or the id of an audit record
    #[arg(value_name = "CODE")]
    pub code: String,
    /// Where the management API is
    #[arg(long, value_name = "URL", env = "PICKET_API", default_value = "http://127.0.0.1:9090")]
    pub api: String,
    /// Who asks
    #[arg(long, value_name = "NAME", env = "SOCKET_ADMIN_USERNAME")]
    pub username: Option<String>,
    /// A file with the password; without it, SOCKET_ADMIN_PASSWORD
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// A file with a token for the management API; goes before a name and its password
    #[arg(long, value_name = "FILE", conflicts_with = "password_file")]
    pub token_file: Option<PathBuf>,
    /// Print the API's answer as it is
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct TokenArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// The user
    #[arg(long)]
    pub subject: String,
    /// A role of the user; may be given several times
    #[arg(long = "role", value_name = "ROLE")]
    pub roles: Vec<String>,
    /// How long the token is valid: 90s, 15m, 1h, 7d
    #[arg(long, default_value = "1h", value_parser = duration)]
    pub ttl: Duration,
    /// Which issuer signs, if there are several
    #[arg(long)]
    pub issuer: Option<String>,
}

#[derive(Debug, Args)]
pub struct ApiKeyArgs {
    /// Who acts with it, in the audit trail
    #[arg(value_name = "NAME", value_parser = api_key::name)]
    pub name: String,
    /// What it may do; may be given several times
    #[arg(long = "scope", value_name = "SCOPE", required = true, value_parser = api_key::scope)]
    pub scopes: Vec<Scope>,
}

/// a number with a unit
fn duration(text: &str) -> Result<Duration, String> {
    const DAYS_MAX: u64 = 3650;
    let unit = |suffix: char| match suffix {
        's' => Some(1),
        'm' => Some(60),
        'h' => Some(3600),
        'd' => Some(86_400),
        _ => None,
    };
    let seconds = text
        .chars()
        .last()
        .and_then(unit)
        .and_then(|unit| text[..text.len() - 1].parse::<u64>().ok()?.checked_mul(unit));
    match seconds {
        Some(seconds) if seconds > 0 && seconds <= DAYS_MAX * 86_400 => Ok(Duration::from_secs(seconds)),
        Some(_) => Err(format!("must be more than nothing and at most {DAYS_MAX}d")),
        None => Err("write a number and a unit, such as 90s, 15m, 1h or 7d".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_time_has_a_unit() {
        assert_eq!(duration("15m"), Ok(Duration::from_secs(900)));
        for wrong in ["", "15", "h", "-1h", "0s", "1é", "99999999999999999999d", "4000d"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
