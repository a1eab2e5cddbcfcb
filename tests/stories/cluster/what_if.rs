//! Whom a proposed policy would have refused: what is told of yesterday is what happens tomorrow.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::harness::{Admin, Cluster, HOME, Outcome, Redis, Token, eventually};

const SHOP: &str = "https://shop.example.com";
const NEW: &str = "https://new.example.com";
const SCRIPT: &str = "<script>alert(1)</script>";

/// how often a rule refused somebody, whom the last number of an address names
type Refusals = BTreeMap<(&'static str, u8), u64>;

/// The same day, from another network each time; over both nodes. What was refused, and whether markup passed.
async fn a_day(cluster: &Cluster, network: &str) -> Refusals {
    let mut refusals = Refusals::new();
    let days: [(u8, Option<&str>, Option<&str>, usize); 6] = [
        (1, Some(HOME), Some("alice"), 1),
        (2, Some(SHOP), Some("bob"), 1),
        (3, Some(HOME), None, 1),
        (4, None, Some("carol"), 1),
        (5, Some(NEW), Some("dave"), 1),
        (6, Some(HOME), Some("erin"), 5),
    ];
    for (number, origin, user, times) in days {
        for _ in 0..times {
            let caller = cluster.node(usize::from(number % 2)).caller(&format!("{network}.{number}"));
            let caller = match origin {
                Some(origin) => caller.origin(origin),
                None => caller.without_origin(),
            };
            let caller = match user {
                Some(user) => caller.bearing(&Token::of(user).signed()),
                None => caller,
            };
            if let Outcome::Refused(refusal) = caller.connects().await {
                let body: Value = serde_json::from_str(&refusal.body).unwrap();
                let rule = match body["reason"].as_str().unwrap() {
                    "origin_not_allowed" => "origin",
                    "login_required" => "identity",
                    "connection_rate" => "connectionRate",
                    other => panic!("{other}: {refusal:?}"),
                };
                *refusals.entry((rule, number)).or_default() += 1;
            }
        }
    }
    let mut frank =
        cluster.node(0).caller(&format!("{network}.7")).bearing(&Token::of("frank").signed()).comes_in().await;
    frank.sends(json!({ "type": "chat:say", "text": SCRIPT })).await;
    if frank.receives_text(|text| text.contains("chat:say")).await.contains("hostile_content") {
        refusals.insert(("content", 7), 1);
    }
    refusals
}

/// What is told of the rules' verdicts: `refused` or `passing`.
fn told(forecast: &Value, verdicts: &str) -> Refusals {
    let mut all = Refusals::new();
    for rule in ["origin", "identity", "connectionRate", "content", "countries", "blocks", "concurrency"] {
        let of = forecast["rules"].as_array().unwrap().iter().find(|one| one["rule"] == rule).unwrap();
        for address in of[verdicts]["addresses"]["top"].as_array().unwrap() {
            let number = address["ip"].as_str().unwrap().rsplit('.').next().unwrap().parse().unwrap();
            all.insert((rule, number), address["count"].as_u64().unwrap());
        }
    }
    all
}

async fn in_force_everywhere(admin: &Admin) {
    eventually("the policy at every node", async || {
        (admin.get("/config").await.data()["applied"] == true).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_a_policy_would_have_refused_is_what_it_refuses() {
    let redis = Redis::start().await;
    let lenient = json!({ "cors": { "allowedOrigins": [HOME, SHOP], "allowMissingOrigin": true } });
    let cluster = Cluster::of(2).on(&redis).policy(lenient).start().await;
    let admin = cluster.admin();
    let before = a_day(&cluster, "198.51.100").await;
    assert_eq!(before, [(("origin", 5), 1)].into());
    let records = admin.audited("ip=198.51.100.0/24", 12).await;

    let change = json!({
        "cors": { "allowedOrigins": [HOME, NEW], "allowMissingOrigin": false },
        "rateLimiting": {
            "connectionLimit": { "maxConnections": 3, "windowMs": 60_000, "exact": true },
            "messageLimit": { "maxMessages": 50 },
        },
        "validation": { "content": { "mode": "reject" } },
        "security": { "allowAnonymous": false },
    });
    let version = admin.policy_version().await;
    let forecast = admin.post("/config/what-if", change.clone()).await.data();
    assert_eq!((&forecast["complete"], admin.policy_version().await), (&json!(true), version), "nothing is changed");
    assert_eq!(told(&forecast, "passing"), before, "who would not be refused any more: {forecast}");
    let not_judged: Vec<_> = forecast["notJudged"].as_array().unwrap().iter().map(|one| &one["setting"]).collect();
    assert_eq!(not_judged, ["rateLimiting.messageLimit", "rateLimiting.messageLimit"], "{forecast}");
    let origin = forecast["rules"].as_array().unwrap().iter().find(|one| one["rule"] == "origin").unwrap();
    let users = origin["refused"]["users"]["top"].as_array().unwrap();
    assert_eq!(users.iter().map(|one| &one["userId"]).collect::<Vec<_>>(), ["bob", "carol"], "{origin}");
    for user in users {
        let record = records.iter().find(|record| record["id"] == user["record"]).unwrap();
        assert_eq!(record["userId"], user["userId"]);
    }

    admin.changes_policy(change).await.succeeds();
    in_force_everywhere(&admin).await;
    let after = a_day(&cluster, "203.0.113").await;
    eprintln!("what-if: told {:?}, refused {after:?}", told(&forecast, "refused"));
    assert_eq!(told(&forecast, "refused"), after);
    assert_eq!(after.len(), 5, "{after:?}");
}
