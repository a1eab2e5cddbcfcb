//! What stands in Redis: no name of a client's choice, nothing that stays for ever without a bound, and little for each.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use super::meter::message_limit;
use crate::harness::{Answer, Cluster, Outcome, Redis, Token};

const HOSTILE: [&str; 10] = [
    "mark:er",
    "{mark}er",
    "mark}{er",
    "*mark?[a-z]*",
    "mark\u{0}er",
    "mark\r\nSET owned 1\r\n",
    "../../mark",
    "mark\u{2028}er",
    "picket:{policy}:versions:mark",
    "mark er",
];

#[tokio::test]
async fn r01_r02_r03_no_client_names_a_key_and_every_key_ends_or_is_bounded() {
    const WINDOW: Duration = Duration::from_secs(60);
    let redis = Redis::start().await;
    let named = json!({ "rateLimiting": { "events": {
        "mark:{er}": { "maxEvents": 10, "windowMs": 60_000, "per": "user" },
        "*mark?[a-z]*": { "maxEvents": 10, "windowMs": 60_000, "per": "address" },
    } } });
    let cluster =
        Cluster::of(2).on(&redis).coordinators(1).policy(message_limit(100, WINDOW)).policy(named).start().await;

    let visits = (0..60).map(async |number| {
        let name = HOSTILE[number % HOSTILE.len()];
        let user = if number < HOSTILE.len() { name.to_owned() } else { format!("{name}{number}") };
        let caller = cluster.node(number % 2).caller(&format!("10.1.0.{number}")).bearing(&Token::of(&user).signed());
        // A name that is no name at all may be refused; it must not be written down either.
        let Outcome::Admitted(mut client) = caller.connects().await else { return None };
        for event in HOSTILE.iter().chain(["mark:{er}"].iter()) {
            client.sends(json!({ "type": event, "text": "x" })).await;
        }
        client.is_still_served().await;
        Some(client)
    });
    let inside: Vec<_> = join_all(visits).await.into_iter().flatten().collect();
    assert!(inside.len() >= 40, "only {} came in", inside.len());
    cluster.admin().blocks("203.0.113.66").await;

    let keys = redis.keys().await;
    let (mut bytes_of, mut longest) = (HashMap::<String, i64>::new(), 0);
    for key in &keys {
        let name = String::from_utf8(key.clone()).expect("a key in ASCII");
        let plain = |c: char| c.is_ascii_alphanumeric() || ":{}-_.".contains(c);
        assert!(name.chars().all(plain) && !name.contains("mark") && !name.contains("owned"), "{name:?}");
        let ttl_ms = redis.answers(&[b"PTTL", key]).await.number();
        let bytes = redis.answers(&[b"MEMORY", b"USAGE", key]).await;
        let Answer::Number(bytes) = bytes else { continue };
        let tag = name.split(['{', '}']).nth(1).unwrap_or_else(|| panic!("a hash tag in {name}"));
        let is_identity = tag.len() == 32 && tag.chars().all(|c| c.is_ascii_hexdigit());
        if is_identity {
            assert!(ttl_ms > 0, "{name} does not end");
            longest = longest.max(ttl_ms);
            *bytes_of.entry(tag.to_owned()).or_default() += bytes;
        } else if ttl_ms < 0 {
            assert!(["policy", "members", "blocks", "audit", "anonymous"].contains(&tag), "{name} stays for ever");
        }
    }
    let largest = bytes_of.values().max().copied().unwrap_or(0);
    eprintln!(
        "r03: {} keys, {} identities, at most {largest} bytes each, the longest life is {longest} ms",
        keys.len(),
        bytes_of.len()
    );
    assert!(bytes_of.len() >= 40, "identities have keys of their own: {}", bytes_of.len());
    assert!(largest <= 1024, "{largest} bytes of one identity");
    assert!(longest <= 2 * WINDOW.as_millis() as i64, "{longest} ms");
}
