//! From what somebody who was refused reads out to the audit record of it.

use std::time::Duration;

use picket_shared::appeal::AppealCode;
use picket_shared::audit::AuditRecord;
use picket_shared::clock::Timestamp;

use crate::store::{AuditStore, Filter, StoreError};

const PAGE: u32 = 1000;
/// records of one second that are looked through
const RECORDS_MAX: usize = 50_000;

/// the latest record with this code; `None` if it is not kept: low-severity records may not be stored, old ones are deleted
pub(crate) async fn find(
    store: &AuditStore,
    code: AppealCode,
    now: Timestamp,
) -> Result<Option<AuditRecord>, StoreError> {
    for second in code.seconds(now) {
        let until = Some(second.plus(Duration::from_secs(1)));
        let filter = Filter { since: Some(second), until, ..Filter::default() };
        let (mut cursor, mut seen) = (None, 0);
        loop {
            let page = store.page(&filter, cursor.as_ref(), PAGE).await?;
            seen += page.records.len();
            if let Some(found) = page.records.into_iter().find(|record| AppealCode::of(&record.id) == Some(code)) {
                return Ok(Some(found));
            }
            cursor = page.next;
            if cursor.is_none() || seen >= RECORDS_MAX {
                break;
            }
        }
    }
    Ok(None)
}
