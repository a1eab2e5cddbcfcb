//! The stream: what happens is heard, by filter, and who comes back hears what it missed.

use picket_shared::audit::AuditRecord;
use picket_shared::clock::Clock;
use picket_shared::reason::Reason;
use serde_json::{Value, json};
use std::time::Duration;

use super::dashboard::{log_in, with_cookie};
use super::office::{Office, Visitor, eventually};
use crate::api::BASE;

struct Stream {
    response: reqwest::Response,
    text: String,
}

/// one event as it was read
#[derive(Debug)]
struct Heard {
    kind: String,
    id: Option<String>,
    data: Value,
}

impl Visitor<'_> {
    async fn listens(&self, query: &str, last: Option<&str>) -> Stream {
        self.listens_with(query, last.map(|last| ("Last-Event-ID", last))).await
    }

    async fn listens_with(&self, query: &str, header: Option<(&str, &str)>) -> Stream {
        let response = self
            .sends(http::Method::GET, &format!("{BASE}/stream?{query}"), |request| match header {
                Some((name, value)) => request.header(name, value),
                None => request,
            })
            .await;
        assert_eq!(response.status().as_u16(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut stream = Stream { response, text: String::new() };
        assert!(stream.block().await.contains("retry: 2000"));
        stream
    }
}

impl Stream {
    /// the next event of a kind
    async fn hears(&mut self, kind: &str) -> Heard {
        let patience = Duration::from_secs(10);
        tokio::time::timeout(patience, async {
            loop {
                let block = self.block().await;
                let field = |name: &str| {
                    let lines = block.lines().filter_map(|line| line.split_once(": "));
                    lines.filter(|(key, _)| *key == name).map(|(_, value)| value.to_owned()).next()
                };
                if field("event").as_deref() == Some(kind) {
                    let data = serde_json::from_str(&field("data").unwrap()).unwrap();
                    return Heard { kind: kind.into(), id: field("id"), data };
                }
            }
        })
        .await
        .unwrap_or_else(|_| panic!("no {kind} event"))
    }

    /// until the other side ends it
    async fn ends(&mut self) {
        let patience = Duration::from_secs(10);
        tokio::time::timeout(patience, async { while self.response.chunk().await.unwrap().is_some() {} })
            .await
            .expect("the stream ends");
    }

    async fn block(&mut self) -> String {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                return block;
            }
            let chunk = self.response.chunk().await.unwrap().expect("the stream goes on");
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }
}

#[tokio::test]
async fn what_happens_is_heard_by_filter_beside_the_metrics() {
    let office = Office::open().await;
    let mut all = office.admin().listens("", None).await;
    let mut bad_tokens = office.admin().listens("ip=192.0.2.0/28&text=TOKEN_invalid", None).await;
    assert_eq!(all.hears("metrics").await.data["activeConnections"], 0);
    office.refuses(Reason::OriginNotAllowed, "192.0.2.1");
    office.refuses(Reason::TokenInvalid, "192.0.2.77");
    office.refuses(Reason::TokenInvalid, "192.0.2.2");
    let heard = bad_tokens.hears("audit").await;
    assert_eq!((&heard.data["ip"], heard.id.as_deref()), (&json!("192.0.2.2"), heard.data["id"].as_str()));
    let mut addresses = Vec::new();
    while addresses.len() < 3 {
        let heard = all.hears("audit").await.data;
        if heard["reason"].is_string() {
            addresses.push(heard["ip"].as_str().unwrap().to_owned());
        }
    }
    addresses.sort();
    assert_eq!(addresses, ["192.0.2.1", "192.0.2.2", "192.0.2.77"]);
}

