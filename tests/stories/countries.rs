//! Countries: who is let in from where, and the database behind it, which is replaced while it serves.

use serde_json::json;

use crate::harness::{Geography, Picket, PicketBuilder, Program, Upstream, eventually};

const FRANCE: &str = "198.51.100.7";
const GERMANY: &str = "203.0.113.7";

fn without_france(upstream: &Upstream, geography: &Geography) -> PicketBuilder {
    Picket::guarding(upstream)
        .node(json!({ "geoip": { "file": geography.file() } }))
        .policy(json!({ "security": { "countries": { "deny": ["FR"] } } }))
}

#[tokio::test]
async fn a_country_that_is_denied_is_refused_and_named_on_the_record_and_a_change_ends_open_sockets() {
    let (geography, upstream) = (Geography::of(&[("198.51.100", "FR"), ("203.0.113", "DE")]), Upstream::echo().await);
    let picket = without_france(&upstream, &geography).start().await;
    let admin = picket.admin();

    picket.caller(FRANCE).connects().await.refused_with(403, "country_not_allowed");
    let mut hans = picket.caller(GERMANY).comes_in().await;
    picket.caller("192.0.2.7").comes_in().await;
    let record = &admin.audited(&format!("ip={FRANCE}"), 1).await[0];
    assert_eq!(
        (&record["reason"], &record["metadata"]["country"]),
        (&json!("country_not_allowed"), &json!("FR")),
        "{record}"
    );
    let record = &admin.audited(&format!("ip={GERMANY}"), 1).await[0];
    assert_eq!(record["metadata"]["country"], "DE", "{record}");

    let only = |unknown: &str| json!({ "security": { "countries": { "deny": ["DE"], "unknown": unknown } } });
    admin.changes_policy(only("deny")).await.succeeds();
    hans.closes_with(1008, "country_not_allowed").await;
    picket.caller(FRANCE).comes_in_eventually().await.is_still_served().await;
    picket.caller("192.0.2.7").connects().await.refused_with(403, "country_not_allowed");
}

#[tokio::test]
async fn a_new_database_is_taken_up_and_a_damaged_one_changes_nothing() {
    let (geography, upstream) = (Geography::of(&[("198.51.100", "FR")]), Upstream::echo().await);
    let picket = without_france(&upstream, &geography).start().await;
    picket.caller(FRANCE).connects().await.refused_with(403, "country_not_allowed");
    picket.caller(GERMANY).comes_in().await;

    geography.becomes(&[("198.51.100", "DE"), ("203.0.113", "FR")]);
    picket.caller(GERMANY).gets_refused_eventually().await;
    picket.caller(FRANCE).comes_in().await;

    geography.is_cut_off();
    eventually("it says that the file is damaged", async || {
        picket
            .log()
            .iter()
            .any(|line| line.contains("countries.mmdb") && line.contains("the old ones stay"))
            .then_some(())
    })
    .await;
    picket.caller(GERMANY).connects().await.refused_with(403, "country_not_allowed");
    picket.caller(FRANCE).comes_in().await;

    geography.becomes(&[("198.51.100", "FR")]);
    picket.caller(FRANCE).gets_refused_eventually().await;
}

#[tokio::test]
async fn a_node_does_not_start_on_a_damaged_database() {
    let geography = Geography::of(&[("198.51.100", "FR")]);
    geography.is_cut_off();
    let program = Program::new().with_admin();
    let config = program.writes_config(&json!({
        "node": {
            "geoip": { "file": geography.file() },
            "routes": [{ "path": "/ws", "upstream": "ws://127.0.0.1:1/ws", "protocol": "text" }],
        },
    }));
    let ended = program.runs(&["check-config", config.to_str().unwrap()]);
    let said = ended.everything();
    assert!(ended.code != Some(0) && said.contains("countries.mmdb"), "{said}");
}
