//! What stands before the request: load balancers that say for whom they speak, and heads that HTTP itself refuses.

use serde_json::{Value, json};

use crate::harness::{HOME, Picket, Upstream, Wire};

const LINE: &[u8] = b"PROXY TCP4 198.51.100.7 10.0.0.1 40000 443\r\n";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    [SIGNATURE, &[command, family], &(body.len() as u16).to_be_bytes(), body].concat()
}

/// Of 198.51.100.7, with a TLV behind the addresses.
fn named() -> Vec<u8> {
    binary(0x21, 0x11, &[198, 51, 100, 7, 10, 0, 0, 1, 0x9c, 0x40, 1, 0xbb, 4, 0, 1, 0])
}

fn request(origin: &str, lines: &[&str]) -> String {
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    let more: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    format!("GET /ws HTTP/1.1\r\nHost: shop.test\r\n{upgrade}\r\nOrigin: {origin}\r\n{more}\r\n")
}

async fn behind_a_balancer(upstream: &Upstream, proxy_protocol: &str) -> Picket {
    Picket::guarding(upstream).node(json!({ "proxyProtocol": proxy_protocol })).start().await
}

/// In one write: a second one could meet a connection that the node has closed.
async fn says(picket: &Picket, parts: &[&[u8]]) -> Wire {
    let mut wire = Wire::to(picket.gateway()).await;
    wire.writes(parts.concat()).await;
    wire
}

#[tokio::test]
async fn a_proxy_header_of_a_trusted_balancer_names_the_client() {
    for (mode, header) in
        [("optional", LINE.to_vec()), ("optional", named()), ("required", LINE.to_vec()), ("required", named())]
    {
        let upstream = Upstream::echo().await;
        let picket = behind_a_balancer(&upstream, mode).await;

        let mut wire = says(&picket, &[&header, request(HOME, &["X-Forwarded-For: 6.6.6.6"]).as_bytes()]).await;
        assert_eq!(wire.response().await.head.status(), 101, "{mode}");
        assert_eq!(upstream.requests()[0].all("x-forwarded-for"), ["198.51.100.7"], "the client is no trusted proxy");

        let evil = request("https://evil.example", &[]);
        let mut slowly = says(&picket, &[&header[..3]]).await;
        slowly.writes(&header[3..]).await;
        slowly.writes(evil).await;
        assert_eq!(slowly.response().await.head.status(), 403, "{mode}");
        let record = picket.admin().audited("eventType=INVALID_ORIGIN", 1).await.remove(0);
        assert_eq!(record["ip"], "198.51.100.7", "{mode}: {record}");
    }
}

#[tokio::test]
async fn an_optional_header_may_be_missing_and_a_required_one_not() {
    let upstream = Upstream::echo().await;
    let optional = behind_a_balancer(&upstream, "optional").await;
    optional.caller("198.51.100.7").comes_in().await.is_still_served().await;

    let required = behind_a_balancer(&upstream, "required").await;
    let mut wire = says(&required, &[request(HOME, &[]).as_bytes()]).await;
    assert!(wire.head().await.is_none(), "closed without a word");
    let record = required.admin().audited("eventType=SUSPICIOUS_ACTIVITY", 1).await.remove(0);
    assert_eq!(record["metadata"]["refusedFor"], "protocol_error", "on nobody's account: {record}");
    assert_eq!(record.get("reason"), None, "{record}");
}

#[tokio::test]
async fn h25_a_proxy_header_counts_only_where_it_is_enabled_and_from_whom_is_trusted() {
    for (node, header) in [
        (json!({}), LINE.to_vec()),
        (json!({}), named()),
        (json!({ "proxyProtocol": "optional", "trustedProxies": ["10.0.0.0/8"] }), LINE.to_vec()),
        (json!({ "proxyProtocol": "optional", "trustedProxies": ["10.0.0.0/8"] }), named()),
        (json!({ "proxyProtocol": "required", "trustedProxies": ["10.0.0.0/8"] }), LINE.to_vec()),
        (json!({ "proxyProtocol": "required", "trustedProxies": ["10.0.0.0/8"] }), Vec::new()),
    ] {
        let upstream = Upstream::echo().await;
        let picket = Picket::guarding(&upstream).node(node.clone()).start().await;
        let mut wire = says(&picket, &[&header, request(HOME, &[]).as_bytes()]).await;
        if let Some(head) = wire.head().await {
            assert_eq!(head.status(), 400, "{node}, {header:?}");
        }
        upstream.saw_no_request();
        picket.admin().audited("eventType=SUSPICIOUS_ACTIVITY", 1).await;
    }
}