#[tokio::test]
async fn who_comes_back_hears_what_it_missed_and_how_much_was_too_much() {
    let office = Office::open().await;
    office.refuses(Reason::OriginNotAllowed, "192.0.2.1");
    let first = office.audited("ip=192.0.2.0/24", 1).await[0]["id"].as_str().unwrap().to_owned();
    office.clock.advance(Duration::from_secs(60));
    office.refuses(Reason::TokenInvalid, "192.0.2.2");
    office.clock.advance(Duration::from_secs(1));
    office.refuses(Reason::TokenInvalid, "192.0.2.3");
    office.audited("ip=192.0.2.0/24", 3).await;
    let mut back = office.admin().listens("ip=192.0.2.0/24", Some(&first)).await;
    assert_eq!(back.hears("audit").await.data["ip"], "192.0.2.2");
    assert_eq!(back.hears("audit").await.data["ip"], "192.0.2.3");
    office.refuses(Reason::TokenInvalid, "192.0.2.4");
    assert_eq!(back.hears("audit").await.data["ip"], "192.0.2.4", "what was told is not told again");

    (0..1100).for_each(|n| office.refuses(Reason::AddressBlocked, &format!("198.51.{}.{}", n / 250, n % 250)));
    eventually("all are stored", async || {
        let page = office.admin().get("/audit-logs?ip=198.51.0.0/16").await.data();
        (page["total"] == 1100).then_some(())
    })
    .await;
    let mut late = office.admin().listens("ip=198.51.0.0/16", Some(&first)).await;
    let lost = late.hears("lost").await;
    assert_eq!(
        (lost.kind.as_str(), lost.data),
        ("lost", json!({ "records": 100, "isLowerBound": false, "isUpperBound": false }))
    );
    office
        .admin()
        .asks(http::Method::GET, &format!("{BASE}/stream"), |request| request.header("Last-Event-ID", "x y"))
        .await
        .fails_with(422);
}

#[tokio::test]
async fn who_comes_back_hears_what_was_stored_since_though_it_happened_before_what_was_heard_last() {
    let office = Office::open().await;
    let mut stream = office.admin().listens("ip=192.0.2.0/24", None).await;
    office.refuses(Reason::TokenInvalid, "192.0.2.1");
    stream.hears("audit").await;
    office.refuses(Reason::TokenInvalid, "192.0.2.2");
    let last = stream.hears("audit").await.id.unwrap();
    drop(stream);
    let earlier = office.clock.now().minus(Duration::from_secs(20));
    office.hears(AuditRecord::refusal(Reason::TokenInvalid, "192.0.2.3".parse().unwrap(), earlier));
    office.audited("ip=192.0.2.3", 1).await;
    let mut back = office.admin().listens("ip=192.0.2.0/24", Some(&last)).await;
    assert_eq!(back.hears("audit").await.data["ip"], "192.0.2.3");
    office.refuses(Reason::TokenInvalid, "192.0.2.4");
    assert_eq!(back.hears("audit").await.data["ip"], "192.0.2.4", "what was heard is not told again");
}

#[tokio::test]
async fn streams_are_bounded_and_end_with_the_coordinator() {
    let office = Office::open().await;
    let mut open = Vec::new();
    for _ in 0..32 {
        open.push(office.admin().listens("", None).await);
    }
    let refused = office.admin().get("/stream").await;
    refused.fails_with(503);
    assert_eq!(refused.header("retry-after"), "10");
    open.pop();
    eventually("a place is free", async || {
        let response = office.admin().sends(http::Method::GET, &format!("{BASE}/stream"), |request| request).await;
        response.status().is_success().then_some(())
    })
    .await;
    office.closes().await;
}

#[tokio::test]
async fn the_streams_of_a_login_end_with_its_logout_and_others_go_on() {
    let office = Office::open().await;
    let (first, second) = (log_in(&office).await, log_in(&office).await);
    let stranger = office.stranger();
    let mut ending = Vec::new();
    for _ in 0..2 {
        ending.push(stranger.listens_with("", Some(("Cookie", &first))).await);
    }
    let mut staying = [
        stranger.listens_with("ip=192.0.2.0/24", Some(("Cookie", &second))).await,
        // Its own credential counts, whatever cookie there is.
        office.admin().listens_with("ip=192.0.2.0/24", Some(("Cookie", &first))).await,
    ];
    let logout = with_cookie(&office, http::Method::POST, "/api/security/logout", &first).await;
    assert_eq!(logout.status, 200);
    for stream in &mut ending {
        stream.ends().await;
    }
    office.refuses(Reason::TokenInvalid, "192.0.2.2");
    for stream in &mut staying {
        assert_eq!(stream.hears("audit").await.data["ip"], "192.0.2.2");
    }
}
