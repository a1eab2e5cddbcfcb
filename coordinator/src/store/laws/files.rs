//! SQLite's files: who may read them, and what is left in them.

use super::*;

#[cfg(unix)]
#[tokio::test]
async fn nobody_else_may_read_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let shelf = Shelf::sqlite().await;
    shelf.holds(&[AuditRecord::refusal(Reason::Burst, "192.0.2.1".parse().unwrap(), Timestamp::from_millis(1))]).await;
    let path = PathBuf::from(shelf.url.strip_prefix("sqlite:").unwrap());
    for beside in ["", "-wal", "-shm"] {
        let file = PathBuf::from(format!("{}{beside}", path.display()));
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
    }
}

#[tokio::test]
async fn what_is_erased_is_in_no_file_of_sqlite_any_more() {
    let shelf = Shelf::sqlite().await;
    let of = |user: &str, at| AuditRecord {
        user_id: Some(user.into()),
        ..AuditRecord::refusal(Reason::Burst, "192.0.2.1".parse().unwrap(), Timestamp::from_millis(at))
    };
    for at in 0..50 {
        shelf.holds(&[of("carol-canary", at), of("dave-canary", at)]).await;
    }
    let path = shelf.url.strip_prefix("sqlite:").unwrap();
    let found = |user: &str| {
        let files = ["", "-wal"].map(|beside| std::fs::read(format!("{path}{beside}")).unwrap_or_default());
        files.iter().any(|bytes| bytes.windows(user.len()).any(|window| window == user.as_bytes()))
    };
    assert!(found("carol-canary") && found("dave-canary"));
    assert!(shelf.store.erase("carol-canary", &SystemClock).await.unwrap().is_all);
    assert!(!found("carol-canary") && found("dave-canary"));
}
