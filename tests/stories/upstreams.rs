//! The applications behind: how they are known, what becomes of them when they fail, and how several share the work.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

use crate::harness::{
    Authority, FLOOD_BYTES, Frame, HostileUpstream, Picket, PicketBuilder, TlsFront, Token, Upstream, Wire, eventually,
    issuer,
};

fn route(path: &str, upstream: Value) -> Value {
    json!({ "path": path, "upstream": upstream, "protocol": "json", "eventField": "type" })
}

fn sharing(upstreams: &[&Upstream]) -> PicketBuilder {
    let urls: Vec<_> = upstreams.iter().map(|upstream| upstream.websocket_url("/ws")).collect();
    Picket::builder().route(route("/ws", json!(urls)))
}

/// A listener that never accepts, and whose queue is full: nobody answers, and nobody refuses.
struct Blackhole {
    address: SocketAddr,
    _listener: tokio::net::TcpListener,
    _queue: Vec<TcpStream>,
}

impl Blackhole {
    async fn opens() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut queue = Vec::new();
        while let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_millis(500), TcpStream::connect(address)).await {
            queue.push(stream);
            assert!(queue.len() < 100, "the queue never fills");
        }
        Self { address, _listener: listener, _queue: queue }
    }
}

#[tokio::test]
async fn x26_an_upstream_that_refuses_swallows_or_stalls_is_told_apart_in_time_and_others_are_unaffected() {
    let well = Upstream::echo().await;
    let refuses = Upstream::echo().await.websocket_url("");
    let blackhole = Blackhole::opens().await;
    let stalls = HostileUpstream::answering(|_| String::new()).await;
    let picket = Picket::guarding(&well)
        .route(route("/refuses", json!(refuses)))
        .route(route("/blackhole", json!(format!("ws://{}", blackhole.address))))
        .route(route("/stalls", json!(stalls.websocket_url(""))))
        .node(json!({ "limits": { "upstreamHeaderTimeoutMs": 1000 } }))
        .start()
        .await;
    let mut bystander = picket.caller("198.51.100.8").comes_in().await;

    for (path, status, reason, promised) in [
        ("/refuses", 502, "upstream_unavailable", Duration::from_secs(1)),
        ("/blackhole", 504, "upstream_slow", Duration::from_secs(3)),
        ("/stalls", 504, "upstream_slow", Duration::from_secs(1)),
    ] {
        let start = Instant::now();
        let refused = picket.caller("198.51.100.7").path(path).connects();
        let (refused, ()) = tokio::join!(refused, bystander.is_still_served());
        refused.refused_with(status, reason).may_be_retried();
        // A loaded machine is given two seconds more than the promise.
        assert!(start.elapsed() < promised + Duration::from_secs(2), "{path} took {:?}", start.elapsed());
    }
}

