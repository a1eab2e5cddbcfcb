//! What chains prove, on either database: who changes, removes, inserts or reorders a record is found out, and who erases a person
//! or deletes old records by the rules is not accused.

use super::*;
use crate::store::{Absence, Broken, Checkpoint, Uncompared, Unproven, Verdict, verify_export, verify_store};

super::laws!(
    an_untouched_trail_verifies_over_the_chains_of_several_processes,
    whoever_tampers_is_found_out,
    what_is_erased_verifies_and_what_pretends_to_be_does_not,
    what_is_stated_anew_is_proven_by_the_record_that_came_with_it,
    what_retention_leaves_verifies,
    a_chain_that_was_forgotten_is_not_begun_again,
    a_checkpoint_kept_elsewhere_is_compared,
    an_export_verifies_elsewhere_in_any_order,
    an_export_that_proves_nothing_says_so,
);

/// ten records of different severities
async fn ten(shelf: &Shelf) {
    let records: Vec<_> = (1..=10)
        .map(|n| {
            let mut record = record(n, "192.0.2.1", &n.to_string()).with("number", n);
            record.user_id = Some(format!("user-{}", n % 3));
            record.severity = Severity::ALL[n as usize % 4];
            record
        })
        .collect();
    // In two batches, as it goes.
    shelf.holds(&records[..4]).await;
    shelf.holds(&records[4..]).await;
}

impl Shelf {
    async fn verdict(&self, kept: &[Checkpoint]) -> Verdict {
        verify_store(&self.url, kept, |_| {}).await.unwrap()
    }

    async fn runs(&self, statements: &[&str]) {
        let mut session = self.store.database.write().await.unwrap();
        for sql in statements {
            let statement = session.statement(*sql);
            session.execute(statement).await.unwrap();
        }
        session.commit().await.unwrap();
    }

    async fn export(&self, filter: Filter) -> Vec<String> {
        let page = self.store.stored_page(&filter, None, 1000).await.unwrap();
        page.records.iter().map(|record| record.to_json().unwrap()).collect()
    }

    async fn head(&self) -> Head {
        self.store.end.lock().await.head.clone().unwrap()
    }
}

fn verdict_on(lines: &[String], kept: &[Checkpoint]) -> Verdict {
    verify_export(std::io::Cursor::new(lines.join("\n")), kept, |_| {}).unwrap()
}

async fn an_untouched_trail_verifies_over_the_chains_of_several_processes(shelf: Shelf) {
    ten(&shelf).await;
    let Shelf { store, url, _folder } = shelf;
    store.checkpoint().await.unwrap();
    store.close().await;
    drop(store);
    let shelf = Shelf { store: AuditStore::open(&url).await.unwrap(), url, _folder };
    ten(&shelf).await;
    let verdict = shelf.verdict(&[]).await;
    assert_eq!(verdict, Verdict { chains: 2, checked: 20, checkpoints: 1, ..Verdict::default() });
}

