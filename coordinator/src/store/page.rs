//! Finding records: by filters and page by page, by id, and how many there are.

use ipnet::IpNet;
use picket_shared::audit::AuditRecord;
use picket_shared::clock::Timestamp;

use super::queries::search;
use super::{AuditStore, Cursor, Filter, Span, StoreError, Stored};

/// totals are exact up to here
pub const TOTAL_MAX: u32 = 10_000;
/// users listed for an address
const USERS_MAX: u32 = 100;

/// one page of the trail
#[derive(Clone, Debug)]
pub struct Page<R = AuditRecord> {
    pub records: Vec<R>,
    /// Where the next page starts; `None` after the last. A page with a text to search for may hold few records, and others follow.
    pub next: Option<Cursor>,
}

/// how many records a filter finds
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Total {
    pub count: u64,
    /// there may be more
    pub is_lower_bound: bool,
}

impl AuditStore {
    /// up to `limit` records older than `cursor`, newest first
    pub async fn page(&self, filter: &Filter, cursor: Option<&Cursor>, limit: u32) -> Result<Page, StoreError> {
        let Page { records, next } = self.stored_page(filter, cursor, limit).await?;
        let records = records.into_iter().map(Stored::into_record).collect::<sqlx::Result<_>>()?;
        Ok(Page { records, next })
    }

    /// the same with each record's place in its chain
    pub(crate) async fn stored_page(
        &self,
        filter: &Filter,
        cursor: Option<&Cursor>,
        limit: u32,
    ) -> Result<Page<Stored>, StoreError> {
        let mut session = self.database.read().await?;
        let search::Found { mut records, read_to } =
            search::page(&mut session, filter, cursor, limit.saturating_add(1)).await?;
        let more = records.len() > limit as usize;
        records.truncate(limit as usize);
        let last = records.last().filter(|_| more);
        let next = last
            .map(|record| Cursor { timestamp: Timestamp::from_millis(record.timestamp), id: record.id.clone() })
            .or_else(|| read_to.map(Cursor::before));
        Ok(Page { records, next })
    }

    /// up to `limit` records of a span after `cursor`, oldest first
    pub async fn page_in_order(&self, span: Span, cursor: Option<&Cursor>, limit: u32) -> Result<Page, StoreError> {
        let mut session = self.database.read().await?;
        let records = search::in_order(&mut session, span, cursor, limit.saturating_add(1)).await?;
        drop(session);
        let more = records.len() > limit as usize;
        let records = records.into_iter().take(limit as usize).map(Stored::into_record);
        let records: Vec<_> = records.collect::<sqlx::Result<_>>()?;
        let last = records.last().filter(|_| more);
        let next = last.map(|record| Cursor { timestamp: record.timestamp, id: record.id.clone() });
        Ok(Page { records, next })
    }

    pub async fn find(&self, id: &str) -> Result<Option<AuditRecord>, StoreError> {
        let mut session = self.database.read().await?;
        let found = search::by_id(&mut session, id).await?;
        Ok(found.map(Stored::into_record).transpose()?)
    }

    pub async fn total(&self, filter: &Filter) -> Result<Total, StoreError> {
        let mut session = self.database.read().await?;
        let (count, all) = search::count(&mut session, filter, TOTAL_MAX + 1).await?;
        let cap = u64::from(TOTAL_MAX);
        Ok(Total { count: count.min(cap), is_lower_bound: count > cap || !all })
    }

    /// the users seen at an address or in a prefix, the most recent first
    pub async fn users(&self, network: IpNet, since: Timestamp) -> Result<Vec<(String, Timestamp)>, StoreError> {
        let filter = Filter { network: Some(network), since: Some(since), ..Filter::default() };
        let mut session = self.database.read().await?;
        Ok(search::users(&mut session, &filter, USERS_MAX).await?)
    }
}
