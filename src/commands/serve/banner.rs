//! What the terminal says at the start: where everything is, and how to get in.

use std::fmt;
use std::net::SocketAddr;

use super::access::Access;
use super::data_dir::{DataDir, Life};
use crate::role::Role;

pub struct Banner<'a> {
    pub role: Role,
    pub gateway: Option<SocketAddr>,
    pub ops: Option<SocketAddr>,
    pub management: Option<SocketAddr>,
    pub page: Option<SocketAddr>,
    pub data_dir: Option<&'a DataDir>,
    pub access: Option<&'a Access>,
}

impl fmt::Display for Banner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.role {
            Role::Standalone => "running, with its state in memory",
            Role::Node => "running as a node",
            Role::Coordinator => "running as a coordinator",
        };
        writeln!(f, "Picket {} is {what}. Ctrl-C drains and ends it.\n", env!("CARGO_PKG_VERSION"))?;
        if let Some(page) = self.page {
            writeln!(f, "  demo         http://localhost:{}/   a chat to attack: open this first", page.port())?;
        }
        if let Some(gateway) = self.gateway {
            writeln!(f, "  gateway      ws://{gateway}")?;
        }
        if let Some(management) = self.management {
            writeln!(f, "  dashboard    http://{management}/")?;
            writeln!(f, "  management   http://{management}/api/security")?;
        }
        if let Some(access) = self.access {
            self.login(f, access)?;
        }
        if let Some(ops) = self.ops {
            writeln!(f, "  operations   http://{ops}/metrics  http://{ops}/readyz")?;
        }
        if let Some(data_dir) = self.data_dir {
            let until = match data_dir.life() {
                Life::Kept => "",
                Life::Removed => "   (temporary, removed at the end; keep one with --data-dir)",
            };
            writeln!(f, "  data         {}{until}", data_dir.path().display())?;
        }
        writeln!(f)
    }
}

impl Banner<'_> {
    fn login(&self, f: &mut fmt::Formatter<'_>, access: &Access) -> fmt::Result {
        let username = access.username();
        match (access, self.data_dir) {
            (Access::Configured { .. }, _) => writeln!(f, "    login      {username}, with the configured password"),
            (Access::Shown { password }, _) => {
                writeln!(f, "    login      {username} / {}   (generated for this run, shown once)", password.expose())
            }
            (Access::Written { .. }, Some(data_dir)) => {
                let file = data_dir.password_file();
                writeln!(f, "    login      {username}, password generated for this run in {}", file.display())
            }
            (Access::Written { .. }, None) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::data_dir::Planned;
    use super::*;
    use picket_shared::secret::Secret;

    #[test]
    fn a_password_is_shown_on_a_terminal_only() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = Planned::new(Some(folder.path().to_owned())).create().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let said = |access: &Access| {
            let banner = Banner {
                role: Role::Standalone,
                gateway: Some(address),
                ops: Some(address),
                management: Some(address),
                page: None,
                data_dir: Some(&data_dir),
                access: Some(access),
            };
            banner.to_string()
        };
        let password = || Secret::new("canary");
        assert!(said(&Access::Shown { password: password() }).contains("admin / canary"));
        let written = said(&Access::Written { password: password() });
        assert!(!written.contains("canary") && written.contains("/admin-password"), "{written}");
        assert!(
            !said(&Access::Configured { username: "warden".into(), password: Some(password()) }).contains("canary")
        );
    }
}
