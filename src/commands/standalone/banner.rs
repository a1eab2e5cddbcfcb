//! What the terminal says at the start: where everything is, and how to get in.

use std::fmt;
use std::net::SocketAddr;

use super::access::Access;
use super::data_dir::{DataDir, Life};

pub struct Banner<'a> {
    pub gateway: SocketAddr,
    pub ops: SocketAddr,
    pub management: SocketAddr,
    pub page: Option<SocketAddr>,
    pub data_dir: &'a DataDir,
    pub access: &'a Access,
}

impl fmt::Display for Banner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "Picket {} is running, with its state in memory. Ctrl-C drains and ends it.\n",
            env!("CARGO_PKG_VERSION")
        )?;
        if let Some(page) = self.page {
            writeln!(f, "  demo         http://localhost:{}/   a chat to attack: open this first", page.port())?;
        }
        writeln!(f, "  gateway      ws://{}", self.gateway)?;
        writeln!(f, "  management   http://{}/api/security", self.management)?;
        match self.access {
            Access::Configured { username, .. } => {
                writeln!(f, "    login      {username}, with the configured password")?
            }
            Access::Shown { password } => writeln!(
                f,
                "    login      {} / {}   (generated for this run, shown once)",
                self.access.username(),
                password.expose()
            )?,
            Access::Written { .. } => writeln!(
                f,
                "    login      {}, password generated for this run in {}",
                self.access.username(),
                self.data_dir.password_file().display()
            )?,
        }
        writeln!(f, "  operations   http://{0}/metrics  http://{0}/readyz", self.ops)?;
        let until = match self.data_dir.life() {
            Life::Kept => "",
            Life::Removed => "   (temporary, removed at the end; keep one with --data-dir)",
        };
        writeln!(f, "  data         {}{until}\n", self.data_dir.path().display())
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
            Banner { gateway: address, ops: address, management: address, page: None, data_dir: &data_dir, access }
                .to_string()
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
