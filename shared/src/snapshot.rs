//! What a node remembers on disk, so that it can start while the shared state is away: the policy, the block list
//! and revoked tokens.
//!
//! One file, replaced whole, with a checksum: a torn or foreign file is no snapshot.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::watch;

use crate::clock::Timestamp;
use crate::state::{Block, BlockView, KnownNodes, LivePolicy, PolicyVersion, Revocation, RevocationView};

/// how often a change is written down
const PERIOD: Duration = Duration::from_secs(1);
/// the largest file that is read
const FILE_BYTES_MAX: u64 = 512 * 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("cannot read {path}: {error}")]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("{0} is not a whole snapshot")]
    Broken(PathBuf),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// that share a limit while the state is away
    nodes: u32,
    policy: PolicyVersion,
    blocks: Vec<Block>,
    #[serde(default)]
    revocations: Vec<Revocation>,
}

/// what a process knows that its snapshot keeps
#[derive(Clone)]
pub struct Known {
    pub policy: LivePolicy,
    pub blocks: BlockView,
    pub revocations: RevocationView,
    pub nodes: KnownNodes,
}

#[derive(Serialize, Deserialize)]
struct File {
    sha256: String,
    snapshot: String,
}

impl Snapshot {
    pub fn of(known: &Known) -> Self {
        Snapshot {
            nodes: known.nodes.number(),
            policy: known.policy.as_version(),
            blocks: known.blocks.blocks(),
            revocations: known.revocations.all(),
        }
    }

    /// the snapshot at `path`, `None` if there is no file
    pub fn read(path: &Path) -> Result<Option<Self>, SnapshotError> {
        let unreadable = |error| SnapshotError::Unreadable { path: path.to_owned(), error };
        match std::fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(error)),
            Ok(file) if file.len() > FILE_BYTES_MAX => return Err(SnapshotError::Broken(path.to_owned())),
            Ok(_) => {}
        }
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        Self::parse(&text).map(Some).ok_or_else(|| SnapshotError::Broken(path.to_owned()))
    }

    fn parse(text: &str) -> Option<Self> {
        let file: File = serde_json::from_str(text).ok()?;
        (file.sha256 == checksum(&file.snapshot)).then(|| serde_json::from_str(&file.snapshot).ok()).flatten()
    }

    /// replaces the file in one step
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let snapshot = serde_json::to_string(self)?;
        let file = File { sha256: checksum(&snapshot), snapshot };
        let new = path.with_extension("new");
        // The policy's secrets are in it.
        std::fs::write(&new, [])?;
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600))?;
        std::fs::write(&new, serde_json::to_vec(&file)?)?;
        std::fs::rename(&new, path)
    }

    /// puts what was remembered in force, until the state says more
    pub fn restore(self, known: &Known) {
        known.nodes.remember(self.nodes);
        known.policy.put_in_force(self.policy);
        known.blocks.add_missing(self.blocks);
        // What has ended since goes with the next change.
        known.revocations.add(self.revocations, Timestamp::default());
    }
}

fn checksum(text: &str) -> String {
    crate::hex::encode(&Sha256::digest(text))
}

/// writes down each change until `stop` resolves
pub async fn keep(path: PathBuf, known: Known, stop: impl Future<Output = ()>) {
    tokio::pin!(stop);
    let mut sources = [known.policy.changes(), known.blocks.changes(), known.revocations.changes()];
    let mut kept = 0;
    loop {
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            () = &mut stop => return,
        }
        // A policy of the state's, not the file's: before there is one, there is nothing to remember.
        let changed = sources.iter().any(|source| source.has_changed().unwrap_or(false));
        if known.policy.version() == 0 || !(changed || known.nodes.number() != kept) {
            continue;
        }
        sources.iter_mut().for_each(watch::Receiver::mark_unchanged);
        kept = known.nodes.number();
        let (snapshot, path) = (Snapshot::of(&known), path.clone());
        let written = tokio::task::spawn_blocking(move || snapshot.write(&path)).await;
        if !matches!(written, Ok(Ok(()))) {
            tracing::warn!("the snapshot could not be written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Environment, Policy};
    use crate::state::{BlockOrigin, BlockScope, Revoked};
    use crate::token::User;

    fn nothing_known() -> Known {
        Known {
            policy: LivePolicy::starting_with(Policy::default(), Environment::Production).unwrap(),
            blocks: BlockView::default(),
            revocations: RevocationView::default(),
            nodes: KnownNodes::default(),
        }
    }

    #[test]
    fn x31_what_was_in_force_is_in_force_again_and_a_torn_file_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("snapshot.json");
        assert!(Snapshot::read(&path).unwrap().is_none());

        let known = nothing_known();
        let mut changed = Policy::default();
        changed.security.allow_anonymous = false;
        let now = Timestamp::from_millis(1_000_000);
        known.policy.put_in_force(PolicyVersion { version: 7, policy: changed, by: "admin".into(), at: now });
        known.blocks.add_missing(vec![Block {
            network: "192.0.2.0/24".parse().unwrap(),
            reason: "x".into(),
            origin: BlockOrigin::Manual,
            by: "admin".into(),
            since: now,
            until: None,
            scope: BlockScope::Everyone,
            users: Vec::new(),
        }]);
        let revoked = Revoked::User("mallory".into(), now);
        let until = now.plus(Duration::from_secs(60));
        known.revocations.add(vec![Revocation { revoked, by: "admin".into(), at: now, until }], now);
        known.nodes.remember(3);
        Snapshot::of(&known).write(&path).unwrap();

        let again = nothing_known();
        Snapshot::read(&path).unwrap().unwrap().restore(&again);
        assert_eq!(again.nodes.number(), 3);
        assert_eq!((again.policy.version(), again.policy.current().security.allow_anonymous), (7, false));
        assert!(again.blocks.find("192.0.2.9".parse().unwrap(), now).is_some());
        assert!(again.revocations.against(&User::named("mallory")).is_some());

        let whole = std::fs::read_to_string(&path).unwrap();
        for torn in [&whole[..whole.len() - 3], &whole.replace("192.0.2.0", "192.0.3.0"), ""] {
            std::fs::write(&path, torn).unwrap();
            assert!(matches!(Snapshot::read(&path), Err(SnapshotError::Broken(_))));
        }
    }
}
