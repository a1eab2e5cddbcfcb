//! Files that are read again while the node runs: certificates, keys and secrets. What cannot be used leaves the old in use.

use sha2::{Digest, Sha256};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::sleep;

use crate::metrics::Renewals;
use crate::tls::{self, TlsError};

/// how often the files are looked at
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// what renewed files are for
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    GatewayTls,
    UpstreamTls,
    AssertionSecret,
    GeoDatabase,
}

impl Purpose {
    pub const fn as_str(self) -> &'static str {
        match self {
            Purpose::GatewayTls => "gateway_tls",
            Purpose::UpstreamTls => "upstream_tls",
            Purpose::AssertionSecret => "assertion_secret",
            Purpose::GeoDatabase => "geo_database",
        }
    }
}

/// files as they were looked at last
pub struct Watched {
    purpose: Purpose,
    files: Vec<PathBuf>,
    /// of what they held, whether it was usable or not; `None` when one could not be read
    seen: Option<[u8; 32]>,
}

/// reads the files, and puts what they hold into use
type Renew = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

pub struct Renewal {
    watched: Watched,
    renew: Renew,
}

impl Watched {
    /// looked at before they are first read, so that no change is missed
    pub fn of<'a>(purpose: Purpose, files: impl IntoIterator<Item = &'a Path>) -> Self {
        let files: Vec<_> = files.into_iter().map(Path::to_owned).collect();
        Watched { purpose, seen: seen(purpose, &files), files }
    }

    pub fn renewed_by(self, renew: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Renewal {
        Renewal { watched: self, renew: Box::new(renew) }
    }

    /// whether there is something to try: not for files that stay as they are
    fn look(&mut self) -> Change {
        let seen = seen(self.purpose, &self.files);
        let before = std::mem::replace(&mut self.seen, seen);
        match (before, seen) {
            (Some(before), Some(seen)) if before == seen => Change::None,
            (None, None) => Change::StillUnreadable,
            _ => Change::New,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    None,
    /// was said when it began
    StillUnreadable,
    New,
}

/// of what the files hold; of a database, which is large, of when it was written
fn seen(purpose: Purpose, files: &[PathBuf]) -> Option<[u8; 32]> {
    match purpose {
        Purpose::GeoDatabase => stamp(files).ok(),
        Purpose::GatewayTls | Purpose::UpstreamTls | Purpose::AssertionSecret => digest(files).ok(),
    }
}

fn stamp(files: &[PathBuf]) -> io::Result<[u8; 32]> {
    let mut digest = Sha256::new();
    for file in files {
        let file = std::fs::metadata(file)?;
        digest.update(format!("{:?} {} {};", file.modified()?, file.len(), file.ino()));
    }
    Ok(digest.finalize().into())
}

fn digest(files: &[PathBuf]) -> Result<[u8; 32], TlsError> {
    let mut digest = Sha256::new();
    for file in files {
        digest.update(Sha256::digest(tls::read(file)?));
    }
    Ok(digest.finalize().into())
}

impl Renewal {
    pub async fn run(mut self, renewals: Renewals, stopped: impl Future<Output = ()>) {
        tokio::pin!(stopped);
        loop {
            tokio::select! {
                () = sleep(LOOK_EVERY) => self.look(&renewals),
                () = &mut stopped => return,
            }
        }
    }

    fn look(&mut self, renewals: &Renewals) {
        if self.watched.look() != Change::New {
            return;
        }
        let purpose = self.watched.purpose;
        match (self.renew)() {
            Ok(()) => {
                renewals.done(purpose);
                tracing::info!(purpose = purpose.as_str(), files = ?self.watched.files, "renewed files are in use");
            }
            Err(error) => {
                renewals.failed(purpose);
                tracing::error!(purpose = purpose.as_str(), error, "renewed files cannot be used; the old ones stay");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_once_and_a_missing_file_too() {
        let file = std::env::temp_dir().join(format!("picket-renewal-{}", std::process::id()));
        std::fs::write(&file, "one").unwrap();
        let mut watched = Watched::of(Purpose::AssertionSecret, [&*file]);
        assert_eq!(watched.look(), Change::None);
        std::fs::write(&file, "two").unwrap();
        assert_eq!([watched.look(), watched.look()], [Change::New, Change::None]);
        std::fs::remove_file(&file).unwrap();
        assert_eq!([watched.look(), watched.look()], [Change::New, Change::StillUnreadable]);
        std::fs::write(&file, "two").unwrap();
        assert_eq!([watched.look(), watched.look()], [Change::New, Change::None]);
        std::fs::remove_file(&file).unwrap();
    }
}
