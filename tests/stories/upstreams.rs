//! The applications behind: how they are known, what becomes of them when they fail, and how several share the work.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};

use crate::harness::{
    Authority, HostileUpstream, Picket, PicketBuilder, TlsFront, Token, Upstream, eventually, issuer,
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
