//! Where the audit store lies, and the generated password: a folder that only this user can enter.

use anyhow::Context;
use picket_shared::secret::Secret;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const PASSWORD_FILE: &str = "admin-password";

/// which folder it will be; nothing is made yet
pub enum Planned {
    Asked(PathBuf),
    Temporary(PathBuf),
}

impl Planned {
    pub fn new(asked: Option<PathBuf>) -> Self {
        asked.map_or_else(|| Planned::Temporary(super::super::temporary_folder()), Planned::Asked)
    }

    pub fn path(&self) -> &Path {
        match self {
            Planned::Asked(path) | Planned::Temporary(path) => path,
        }
    }

    pub fn create(self) -> anyhow::Result<DataDir> {
        // A temporary folder must be new: another user may have guessed its name.
        let mut builder = DirBuilder::new();
        builder.mode(0o700).recursive(matches!(self, Planned::Asked(_)));
        builder
            .create(self.path())
            .with_context(|| format!("cannot make the data directory {}", self.path().display()))?;
        Ok(match self {
            Planned::Asked(path) => DataDir { path, life: Life::Kept },
            Planned::Temporary(path) => DataDir { path, life: Life::Removed },
        })
    }
}

/// a folder that is there
pub struct DataDir {
    path: PathBuf,
    life: Life,
}

/// what becomes of the folder at the end
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    Kept,
    Removed,
}

impl DataDir {
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn life(&self) -> Life {
        self.life
    }

    pub fn password_file(&self) -> PathBuf {
        self.path.join(PASSWORD_FILE)
    }

    /// an earlier run's password opens nothing any more
    pub fn forget_password(&self) -> anyhow::Result<()> {
        match fs::remove_file(self.password_file()) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", self.password_file().display()))
            }
            _ => Ok(()),
        }
    }

    pub fn keep_password(&self, password: &Secret) -> anyhow::Result<()> {
        let path = self.password_file();
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let written = file.and_then(|mut file| writeln!(file, "{}", password.expose()));
        written.with_context(|| format!("cannot write the generated password to {}", path.display()))
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        if self.life == Life::Kept {
            return;
        }
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!(%error, path = %self.path.display(), "temporary folder not removed")
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn only_this_user_can_read_the_password_and_a_temporary_folder_goes() {
        let data_dir = Planned::new(None).create().unwrap();
        let path = data_dir.path().to_owned();
        data_dir.keep_password(&Secret::new("first")).unwrap();
        data_dir.forget_password().unwrap();
        data_dir.keep_password(&Secret::new("second")).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&data_dir.password_file())), (0o700, 0o600));
        assert_eq!(fs::read_to_string(data_dir.password_file()).unwrap(), "second\n");
        drop(data_dir);
        assert!(!path.exists());
    }

    #[test]
    fn a_folder_that_was_asked_for_stays() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        drop(Planned::new(Some(path.clone())).create().unwrap());
        drop(Planned::new(Some(path.clone())).create().unwrap());
        assert!(path.exists());
    }

    #[test]
    fn a_temporary_folder_of_somebody_else_is_not_taken_over() {
        let theirs = tempfile::tempdir().unwrap();
        assert!(Planned::Temporary(theirs.path().to_owned()).create().is_err());
        assert!(theirs.path().exists());
    }
}