async fn whoever_tampers_is_found_out(shelf: Shelf) {
    ten(&shelf).await;
    shelf.runs(&["CREATE TABLE kept AS SELECT * FROM audit"]).await;
    let changes = [
        "message = 'x'",
        "timestamp = timestamp + 1",
        "event_type = 'CONNECTION_ATTEMPT'",
        "severity = (severity + 1) % 4",
        "user_id = 'mallory'",
        "user_id = NULL",
        "socket_id = 's'",
        "reason = 'idle'",
        "metadata = '{}'",
        "route = '/'",
        "node = 'n'",
        "event_name = 'e'",
    ];
    let changes = changes.iter().map(|change| (vec![format!("UPDATE audit SET {change} WHERE seq = 5")], "5"));
    let others = [
        (vec!["DELETE FROM audit WHERE seq = 5"], "Missing"),
        (vec!["DELETE FROM audit WHERE seq = 1"], "Missing"),
        (vec!["DELETE FROM audit WHERE seq = 10"], "Short"),
        (vec!["DELETE FROM audit"], "Short"),
        (vec!["DELETE FROM audit WHERE seq = 5", "UPDATE audit SET seq = seq - 1 WHERE seq > 5"], "Changed"),
        (
            vec![
                "UPDATE audit SET seq = 100 WHERE seq = 4",
                "UPDATE audit SET seq = 4 WHERE seq = 5",
                "UPDATE audit SET seq = 5 WHERE seq = 100",
            ],
            "Changed",
        ),
        (vec!["UPDATE audit SET id = 'another' WHERE seq = 5"], "Changed"),
        (vec!["UPDATE audit SET writer = 99 WHERE seq = 10"], "Short"),
        (
            vec![
                "CREATE TABLE forged AS SELECT * FROM audit WHERE seq = 5",
                "UPDATE forged SET id = 'another', writer = 99",
                "INSERT INTO audit SELECT * FROM forged",
                "DROP TABLE forged",
            ],
            "Unchained",
        ),
    ];
    let others = others.into_iter().map(|(sql, found)| (sql.into_iter().map(str::to_owned).collect(), found));
    for (sql, found) in changes.chain(others) {
        shelf.runs(&sql.iter().map(String::as_str).collect::<Vec<_>>()).await;
        let broken = shelf.verdict(&[]).await.broken;
        let told = format!("{broken:?}");
        assert!(told.contains(if found == "5" { "Changed" } else { found }), "{sql:?}: {told}");
        if found == "5" {
            assert!(told.contains("seq: 5"), "{sql:?}: {told}");
        }
        shelf.runs(&["DELETE FROM audit", "INSERT INTO audit SELECT * FROM kept"]).await;
        assert_eq!(shelf.verdict(&[]).await.broken, None, "as it was");
    }
}

async fn what_is_erased_verifies_and_what_pretends_to_be_does_not(shelf: Shelf) {
    ten(&shelf).await;
    let before = shelf.export(Filter::default()).await.join("\n");
    assert_eq!(shelf.store.erase("user-1", &SystemClock).await.unwrap().records, 4);
    let verdict = shelf.verdict(&[]).await;
    assert_eq!(verdict, Verdict { chains: 1, checked: 10, erased: 4, ..Verdict::default() });
    let export = shelf.export(Filter::default()).await;
    assert!(before.contains("user-1") && !export.join("\n").contains("user-1"));
    let left = verdict_on(&export, &[]);
    assert_eq!((left.checked, left.erased, left.broken), (10, 4, None));

    // The commitment of something else does not fit, and neither does a value beside it.
    shelf.runs(&["UPDATE audit SET message = 'nothing happened' WHERE seq = 1"]).await;
    assert!(matches!(shelf.verdict(&[]).await.broken, Some(Broken::NotBlank { seq: 1, .. })));
}

async fn what_is_stated_anew_is_proven_by_the_record_that_came_with_it(shelf: Shelf) {
    shelf.holds(&administration()).await;
    ten(&shelf).await;
    assert_eq!(shelf.store.erase("alice", &SystemClock).await.unwrap().records, 3);
    assert_eq!(shelf.store.erase("bob", &SystemClock).await.unwrap().records, 1, "a block may name several");
    let whole = Verdict { chains: 1, checked: 19, restated: 3, ..Verdict::default() };
    assert_eq!(shelf.verdict(&[]).await, whole);
    let export = shelf.export(Filter::default()).await;
    assert_eq!(verdict_on(&export, &[]), whole);
    assert!(!export.concat().contains("alice") && !export.concat().contains("bob"));
    let without_proof: Vec<_> = export.iter().filter(|line| !line.contains("\"restated\"")).cloned().collect();
    let verdict = verdict_on(&without_proof, &[]);
    assert_eq!((verdict.restated, verdict.restated_given, verdict.broken), (0, 3, None), "that is outside the export");

    shelf.runs(&["CREATE TABLE kept AS SELECT * FROM audit"]).await;
    for forged in [
        // What is left of it is changed, or taken from another record.
        "UPDATE audit SET metadata = REPLACE(metadata, 'warden', 'mallory') WHERE seq = 4",
        "UPDATE audit SET ip = (SELECT ip FROM audit WHERE seq = 8) WHERE seq = 5",
        "UPDATE audit SET metadata = (SELECT metadata FROM audit WHERE seq = 6), salt = (SELECT salt FROM audit WHERE seq = 6), \
         message = (SELECT message FROM audit WHERE seq = 6) WHERE seq = 4",
        // A record that names nobody is made to look as if it had.
        "UPDATE audit SET commitment = hash, metadata = '{}' WHERE seq = 1",
        "UPDATE audit SET commitment = hash, message = 'x' WHERE seq = 10",
    ] {
        shelf.runs(&[forged]).await;
        let broken = shelf.verdict(&[]).await.broken;
        let is_found = matches!(broken, Some(Broken::Restated { .. } | Broken::Changed { .. }));
        assert!(is_found, "{forged}: {broken:?}");
        shelf.runs(&["DELETE FROM audit", "INSERT INTO audit SELECT * FROM kept"]).await;
    }
    assert_eq!(shelf.verdict(&[]).await, whole, "as it was");
    // Retention may delete the proof before what it proves.
    let bounds = Bounds { ages: vec![(Severity::High, Duration::ZERO)], ..Bounds::default() };
    let exported = AuditRecord { severity: Severity::Critical, ..administration().remove(5) };
    shelf.holds(&[AuditRecord { id: "kept".into(), ..exported }]).await;
    shelf.store.erase("alice", &SystemClock).await.unwrap();
    while shelf.store.prune(&bounds, SystemClock.now().plus(Duration::from_secs(1))).await.unwrap().is_some() {}
    let verdict = shelf.verdict(&[]).await;
    assert_eq!((verdict.restated, verdict.restated_given, verdict.broken), (0, 1, None));
}

