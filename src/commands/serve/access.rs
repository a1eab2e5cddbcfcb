//! The management credential: the configured one, or one that is made for this run.

use anyhow::Context;
use picket_coordinator::config::AdminConfig;
use picket_shared::random;
use picket_shared::secret::Secret;

use super::data_dir::DataDir;
use crate::config::{Loaded, hash};
use crate::demo::Viewer;
use crate::terminal;

const GENERATED_USERNAME: &str = "admin";
const GENERATED_BYTES: usize = 12;

pub enum Access {
    Configured {
        username: String,
        password: Option<Secret>,
    },
    /// told once, on the terminal
    Shown {
        password: Secret,
    },
    /// written where only this user can read it
    Written {
        password: Secret,
    },
}

impl Access {
    /// takes the configured credential, or makes one and puts its hash into the configuration
    pub fn decide(loaded: &mut Loaded, data_dir: &DataDir) -> anyhow::Result<Access> {
        data_dir.forget_password()?;
        if let Some(username) = &loaded.config.coordinator.admin.username {
            return Ok(Access::Configured { username: username.clone(), password: loaded.admin_password.clone() });
        }
        let password = Secret::new(random::hex(GENERATED_BYTES));
        let password_hash = hash(password.expose()).map_err(anyhow::Error::msg).context("the generated password")?;
        loaded.config.coordinator.admin =
            AdminConfig { username: Some(GENERATED_USERNAME.into()), password_hash: Some(Secret::new(password_hash)) };
        if terminal::is_watched() {
            return Ok(Access::Shown { password });
        }
        data_dir.keep_password(&password)?;
        Ok(Access::Written { password })
    }

    pub fn username(&self) -> &str {
        match self {
            Access::Configured { username, .. } => username,
            Access::Shown { .. } | Access::Written { .. } => GENERATED_USERNAME,
        }
    }

    /// who reads the audit records for the demo's page
    pub fn viewer(&self) -> Option<Viewer> {
        let password = match self {
            Access::Configured { password, .. } => password.clone()?,
            Access::Shown { password } | Access::Written { password } => password.clone(),
        };
        Some(Viewer { username: self.username().to_owned(), password })
    }
}
