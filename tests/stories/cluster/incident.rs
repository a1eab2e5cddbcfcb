//! An incident from its beginning to its end: an attack over three nodes, the alarm, the appeal, the explanation, the report, the proof.
//! With one coordinator and its SQLite, and with two that share a PostgreSQL: each act is asked of the one or the other.

use serde_json::{Value, json};

use super::blocks::guarded;
use super::store::leader;
use crate::harness::{Admin, Client, Cluster, Pager, Picket, Postgres, Program, Redis, eventually};

const MALLORY: &str = "203.0.113.66";

#[tokio::test]
async fn an_attack_is_blocked_told_appealed_explained_lifted_and_reported() {
    let (redis, mut pager) = (Redis::start().await, Pager::listens().await);
    let cluster = Cluster::of(3).on(&redis).policy(guarded()).policy(told(&pager)).start().await;
    let coordinator = cluster.coordinator(0);
    let store = format!("sqlite:{}", coordinator.data_directory().join("audit.db").display());

    let incident = Incident { cluster: &cluster, leads: coordinator, stands_by: coordinator, store };
    incident.takes_its_course(&mut pager).await;
}

#[tokio::test]
async fn x20_two_coordinators_on_one_postgres_answer_for_an_attack_in_turn() {
    let (redis, mut pager) = (Redis::start().await, Pager::listens().await);
    let postgres = tokio::task::spawn_blocking(Postgres::start).await.unwrap();
    let store = postgres.database();
    let shared = json!({ "coordinator": { "auditStore": store } });
    let cluster = Cluster::of(3).on(&redis).coordinators(2).with(shared).policy(guarded()).policy(told(&pager));
    let cluster = cluster.start().await;
    let leads = leader(&cluster).await;
    let (leads, stands_by) = (cluster.coordinator(leads), cluster.coordinator(1 - leads));

    let incident = Incident { cluster: &cluster, leads, stands_by, store };
    incident.takes_its_course(&mut pager).await;
}

fn told(pager: &Pager) -> Value {
    json!({ "monitoring": { "notifications": [pager.entry()] } })
}

struct Incident<'c> {
    cluster: &'c Cluster,
    leads: &'c Picket,
    /// the same one where it is alone
    stands_by: &'c Picket,
    /// the URL of the store
    store: String,
}