#[tokio::test]
async fn h25_local_and_malformed_headers_end_the_connection_and_nothing_else() {
    let upstream = Upstream::echo().await;
    let mut picket = behind_a_balancer(&upstream, "optional").await;
    let mut bystander = picket.caller("198.51.100.8").comes_in().await;

    let ipv4 = [198, 51, 100, 7, 10, 0, 0, 1, 0x9c, 0x40, 1, 0xbb];
    for header in [
        binary(0x20, 0x00, &[]),
        binary(0x20, 0x11, &ipv4),
        binary(0x20, 0x11, &[]),
        binary(0x21, 0x00, &[]),
        binary(0x21, 0x11, &[]),
        binary(0x21, 0x11, &ipv4[..11]),
        binary(0x21, 0x12, &ipv4),
        binary(0x21, 0xff, &ipv4),
        binary(0x2f, 0x11, &ipv4),
        binary(0x11, 0x11, &ipv4),
        [SIGNATURE, &[0x21, 0x11, 0xff, 0xff]].concat(),
        b"PROXY UNKNOWN\r\n".to_vec(),
        b"PROXY TCP4 198.51.100.7 10.0.0.1 40000\r\n".to_vec(),
        b"PROXY TCP4 999.51.100.7 10.0.0.1 40000 443\r\n".to_vec(),
        [b"PROXY ".to_vec(), vec![b'x'; 4000]].concat(),
    ] {
        let mut wire = says(&picket, &[&header, request(HOME, &[]).as_bytes()]).await;
        assert!(wire.head().await.is_none(), "answered after {header:?}");
    }

    bystander.is_still_served().await;
    assert!(picket.is_running());
    assert_eq!(picket.metric("picket_panics_total").await, 0.0);
    assert_eq!(upstream.requests().len(), 1, "the bystander's");
}

#[tokio::test]
async fn a_proxy_header_must_arrive_within_the_time_of_a_head() {
    let upstream = Upstream::echo().await;
    let node = json!({ "proxyProtocol": "required", "limits": { "headerTimeoutMs": 300 } });
    let picket = Picket::guarding(&upstream).node(node).start().await;

    for beginning in [&b""[..], b"PROXY TCP4 198", SIGNATURE] {
        let mut wire = says(&picket, &[beginning]).await;
        assert!(wire.rest().await.is_empty(), "{beginning:?}");
    }
}

#[tokio::test]
async fn h19_forwarded_names_the_client_and_two_clients_are_refused() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).start().await;
    let told = |index: usize, name: &str| upstream.requests()[index].all(name).join("|");

    let element = "Forwarded: for=6.6.6.6, for=\"198.51.100.7:4711\";proto=https;host=shop.example.com";
    let mut wire = says(&picket, &[request(HOME, &[element]).as_bytes()]).await;
    assert_eq!(wire.response().await.head.status(), 101);
    assert_eq!(told(0, "x-forwarded-for"), "198.51.100.7");
    assert_eq!(told(0, "x-forwarded-proto"), "https");
    assert_eq!(told(0, "x-forwarded-host"), "shop.example.com");
    assert_eq!(told(0, "forwarded"), "");

    let both = request(HOME, &["X-Forwarded-For: 198.51.100.7", "Forwarded: for=198.51.100.7"]);
    assert_eq!(says(&picket, &[both.as_bytes()]).await.response().await.head.status(), 101);
    for lines in [
        ["X-Forwarded-For: 198.51.100.7", "Forwarded: for=6.6.6.6"],
        ["X-Forwarded-For: 6.6.6.6", "Forwarded: for=198.51.100.7"],
        ["X-Forwarded-For: 198.51.100.7", "Forwarded: for=\"6.6.6.6, for=198.51.100.7"],
    ] {
        let response = says(&picket, &[request(HOME, &lines).as_bytes()]).await.response().await;
        assert_eq!(response.head.status(), 400, "{lines:?}");
    }
    assert_eq!(upstream.requests().len(), 2, "{:?}", upstream.requests());
    picket.admin().audited("eventType=SUSPICIOUS_ACTIVITY", 3).await;
}

