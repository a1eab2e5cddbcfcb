//! What a node remembers on disk, so that it can start while the shared state is away: the policy and the block list.
//!
//! One file, replaced whole, with a checksum: a torn or foreign file is no snapshot.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::state::{Block, BlockView, KnownNodes, LivePolicy, PolicyVersion};

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
}

#[derive(Serialize, Deserialize)]
struct File {
    sha256: String,
    snapshot: String,
}

impl Snapshot {
    pub fn of(policy: &LivePolicy, blocks: &BlockView, nodes: &KnownNodes) -> Self {
        Snapshot { nodes: nodes.number(), policy: policy.as_version(), blocks: blocks.blocks() }
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
    pub fn restore(self, policy: &LivePolicy, blocks: &BlockView, nodes: &KnownNodes) {
        nodes.remember(self.nodes);
        policy.put_in_force(self.policy);
        blocks.add_missing(self.blocks);
    }
}

fn checksum(text: &str) -> String {
    crate::hex::encode(&Sha256::digest(text))
}

/// writes down each change of policy and blocks until `stop` resolves
pub async fn keep(
    path: PathBuf,
    policy: LivePolicy,
    blocks: BlockView,
    nodes: KnownNodes,
    stop: impl Future<Output = ()>,
) {
    tokio::pin!(stop);
    let (mut policies, mut lists) = (policy.changes(), blocks.changes());
    let mut kept = 0;
    loop {
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            () = &mut stop => return,
        }
        // A policy of the state's, not the file's: before there is one, there is nothing to remember.
        let changed = [&mut policies, &mut lists].map(|changes| changes.has_changed().unwrap_or(false));
        if policy.version() == 0 || !(changed.contains(&true) || nodes.number() != kept) {
            continue;
        }
        policies.mark_unchanged();
        lists.mark_unchanged();
        kept = nodes.number();
        let (snapshot, path) = (Snapshot::of(&policy, &blocks, &nodes), path.clone());
        let written = tokio::task::spawn_blocking(move || snapshot.write(&path)).await;
        if !matches!(written, Ok(Ok(()))) {
            tracing::warn!("the snapshot of policy and blocks could not be written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::policy::{Environment, Policy};
    use crate::state::{BlockOrigin, BlockScope};

    fn live() -> LivePolicy {
        LivePolicy::starting_with(Policy::default(), Environment::Production).unwrap()
    }

    #[test]
    fn x31_what_was_in_force_is_in_force_again_and_a_torn_file_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("snapshot.json");
        assert!(Snapshot::read(&path).unwrap().is_none());

        let (policy, blocks) = (live(), BlockView::default());
        let mut changed = Policy::default();
        changed.security.allow_anonymous = false;
        let now = Timestamp::from_millis(1_000_000);
        policy.put_in_force(PolicyVersion { version: 7, policy: changed, by: "admin".into(), at: now });
        blocks.add_missing(vec![Block {
            network: "192.0.2.0/24".parse().unwrap(),
            reason: "x".into(),
            origin: BlockOrigin::Manual,
            by: "admin".into(),
            since: now,
            until: None,
            scope: BlockScope::Everyone,
            users: Vec::new(),
        }]);
        let nodes = KnownNodes::default();
        nodes.remember(3);
        Snapshot::of(&policy, &blocks, &nodes).write(&path).unwrap();

        let (again, list, nodes) = (live(), BlockView::default(), KnownNodes::default());
        Snapshot::read(&path).unwrap().unwrap().restore(&again, &list, &nodes);
        assert_eq!(nodes.number(), 3);
        assert_eq!((again.version(), again.current().security.allow_anonymous), (7, false));
        assert!(list.find("192.0.2.9".parse().unwrap(), now).is_some());

        let whole = std::fs::read_to_string(&path).unwrap();
        for torn in [&whole[..whole.len() - 3], &whole.replace("192.0.2.0", "192.0.3.0"), ""] {
            std::fs::write(&path, torn).unwrap();
            assert!(matches!(Snapshot::read(&path), Err(SnapshotError::Broken(_))));
        }
    }
}
