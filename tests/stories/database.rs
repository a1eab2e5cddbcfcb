//! The audit store in a PostgreSQL across a network: over TLS, with a server that somebody known vouches for, or not at all.

use serde_json::json;

use crate::harness::{Authority, DATABASE_PASSWORD, Ended, Picket, Postgres, Program, Upstream};

fn with_tls() -> (Authority, Postgres) {
    let authority = Authority::new();
    authority.signs("postgres");
    let read = |name: &str| std::fs::read(authority.file(name)).unwrap();
    let postgres = Postgres::start_with_tls(&read("postgres.pem"), &read("postgres.key"));
    (authority, postgres)
}

#[tokio::test]
async fn the_trail_goes_to_a_postgres_over_tls_and_never_to_one_that_nobody_known_vouches_for() {
    let (authority, postgres) = tokio::task::spawn_blocking(with_tls).await.unwrap();
    let database = postgres.database();
    let verified = |file: &std::path::Path| format!("{database}?sslmode=verify-full&sslrootcert={}", file.display());

    let upstream = Upstream::echo().await;
    let store = verified(&authority.file("ca.pem"));
    let plan = Picket::guarding(&upstream).with(json!({ "coordinator": { "auditStore": store } }));
    let picket = plan.start().await;
    let caller = picket.caller("198.51.100.7").origin("https://evil.example");
    caller.connects().await.refused_with(403, "origin_not_allowed");
    picket.admin().audited("eventType=INVALID_ORIGIN", 1).await;
    let (encrypted, in_clear) = postgres.encrypted();
    assert!(encrypted > 0 && in_clear == 0, "{encrypted} with TLS and {in_clear} without");

    let another = Authority::new();
    refused(&verified(&another.file("ca.pem")), "does not prove that it is the one in the URL");
    refused(&verified(&authority.file("nothing.pem")), "nothing.pem");
    let by_name = verified(&authority.file("ca.pem")).replace("127.0.0.1", "localhost");
    refused(&by_name, "does not prove that it is the one in the URL");
}

#[tokio::test]
async fn a_postgres_without_tls_gets_no_password_from_who_wants_it() {
    let postgres = tokio::task::spawn_blocking(Postgres::start).await.unwrap();
    refused(&format!("{}?sslmode=verify-full", postgres.database()), "TLS");
}

/// as by a coordinator that starts, and by `picket audit verify`
fn refused(store: &str, why: &str) {
    let program = Program::new().with_admin();
    let config = program.writes_config(&json!({
        "state": { "url": "redis://127.0.0.1:1" },
        "coordinator": { "auditStore": store, "listen": "127.0.0.1:0", "opsListen": "127.0.0.1:0" },
    }));
    let starts = program.runs(&["coordinator", "--config", config.to_str().unwrap()]);
    let verifies = program.runs(&["audit", "verify", "--store", store]);
    for Ended { code, stdout, stderr } in [starts, verifies] {
        let said = format!("{stdout}{stderr}");
        assert!(code != Some(0) && said.contains(why), "{code:?}: {said}");
        assert!(!said.contains(DATABASE_PASSWORD), "r15: {said}");
        eprintln!("{said}");
    }
}