#[tokio::test]
async fn x26_an_upstream_that_fails_three_times_is_left_alone_until_it_is_back() {
    let (one, other) = (Upstream::echo().await, Upstream::echo().await);
    let picket = sharing(&[&one, &other]).node(json!({ "limits": { "upstreamEjectMs": 3000 } })).start().await;
    one.breaks();

    let mut refused = 0;
    eventually("the failing upstream to be ejected", async || {
        let outcome = picket.caller("198.51.100.7").connects().await;
        refused += usize::from(matches!(outcome, crate::harness::Outcome::Refused(_)));
        (picket.metric("picket_upstream_ejections_total").await == 1.0).then_some(())
    })
    .await;
    assert_eq!(refused, 3, "as many as the limit says");
    for _ in 0..5 {
        picket.caller("198.51.100.7").comes_in().await;
    }

    one.recovers();
    let seen = one.requests().len();
    eventually("the upstream that is back", async || {
        picket.caller("198.51.100.7").comes_in().await;
        (one.requests().len() > seen).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_upstream_that_cannot_be_reached_costs_no_connection_while_another_can() {
    let (gone, well) = (Upstream::echo().await, Upstream::echo().await);
    let builder = sharing(&[&gone, &well]);
    drop(gone);
    let picket = builder.start().await;

    for _ in 0..8 {
        picket.caller("198.51.100.7").comes_in().await.is_still_served().await;
    }
    assert_eq!(picket.metric("picket_upstream_ejections_total").await, 1.0);
}

#[tokio::test]
async fn connections_go_to_the_least_busy_upstream() {
    let (one, other) = (Upstream::echo().await, Upstream::echo().await);
    let picket = sharing(&[&one, &other]).start().await;
    let counts = || (one.requests().len(), other.requests().len());

    let mut first = picket.caller("198.51.100.7").comes_in().await;
    let mut held = vec![picket.caller("198.51.100.7").comes_in().await];
    assert_eq!(counts(), (1, 1));
    for _ in 0..4 {
        held.push(picket.caller("198.51.100.7").comes_in().await);
    }
    assert_eq!(counts(), (3, 3));

    first.is_still_served().await;
    let busy_with_first = if one.seen().is_empty() { &other } else { &one };
    let before = busy_with_first.requests().len();
    drop(first);
    busy_with_first.loses(1).await;
    eventually("the place that became free to be taken first", async || {
        held.push(picket.caller("198.51.100.7").comes_in().await);
        (busy_with_first.requests().len() > before).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_upstream_over_tls_is_known_by_its_authority_its_name_and_its_key() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    for name in ["chat", "edge"] {
        authority.signs(name);
    }
    let pair = json!({ "certFile": authority.file("edge.pem"), "keyFile": authority.file("edge.key") });
    let (pin, other_pin) = (authority.pin("chat"), authority.pin("edge"));
    let ca = authority.file("ca.pem");
    let upstream = Upstream::echo().await;
    let front = TlsFront::before(&upstream, &authority, "chat").await;

    for (scheme, tls, comes_in) in [
        ("wss", json!({ "caFile": ca, "clientCertificate": pair }), true),
        ("https", json!({ "caFile": ca, "clientCertificate": pair, "pins": [other_pin, pin] }), true),
        ("wss", json!({ "caFile": ca, "clientCertificate": pair, "pins": [other_pin] }), false),
        ("wss", json!({ "caFile": ca, "clientCertificate": pair, "serverName": "chat.internal" }), false),
        ("wss", json!({ "caFile": stranger.file("ca.pem"), "clientCertificate": pair }), false),
        ("wss", json!({ "caFile": ca }), false),
    ] {
        let mut route = route("/ws", json!(front.url(scheme, "/ws")));
        route["upstreamTls"] = tls.clone();
        let picket = Picket::builder().route(route).start().await;
        let caller = picket.caller("198.51.100.7");
        if comes_in {
            caller.comes_in().await.is_still_served().await;
        } else {
            assert_eq!(caller.connects().await.refused().head.status(), 502, "{tls}");
        }
    }
    assert_eq!(upstream.requests().len(), 2, "those that were let in");
}

#[tokio::test]
async fn renewed_files_of_an_upstreams_tls_are_in_use_without_a_restart() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    authority.signs("chat");
    authority.signs("edge");
    let ca = stranger.file("ca.pem");
    let upstream = Upstream::echo().await;
    let front = TlsFront::before(&upstream, &authority, "chat").await;
    let pair = json!({ "certFile": authority.file("edge.pem"), "keyFile": authority.file("edge.key") });
    let mut route = route("/ws", json!(front.url("wss", "/ws")));
    route["upstreamTls"] = json!({ "caFile": ca, "clientCertificate": pair });
    let picket = Picket::builder().route(route).start().await;
    let caller = || picket.caller("198.51.100.7");
    assert_eq!(caller().connects().await.refused().head.status(), 502, "another authority's");

    std::fs::copy(authority.file("ca.pem"), &ca).unwrap();
    let mut alice = caller().comes_in_eventually().await;
    std::fs::write(&ca, "no certificate").unwrap();
    eventually("a renewal that failed", async || {
        let metrics = picket.ops("/metrics").await.text;
        metrics.lines().any(|line| line.contains("upstream_tls") && line.contains("failed")).then_some(())
    })
    .await;
    caller().comes_in().await.is_still_served().await;
    alice.is_still_served().await;
}

#[tokio::test]
async fn a_renewed_secret_signs_what_the_upstream_is_told() {
    let directory = tempfile::TempDir::new().unwrap();
    let file = directory.path().join("assertion.secret");
    let (old, new) = ("the-old-secret-of-picket-and-its-upstreams", "the-new-secret-of-picket-and-its-upstreams");
    std::fs::write(&file, old).unwrap();
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).node(json!({ "upstreamAssertion": { "secretFile": file } })).start().await;
    let mut validation = Validation::new(Algorithm::HS256);
    validation.set_audience(&["/ws"]);
    let is_signed_with = async |secret: &str| {
        picket.caller("198.51.100.7").comes_in().await;
        let request = upstream.requests().pop().unwrap();
        let token = request.first("x-picket-assertion").unwrap();
        decode::<Value>(token, &DecodingKey::from_secret(secret.as_bytes()), &validation).is_ok()
    };
    assert!(is_signed_with(old).await);

    std::fs::write(&file, "too short").unwrap();
    eventually("a renewal that failed", async || (picket.metric("picket_renewals_total").await >= 1.0).then_some(()))
        .await;
    assert!(is_signed_with(old).await);
    std::fs::write(&file, new).unwrap();
    eventually("a statement signed with the new secret", async || is_signed_with(new).await.then_some(())).await;
    let said = picket.everything_it_said();
    assert!(!said.contains(old) && !said.contains(new));
}

/// Bytes in memory that each slow connection may cost: its queue, and what a session is made of.
const SLOW_CONNECTION_BYTES_MAX: u64 = 1024 * 1024;
/// What a process of a debug build gains by itself while it works.
const WORKING_BYTES: u64 = 12 * 1024 * 1024;
const SLOW_CONNECTIONS: u64 = 6;

#[tokio::test]
async fn x28_clients_that_read_nothing_cost_a_bounded_queue_each() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).node(json!({ "limits": { "writeTimeoutMs": 60_000 } })).start().await;
    let mut sloths = Vec::new();
    for _ in 0..SLOW_CONNECTIONS {
        sloths.push(Wire::narrow(picket.gateway()).await.upgraded("/ws", "198.51.100.7", picket.gateway()).await);
    }
    let before = picket.resident_bytes();

    upstream.floods();
    is_stuck(async || upstream.flooded_bytes()).await;

    let (grown, flooded) = (picket.resident_bytes().saturating_sub(before), upstream.flooded_bytes());
    eprintln!("x28: {SLOW_CONNECTIONS} clients that read nothing: {flooded} bytes sent, {grown} more in memory");
    assert!(flooded < FLOOD_BYTES, "nothing held the upstream back");
    assert!(grown <= SLOW_CONNECTIONS * SLOW_CONNECTION_BYTES_MAX + WORKING_BYTES, "{grown} bytes");
    picket.caller("198.51.100.8").comes_in().await.is_still_served().await;
}

#[tokio::test]
async fn x28_an_upstream_that_reads_nothing_stops_its_clients() {
    let deaf = HostileUpstream::deaf().await;
    let picket =
        Picket::guarding_hostile(&deaf).patient().node(json!({ "limits": { "writeTimeoutMs": 60_000 } })).start().await;
    let message = Frame::text(json!({ "type": "say", "text": "x".repeat(9_000) }).to_string()).bytes();
    let mut talkers = Vec::new();
    for _ in 0..SLOW_CONNECTIONS {
        talkers.push(picket.wire("198.51.100.7").await);
    }
    let before = picket.resident_bytes();

    let mut sent = 0;
    for talker in &mut talkers {
        while takes(talker, &message).await {
            sent += message.len();
            assert!(sent < 512 * 1024 * 1024, "taken without end");
        }
    }
    let grown = picket.resident_bytes().saturating_sub(before);
    eprintln!("x28: {SLOW_CONNECTIONS} clients of a deaf upstream: {sent} bytes sent, {grown} more in memory");
    assert!(grown <= SLOW_CONNECTIONS * SLOW_CONNECTION_BYTES_MAX + WORKING_BYTES, "{grown} bytes");
}

/// Waits until a number has not changed for a while.
async fn is_stuck(mut number: impl AsyncFnMut() -> u64) {
    let (mut last, mut unchanged) = (0, 0);
    eventually("the flood to come to a stop", async || {
        let found = number().await;
        (last, unchanged) = (found, if found == last && found > 0 { unchanged + 1 } else { 0 });
        (unchanged == 40).then_some(())
    })
    .await;
}

/// Whether a whole message finds room within a moment.
async fn takes(wire: &mut Wire, message: &[u8]) -> bool {
    tokio::time::timeout(Duration::from_millis(200), wire.stream.write_all(message))
        .await
        .is_ok_and(|sent| sent.is_ok())
}

#[tokio::test]
async fn the_upstream_is_told_who_came_in_by_a_statement_that_it_can_verify() {
    const SECRET: &str = "a-secret-between-picket-and-its-upstreams";
    let directory = tempfile::TempDir::new().unwrap();
    let file = directory.path().join("assertion.secret");
    std::fs::write(&file, format!("{SECRET}\n")).unwrap();
    let upstream = Upstream::echo().await;
    let node = json!({ "upstreamAssertion": { "secretFile": file } });
    let picket = Picket::guarding(&upstream).issuer(issuer()).node(node).start().await;

    let alice = Token::of("alice").role(json!(["member", "moderator"])).signed();
    picket.caller("198.51.100.7").bearing(&alice).header("X-Picket-Assertion", "forged").comes_in().await;
    picket.caller("198.51.100.8").comes_in().await;

    let mut validation = Validation::new(Algorithm::HS256);
    validation.set_issuer(&["picket"]);
    validation.set_audience(&["/ws"]);
    validation.set_required_spec_claims(&["exp", "iss", "aud"]);
    let stated = |index: usize| {
        let request = upstream.requests().remove(index);
        let [token] = request.all("x-picket-assertion")[..] else { panic!("one statement: {request:?}") };
        let claims = decode::<Value>(token, &DecodingKey::from_secret(SECRET.as_bytes()), &validation).unwrap().claims;
        assert_eq!(claims["jti"], request.first("x-picket-connection").unwrap(), "{claims}");
        let lifetime = claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
        assert!(lifetime <= 60, "{claims}");
        claims
    };
    let (of_alice, of_nobody) = (stated(0), stated(1));
    assert_eq!((&of_alice["sub"], &of_alice["client"]), (&json!("alice"), &json!("198.51.100.7")), "{of_alice}");
    assert_eq!(of_alice["roles"], json!(["member", "moderator"]));
    assert_eq!(of_nobody.get("sub"), None, "{of_nobody}");
    assert!(!picket.everything_it_said().contains(SECRET));
}