async fn a_chain_that_was_forgotten_is_not_begun_again(shelf: Shelf) {
    ten(&shelf).await;
    let first = shelf.head().await;
    while shelf.store.prune(&at_most(0), at(11)).await.unwrap().is_some() {}
    assert!(shelf.store.forget(at(100)).await.unwrap() > 0);
    assert!(shelf.store.insert(&[&record(20, "192.0.2.1", "late")]).await.is_err(), "its chain is gone");
    shelf.holds(&[record(20, "192.0.2.1", "late")]).await;
    let head = shelf.head().await;
    assert_eq!(head.seq, 1);
    assert_ne!(head.name, first.name, "a checkpoint of the old chain names no record of the new one");
    assert_eq!(shelf.verdict(&[]).await, Verdict { chains: 1, checked: 1, ..Verdict::default() });
}

async fn what_retention_leaves_verifies(shelf: Shelf) {
    ten(&shelf).await;
    shelf.store.checkpoint().await.unwrap();
    let head = shelf.head().await;
    // First some in the middle go by their severity, then the oldest by number.
    let ages = vec![(Severity::Medium, Duration::ZERO), (Severity::Low, Duration::ZERO)];
    let bounds = Bounds { ages, ..Bounds::default() };
    while shelf.store.prune(&bounds, at(11)).await.unwrap().is_some() {}
    let verdict = shelf.verdict(&[]).await;
    assert_eq!((verdict.checked, verdict.deleted, verdict.broken), (5, 5, None));
    assert_eq!(shelf.number("SELECT COUNT(*) FROM audit_gaps").await, 3, "1, 4-5 and 8-9");
    shelf.runs(&["DELETE FROM audit WHERE seq = 6"]).await;
    assert!(matches!(shelf.verdict(&[]).await.broken, Some(Broken::Missing { seq: 6, .. })));
    shelf.runs(&["DELETE FROM audit_gaps", "DELETE FROM audit"]).await;
    assert!(matches!(shelf.verdict(&[]).await.broken, Some(Broken::Short { seq: 10, .. })));
    assert_eq!(head.seq, 10);
}