impl Incident<'_> {
    async fn takes_its_course(&self, pager: &mut Pager) {
        let of_event = self.attack().await;
        let alarm = pager.rings_for("IP_BLOCKED").await;
        assert_eq!((&alarm["type"], &alarm["data"]["severity"]), (&json!("alarm.noticed"), &json!("high")));
        assert_eq!(alarm["data"]["record"]["metadata"]["network"], MALLORY);
        let code = self.appeal().await;
        self.explanation(&code, &of_event).await;
        self.lift().await;
        self.relapse().await;
        self.report().await;
        self.proof().await;
        for coordinator in [self.leads, self.stands_by] {
            assert!(!coordinator.everything_it_said().contains("/pager"), "the URL of a receiver is a secret");
        }
    }

    /// One hostile message at each node; the code of the last refusal.
    async fn attack(&self) -> String {
        let mut told = String::new();
        for node in self.cluster.nodes() {
            let mut mallory = node.caller(MALLORY).comes_in().await;
            told = offends(&mut mallory).await;
        }
        told
    }

    /// What the client is told, read out to an operator.
    async fn appeal(&self) -> String {
        let refusal = self.cluster.node(1).caller(MALLORY).gets_refused_eventually().await;
        let body: Value = serde_json::from_str(&refusal.body).unwrap();
        assert_eq!(body["reason"], "address_blocked");
        body["appeal"].as_str().unwrap().to_lowercase()
    }

    /// Over the API and in words, as soon as the record is stored.
    async fn explanation(&self, code: &str, of_event: &str) {
        let admin = self.stands_by.admin();
        let explanation = eventually("the record of the code", async || {
            let answer = admin.get(&format!("/audit-logs/{code}/explanation")).await;
            (answer.status == 200).then(|| answer.data())
        })
        .await;
        assert_eq!((&explanation["node"], &explanation["record"]["ip"]), (&json!("edge-2"), &json!(MALLORY)));
        let block = &explanation["block"];
        assert_eq!(block["made"]["metadata"]["parts"], json!({ "hostile_content": 3.0 }), "{block}");
        let nodes: Vec<_> =
            block["behind"].as_array().unwrap().iter().map(|record| record["node"].as_str().unwrap()).collect();
        assert_eq!(nodes, ["edge-3", "edge-2", "edge-1"]);

        let api = format!("http://{}", self.leads.address("management"));
        let said = Program::new().with_admin().runs(&["explain", code, "--api", &api]).succeeds();
        eprintln!("{said}");
        for words in
            ["this address is blocked", "3.0 for hostile_content", "edge-2", "To lift:", "blocked as 203.0.113.66"]
        {
            assert!(said.contains(words), "{words}: {said}");
        }
        let stranger = Program::new().runs(&["explain", code, "--api", &api]);
        assert_eq!(stranger.code, Some(64), "{}", stranger.everything());

        // What was refused as an event has a code of its own.
        let of_event = admin.get(&format!("/audit-logs/{of_event}/explanation")).await.data();
        assert_eq!((&of_event["node"], &of_event["record"]["reason"]), (&json!("edge-3"), &json!("hostile_content")));
        // Whoever stands by says of the address what the leader says.
        for admin in [admin, self.leads.admin()] {
            scores(&admin, |score| score > 2.9).await;
        }
    }

    /// By the one that does not lead, and on the record.
    async fn lift(&self) {
        self.stands_by.admin().unblocks(MALLORY).await.succeeds();
        self.cluster.node(1).caller(MALLORY).comes_in_eventually().await.is_still_served().await;
        for coordinator in [self.leads, self.stands_by] {
            let admin = coordinator.admin();
            admin.audited("eventType=IP_UNBLOCKED", 1).await;
            scores(&admin, |score| score == 0.0).await;
        }
    }

    /// The sheet is clean at the leader, too: one more offence is one, and as many as the first time block again.
    async fn relapse(&self) {
        let (leads, stands_by) = (self.leads.admin(), self.stands_by.admin());
        let mut mallory = self.cluster.node(0).caller(MALLORY).comes_in().await;
        offends(&mut mallory).await;
        scores(&leads, |score| (0.9..=1.0).contains(&score)).await;
        mallory.is_still_served().await;
        assert!(!leads.lists_block(MALLORY).await && !stands_by.lists_block(MALLORY).await);

        offends(&mut mallory).await;
        offends(&mut mallory).await;
        mallory.closes_with(1008, "address_blocked").await;
        let blocks = stands_by.audited("eventType=IP_BLOCKED", 2).await;
        let relapses = [&blocks[1]["metadata"]["relapse"], &blocks[0]["metadata"]["relapse"]];
        assert_eq!(relapses, [&json!(0), &json!(1)]);
        let points = blocks[0]["metadata"]["parts"]["hostile_content"].as_f64().unwrap();
        assert!((2.9..=3.0).contains(&points), "what was lifted counts no more: {}", blocks[0]);
        assert!(leads.lists_block(MALLORY).await && stands_by.lists_block(MALLORY).await);
    }

    async fn report(&self) {
        let report = self.leads.admin().get("/report?period=1h").await.data();
        let text = report.to_string();
        assert!(text.contains("IP_BLOCKED") && text.contains("IP_UNBLOCKED"), "{text}");
    }

    /// The trail is whole where it is stored, and an export of it proves itself elsewhere.
    async fn proof(&self) {
        eprintln!("{}", Program::new().runs(&["audit", "verify", "--store", &self.store]).succeeds());
        let export = self.stands_by.admin().get("/audit-logs/export?format=ndjson").await.text;
        let elsewhere = tempfile::tempdir().unwrap();
        let file = elsewhere.path().join("incident.ndjson");
        let verified = |text: &str| {
            std::fs::write(&file, text).unwrap();
            Program::new().runs(&["audit", "verify", "--export", file.to_str().unwrap()])
        };
        eprintln!("{}", verified(&export).succeeds());
        let falsified = export.replacen("\"high\"", "\"low\"", 1);
        assert_ne!(falsified, export);
        assert_ne!(verified(&falsified).code, Some(0), "a record was changed");
    }
}

async fn offends(client: &mut Client) -> String {
    client.sends(json!({ "type": "chat:say", "text": "<script>alert(1)</script>" })).await;
    client.is_refused("hostile_content").await["appeal"].as_str().unwrap().to_owned()
}

async fn scores(admin: &Admin, holds: impl Fn(f64) -> bool) {
    eventually("the score", async || {
        let standing = admin.get(&format!("/reputation/{MALLORY}")).await.data();
        holds(standing["score"].as_f64().unwrap()).then_some(())
    })
    .await;
}
