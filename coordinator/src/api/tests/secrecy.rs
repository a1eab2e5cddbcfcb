//! R15: no secret in any answer.

use serde_json::json;

use super::office::{ADMIN, Office, PASSWORD, SECRET};

#[tokio::test]
async fn r15_no_secret_is_in_any_answer() {
    let office = Office::builder().with_tokens().start().await;
    office.visitor(ADMIN, &format!("{PASSWORD}x")).get("/metrics").await.fails_with(401);
    office.bearer(json!({ "role": "admin", "iss": "shop" })).get("/metrics").await.fails_with(401);
    office.audited("eventType=ADMIN_LOGIN&severity=medium", 2).await;
    let mut outputs = Vec::new();
    for path in [
        "/metrics",
        "/audit-logs?limit=1000",
        "/audit-logs/export",
        "/audit-logs/export?format=csv",
        "/dashboard",
        "/health",
        "/config",
        "/config/history",
        "/blocks",
        "/reputation/127.0.0.1",
        "/report",
        "/report?format=html",
        "/report?format=csv",
        "/nodes",
    ] {
        let reply = office.admin().get(path).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text);
        outputs.push((path, reply));
    }
    outputs.push((
        "a 422",
        office
            .admin()
            .put("/config", json!({ "nonsense": PASSWORD, "monitoring": { "notifications": [{ "url": SECRET }] } }))
            .await,
    ));
    outputs.push((
        "a 422",
        office
            .admin()
            .put(
                "/config",
                json!({ "monitoring": { "notifications": [{ "kind": "x", "url": 7, "minSeverity": SECRET }] } }),
            )
            .await,
    ));
    outputs.push(("a 401", office.visitor(ADMIN, &format!("{PASSWORD}y")).get("/config").await));
    for (place, reply) in outputs {
        let all = format!("{} {:?}", reply.text, reply.headers);
        for secret in [PASSWORD, "$argon2id$"] {
            assert!(!all.contains(secret), "{secret} is in {place}: {all}");
        }
        if place != "a 422" {
            assert!(!all.contains(SECRET), "{place}: {all}");
        }
    }
}
