//! The trail is followed in the order in which it was stored, by every coordinator that shares it.

use super::*;

laws!(what_is_new_is_read_once_in_the_order_of_storing, what_was_heard_is_not_found_again);

fn record(ip: &str, at: u64) -> AuditRecord {
    AuditRecord::refusal(Reason::Burst, ip.parse().unwrap(), Timestamp::from_millis(at))
}

async fn what_is_new_is_read_once_in_the_order_of_storing(shelf: Shelf) {
    let store = &shelf.store;
    shelf.holds(&[record("192.0.2.1", 9_000)]).await;
    let mut read = store.ends().await.unwrap();
    let records: Vec<_> = [8_000, 9_500, 1, 9_400, 9_000].map(|at| record("192.0.2.2", at)).into();
    shelf.holds(&records[..2]).await;
    shelf.holds(&records[2..]).await;
    let ends = store.ends().await.unwrap();
    assert_eq!((read.until(&ends), ends.until(&ends)), (5, 0));
    let mut told = store.grown(&mut read, &ends, 3).await.unwrap();
    assert_eq!((told.len(), read.until(&ends)), (3, 2));
    told.extend(store.grown(&mut read, &ends, 3).await.unwrap());
    assert_eq!(told, records);
    assert_eq!((store.grown(&mut read, &ends, 3).await.unwrap(), &read), (Vec::new(), &ends));
}

async fn what_was_heard_is_not_found_again(shelf: Shelf) {
    let records: Vec<_> = [8_000, 9_500, 9_400, 9_000, 9_600].map(|at| record("192.0.2.2", at)).into();
    shelf.holds(&records).await;
    let heard = shelf.store.position(&records[2].id).await.unwrap();
    for network in [None, parse_network("192.0.2.0/24")] {
        let filter = Filter { since: Some(Timestamp::from_millis(8_500)), heard, network, ..Filter::default() };
        let page = shelf.store.page(&filter, None, 10).await.unwrap();
        assert_eq!(page.records, [records[4].clone(), records[3].clone()]);
        assert_eq!(shelf.store.total(&filter).await.unwrap().count, 2);
    }
    assert_eq!(shelf.store.position("0abc").await.unwrap(), None);
}