async fn a_checkpoint_kept_elsewhere_is_compared(shelf: Shelf) {
    ten(&shelf).await;
    let head = shelf.head().await;
    let kept = |text: String| vec![text.parse::<Checkpoint>().unwrap()];
    let sound = kept(format!("{}:10:{}", head.name, picket_shared::hex::encode(&head.hash)));
    assert_eq!(shelf.verdict(&sound).await.checkpoints, 1);
    let export = shelf.export(Filter::default()).await;
    assert_eq!(verdict_on(&export, &sound).checkpoints, 1);
    let uncompared = |why| vec![Uncompared { checkpoint: sound[0].clone(), why }];
    let cut_off = verdict_on(&export[1..], &sound);
    assert_eq!((&cut_off.broken, &cut_off.uncompared), (&None, &uncompared(Absence::Record { newest: 9 })));
    assert_eq!(
        cut_off.unproven(false),
        Some(Unproven::Uncompared(uncompared(Absence::Record { newest: 9 }).remove(0)))
    );
    assert_eq!(verdict_on(&[], &sound).uncompared, uncompared(Absence::Chain));

    let other = "0".repeat(64);
    for (text, found) in [
        (format!("{}:10:{other}", head.name), "Checkpoint"),
        (format!("{}:4:{other}", head.name), "Checkpoint"),
        (format!("{}:11:{other}", head.name), "Short"),
        (format!("somebody:1:{other}"), "NoChain"),
    ] {
        let broken = format!("{:?}", shelf.verdict(&kept(text.clone())).await.broken);
        assert!(broken.contains(found), "{text}: {broken}");
    }
    for text in ["", "a:1", "a:0:00", "a:1:zz", &format!("a:1:{other}:x")] {
        assert!(text.parse::<Checkpoint>().is_err(), "{text}");
    }
    // Retention deletes it: then nothing can be said of it, and that is said.
    while shelf.store.prune(&at_most(2), at(11)).await.unwrap().is_some() {}
    let gone = kept(format!("{}:4:{other}", head.name));
    let verdict = shelf.verdict(&gone).await;
    assert_eq!((verdict.checked, verdict.deleted, &verdict.broken), (2, 8, &None));
    assert_eq!(verdict.uncompared, [Uncompared { checkpoint: gone[0].clone(), why: Absence::Deleted }]);
    assert!(verdict.unproven(true).unwrap().to_string().contains("record 4, could not be compared: retention deleted"));
}

async fn an_export_verifies_elsewhere_in_any_order(shelf: Shelf) {
    ten(&shelf).await;
    let mut export = shelf.export(Filter::default()).await;
    let whole = Verdict { chains: 1, checked: 10, ..Verdict::default() };
    assert_eq!(verdict_on(&export, &[]), whole);
    export.rotate_left(3);
    export.swap(0, 5);
    assert_eq!(verdict_on(&export, &[]), whole, "lines may be sorted");

    let of_one = shelf.export(Filter { user_id: Some("user-1".into()), ..Filter::default() }).await;
    assert_eq!(verdict_on(&of_one, &[]), Verdict { chains: 1, checked: 1, given: 3, ..Verdict::default() });

    let changed: Vec<_> = export.iter().map(|line| line.replace("user-2", "user-1")).collect();
    assert!(matches!(verdict_on(&changed, &[]).broken, Some(Broken::Changed { .. })));
    let twice = [export.clone(), vec![export[0].clone()]].concat();
    assert!(matches!(verdict_on(&twice, &[]).broken, Some(Broken::Twice { .. })));
    let renumbered: Vec<_> = export.iter().map(|line| line.replace("\"seq\":5,", "\"seq\":50,")).collect();
    let gap = verdict_on(&renumbered, &[]);
    assert_eq!((gap.given, gap.broken), (2, None), "an export alone does not know what should be there");
    let nonsense = verify_export(std::io::Cursor::new("{}"), &[], |_| {});
    assert!(nonsense.is_err());
}

async fn an_export_that_proves_nothing_says_so(shelf: Shelf) {
    ten(&shelf).await;
    let export = shelf.export(Filter::default()).await;
    assert_eq!(verdict_on(&export, &[]).unproven(false), None);
    assert_eq!(verdict_on(&[], &[]).unproven(false), Some(Unproven::Empty));
    let apart: Vec<_> = export.iter().step_by(2).filter(|line| !line.contains("\"seq\":1,")).cloned().collect();
    assert_eq!(verdict_on(&apart, &[]).unproven(false), Some(Unproven::AllGiven));
    let bare =
        |line: &String| format!("{}}}", line.split_once(",\"chain\"").unwrap().0).replace("192.0.2.1", "192.0.2.66");
    let forged: Vec<_> = export.iter().map(bare).collect();
    let verdict = verdict_on(&forged, &[]);
    assert_eq!((verdict.unproven(false), verdict.unproven(true)), (Some(Unproven::Unchained(10)), None));
    let mixed = verdict_on(&[export, forged[..1].to_vec()].concat(), &[]);
    assert_eq!((mixed.unproven(false), mixed.unproven(true)), (Some(Unproven::Unchained(1)), None));
}