#[tokio::test]
async fn h09_a_request_with_two_lengths_is_refused_and_on_the_record() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).node(json!({ "trustedProxies": [] })).start().await;
    let hidden = request(HOME, &[]);
    let cases = [
        "HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        "HTTP/1.1\r\nHost: a\r\ntransfer-encoding: chunked\r\nX: y\r\nCONTENT-LENGTH: 0\r\n\r\n0\r\n\r\n",
        "HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        "HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        "HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ];
    for (index, case) in cases.iter().enumerate() {
        let mut wire = says(&picket, &[b"POST /ws ", case.as_bytes(), hidden.as_bytes()]).await;
        assert_eq!(wire.response().await.head.status(), 400, "{case:?}");
        assert!(wire.rest().await.is_empty(), "an answer to what was hidden behind {case:?}");
        let records = picket.admin().audited("eventType=SUSPICIOUS_ACTIVITY", index + 1).await;
        assert_eq!((&records[0]["ip"], &records[0]["reason"]), (&json!("127.0.0.1"), &json!("protocol_error")));
    }
    upstream.saw_no_request();
    assert_eq!(says(&picket, &[hidden.as_bytes()]).await.response().await.head.status(), 101);
}

#[tokio::test]
async fn a_node_without_a_place_for_a_polling_client_charges_no_connection_rate() {
    let upstream = Upstream::engine_io().await;
    let picket = Picket::guarding_socketio(&upstream)
        .node(json!({ "limits": { "pollingSessionsMax": 1 } }))
        .policy(json!({ "rateLimiting": { "connectionLimit": { "maxConnections": 2, "windowMs": 60_000 } } }))
        .start()
        .await;
    let _open = picket.polls("198.51.100.7").open().await;
    for _ in 0..4 {
        let answer = picket.polls("198.51.100.7").gets("EIO=4&transport=polling").await;
        assert_eq!(answer.head.status(), 503, "{}", String::from_utf8_lossy(&answer.body));
    }
}

#[tokio::test]
async fn h14_h15_what_http_refuses_by_itself_is_on_the_record() {
    let endless = format!("GET /ws HTTP/1.1\r\nHost: a\r\nX-Long: {}\r\n\r\n", "x".repeat(20_000));
    let many = format!("GET /ws HTTP/1.1\r\nHost: a\r\n{}\r\n", "X-Many: 1\r\n".repeat(2000));
    let cases = [
        (endless, 431, "PAYLOAD_TOO_LARGE", "head_too_large"),
        (many, 431, "PAYLOAD_TOO_LARGE", "head_too_large"),
        ("GET /ws HTTP/1.1\r\nHost a\r\n\r\n".to_owned(), 400, "SUSPICIOUS_ACTIVITY", "protocol_error"),
        ("G\u{1}T / HTTP/1.1\r\n\r\n".to_owned(), 400, "SUSPICIOUS_ACTIVITY", "protocol_error"),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".to_owned(),
            400,
            "SUSPICIOUS_ACTIVITY",
            "protocol_error",
        ),
    ];
    for (bytes, status, kind, reason) in cases {
        let upstream = Upstream::echo().await;
        let picket = Picket::guarding(&upstream).node(json!({ "trustedProxies": [] })).start().await;
        let mut wire = says(&picket, &[bytes.as_bytes()]).await;
        assert_eq!(wire.head().await.map(|head| head.status()), Some(status), "{reason}");

        let record = picket.admin().audited(&format!("eventType={kind}"), 1).await.remove(0);
        assert_eq!((&record["ip"], &record["reason"]), (&Value::from("127.0.0.1"), &Value::from(reason)), "{record}");
        upstream.saw_no_request();
    }
}
