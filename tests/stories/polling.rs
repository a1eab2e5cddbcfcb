//! Socket.IO over long-polling, request by request: the same verdicts as over WebSocket, and what only HTTP can be abused for.

use serde_json::{Value, json};

use crate::harness::{
    HOME, Outcome, Picket, SEPARATOR, SocketIo, Token, Upstream, Wire, body, eventually, is_unknown, issuer,
    seconds_from_now,
};

fn joined(packets: &[&str]) -> String {
    packets.join(&SEPARATOR.to_string())
}

/// The packets that the upstream saw beyond CONNECTs and heartbeats.
fn events(upstream: &Upstream) -> Vec<String> {
    upstream.texts().into_iter().filter(|packet| packet.starts_with("42") || packet.starts_with("43")).collect()
}

#[tokio::test]
async fn an_honest_client_polls_speaks_and_gets_its_acknowledgement() {
    let upstream = Upstream::engine_io().await;
    let picket = Picket::guarding_socketio(&upstream).start().await;

    let mut alice = picket.polls("198.51.100.7").connected().await;
    assert_eq!(alice.open["upgrades"], json!(["websocket"]));
    assert_eq!(alice.open["maxPayload"], 1_000_000);
    assert_eq!(alice.open["pingInterval"], 25_000, "the upstream's own");
    alice.says(&joined(&[r#"42["chat:send",{"text":"a < b"}]"#, r#"427["chat:send","second"]"#])).await;
    assert_eq!(alice.hears("437").await, r#"437["ok"]"#);
    let mut open_poll = alice.starts_a_poll().await;
    upstream.says(r#"42["news",{"n":1}]"#);
    assert_eq!(body(&open_poll.response().await), r#"42["news",{"n":1}]"#);

    assert_eq!(events(&upstream), [r#"42["chat:send",{"text":"a < b"}]"#, r#"427["chat:send","second"]"#]);
    let request = upstream.requests().remove(0);
    assert!(request.is_upgrade() && request.start_line.contains("transport=websocket"), "{request:?}");
    assert_eq!(request.first("x-picket-client"), Some("198.51.100.7"));
}

#[tokio::test]
async fn one_connection_serves_many_polls_and_ends_after_an_error() {
    let upstream = Upstream::engine_io().await;
    let picket = Picket::guarding_socketio(&upstream).start().await;
    let alice = picket.polls("198.51.100.7").connected().await;

    let post = alice.polls.head("POST", &alice.query(), &["Content-Type: text/plain", "Content-Length: 1"]) + "3";
    let mut wire = alice.polls.asks("POST", &alice.query(), &["Content-Length: 1"], b"3").await;
    for _ in 0..5 {
        let answer = wire.response().await;
        assert_eq!((answer.head.status(), body(&answer).as_str()), (200, "ok"), "{:?}", answer.head);
        assert_eq!(answer.head.first("connection"), None, "{:?}", answer.head);
        wire.writes(&post).await;
    }
    wire.response().await;
    wire.writes(alice.polls.head("GET", "EIO=4&transport=polling&sid=nobody", &[]) + &post).await;
    let answer = wire.response().await;
    is_unknown(&answer);
    assert_eq!(answer.head.first("connection"), Some("close"), "{:?}", answer.head);
    assert!(wire.rest().await.is_empty(), "nothing is read behind an error");
}

#[tokio::test]
async fn a_poll_may_wait_longer_than_a_head_and_a_silent_connection_ends() {
    let upstream = Upstream::engine_io().await;
    let limits = json!({ "headerTimeoutMs": 300, "pingIntervalMs": 1000 });
    let picket = Picket::guarding_socketio(&upstream).node(json!({ "limits": limits })).start().await;

    let alice = picket.polls("198.51.100.7").connected().await;
    let mut wire = alice.starts_a_poll().await;
    assert_eq!(body(&wire.response().await), "6", "the node's own sign of life");
    assert!(wire.rest().await.is_empty());
}

#[tokio::test]
async fn s08_a_flood_of_packets_or_bytes_in_one_post_ends_the_session() {
    let upstream = Upstream::engine_io().await;
    let picket = Picket::guarding_socketio(&upstream).start().await;

    let mut mallory = picket.polls("198.51.100.7").connected().await;
    let answer = mallory.posts(&joined(&vec![r#"42["chat:send"]"#; 1000])).await;
    assert_eq!(answer.head.status(), 400);
    mallory.is_closed().await;
    picket.admin().audited("text=flood", 1).await;

    let mut mallory = picket.polls("198.51.100.8").connected().await;
    let large = format!(r#"42["chat:send","{}"]"#, "x".repeat(1_000_000));
    assert_eq!(mallory.posts(&large).await.head.status(), 413);
    mallory.is_closed().await;

    let mut mallory = picket.polls("198.51.100.9").connected().await;
    let chunk = format!("{:x}\r\n{}\r\n", 200_000, "x".repeat(200_000)).repeat(6) + "0\r\n\r\n";
    let lines = ["Content-Type: text/plain", "Transfer-Encoding: chunked"];
    let mut wire = mallory.polls.asks("POST", &mallory.query(), &lines, &chunk.as_bytes()[..1_000_100]).await;
    let answer = wire.response().await;
    assert_eq!(answer.head.status(), 413);
    assert_eq!(answer.head.first("connection"), Some("close"));
    mallory.is_closed().await;
    assert_eq!(events(&upstream), Vec::<String>::new());
}

/// A refusal without the code of its own record.
fn without_code(packet: &str) -> Value {
    let mut told: Value = serde_json::from_str(&packet[2..]).unwrap();
    let code = told[1].as_object_mut().unwrap().remove("appeal");
    assert!(code.is_some_and(|code| code.is_string()), "{packet}");
    told
}

#[tokio::test]
async fn s09_what_is_refused_over_websocket_is_refused_over_polling() {
    let upstream = Upstream::engine_io().await;
    let picket = Picket::guarding_socketio(&upstream)
        .patient()
        .policy(json!({ "validation": { "allowedEventTypes": ["chat:*"], "maxMessageLength": 50 } }))
        .start()
        .await;

    let long = format!(r#"42["chat:send","{}"]"#, "x".repeat(51));
    let refused = [
        r#"42["admin:drop","x"]"#,
        r#"42["CHAT:send","x"]"#,
        r#"42["chat:send",{"__proto__":{"admin":true}}]"#,
        long.as_str(),
    ];
    for packet in refused {
        let mut polling = picket.polls("198.51.100.7").connected().await;
        polling.says(packet).await;
        let told = polling.hears(r#"42["error","#).await;
        let mut websocket = SocketIo::connected(picket.socketio_caller("198.51.100.7").comes_in().await).await;
        websocket.says(packet).await;
        let told_there = websocket.hears(r#"42["error","#).await;
        assert_eq!(without_code(&told), without_code(&told_there), "{packet}");
    }
    for packet in [
        "42[]",
        r#"42["connect","x"]"#,
        r#"42/other,["chat:send"]"#,
        r#"4511-["b"]"#,
        "44{}",
        "9",
        "2probe",
        "5",
        "bAQID",
        "40",
    ] {
        let mut mallory = picket.polls("198.51.100.7").connected().await;
        mallory.says(packet).await;
        mallory.is_closed().await;
    }
    assert_eq!(events(&upstream), Vec::<String>::new());
    let mut alice = picket.polls("198.51.100.7").connected().await;
    alice.says(r#"421["chat:send","hi <script>alert(1)</script>"]"#).await;
    alice.hears("431").await;
    assert!(events(&upstream)[0].starts_with(r#"421["chat:send","hi "#), "{:?}", events(&upstream));
    assert!(!events(&upstream)[0].contains("script"), "{:?}", events(&upstream));
}

#[tokio::test]
async fn s09_a_refused_event_between_others_is_answered_and_they_arrive_in_order() {
    let upstream = Upstream::engine_io().await;
    let picket = Picket::guarding_socketio(&upstream)
        .policy(json!({ "validation": { "allowedEventTypes": ["chat:*"] } }))
        .start()
        .await;

    let mut alice = picket.polls("198.51.100.7").connected().await;
    alice.says(&joined(&[r#"42["chat:a"]"#, r#"425["admin:b"]"#, r#"426["chat:c"]"#])).await;
    assert!(alice.hears("435").await.contains("unknown_event"));
    alice.hears("436").await;
    assert_eq!(events(&upstream), [r#"42["chat:a"]"#, r#"426["chat:c"]"#]);
    alice.says(&joined(&[r#"42["admin:b"]"#; 4])).await;
    alice.is_closed().await;
}

#[tokio::test]
async fn s10_a_session_id_is_no_use_without_its_subject_on_another_route_or_guessed() {
    let upstream = Upstream::engine_io().await;
    let picket = Picket::guarding_socketio(&upstream)
        .issuer(issuer())
        .route(json!({ "path": "/socket.io/other", "upstream": upstream.http_url(), "protocol": "socketio" }))
        .start()
        .await;
    let token = |subject: &str| format!("Bearer {}", Token::of(subject).signed());

    for sid in ["upstream-sid-1", "0", "", "%00", "../x", "AAAAAAAAAAAAAAAAAAAA"] {
        is_unknown(&picket.polls("198.51.100.7").gets(&format!("EIO=4&transport=polling&sid={sid}")).await);
    }
    let alice = picket.polls("198.51.100.7").header("Authorization", &token("alice")).connected().await;
    let mallory = alice.polls.clone().without("Authorization").header("Authorization", &token("mallory"));
    alice.asked_by(mallory).is_unknown().await;
    let nobody = alice.polls.clone().without("Authorization").header("Authorization", "Bearer nonsense");
    alice.asked_by(nobody).is_unknown().await;

    // Her own newer token, from another address: she roams.
    let roaming = picket.polls("203.0.113.77").header("Authorization", &token("alice"));
    let mut alice = alice.asked_by(roaming);
    alice.says(r#"421["chat:send"]"#).await;
    alice.hears("431").await;
}

#[tokio::test]
async fn s11_overlapping_and_broken_off_requests_end_the_session_as_engine_io_does() {
    let upstream = Upstream::engine_io().await;
    let picket = Picket::guarding_socketio(&upstream).start().await;

    let alice = picket.polls("198.51.100.7").connected().await;
    let mut polls = [alice.starts_a_poll().await, alice.starts_a_poll().await];
    let answers = [polls[0].response().await, polls[1].response().await];
    // Whichever came second is refused; the first is told that it is over.
    let mut answers = answers.map(|answer| (answer.head.status(), body(&answer)));
    answers.sort();
    assert_eq!((answers[0].0, answers[0].1.as_str(), answers[1].0), (200, "1", 400), "{answers:?}");
    upstream.loses(1).await;
    alice.is_unknown().await;

    let bob = picket.polls("198.51.100.8").connected().await;
    drop(bob.starts_a_poll().await);
    upstream.loses(2).await;
    bob.is_unknown().await;

    let carol = picket.polls("198.51.100.9").connected().await;
    let lines = ["Content-Type: text/plain", "Content-Length: 100"];
    drop(carol.starts("POST", &lines, b"42[").await);
    upstream.loses(3).await;
    carol.is_unknown().await;
}

#[tokio::test]
async fn s12_the_upgrade_keeps_the_state_of_the_session() {
    let upstream = Upstream::engine_io().await;
    let picket = Picket::guarding_socketio(&upstream)
        .policy(
            json!({ "validation": { "allowedEventTypes": ["chat:*"] }, "security": { "violationsBeforeClose": 3 } }),
        )
        .start()
        .await;

    let mut alice = picket.polls("198.51.100.7").connected().await;
    alice.says(r#"421["admin:a"]"#).await;
    alice.hears("431").await;
    let mut client = alice.websocket().comes_in().await;
    let second = alice.websocket().connects().await.refused();
    assert_eq!(second.head.status(), 400, "two websockets for one session: {second:?}");
    let mut open_poll = alice.starts_a_poll().await;
    client.sends_text("2probe").await;
    client.receives_text(|packet| packet == "3probe").await;
    assert_eq!(body(&open_poll.response().await), "6");
    upstream.says(r#"42["news",1]"#);
    client.sends_text("5").await;
    client.receives_text(|packet| packet == r#"42["news",1]"#).await;
    alice.is_unknown().await;
    assert_eq!(alice.websocket().connects().await.refused().head.status(), 400);

    client.sends_text(r#"422["chat:send"]"#).await;
    client.receives_text(|packet| packet == r#"432["ok"]"#).await;
    assert_eq!(upstream.requests().len(), 1, "one connection to the upstream");
    // The first refusal was counted while it polled.
    client.sends_text(r#"42["admin:b"]"#).await;
    client.sends_text(r#"42["admin:c"]"#).await;
    client.closes_with(1008, "unknown_event").await;
    upstream.loses(1).await;
}

#[tokio::test]
async fn s12_a_probe_that_says_anything_else_is_closed_and_the_session_polls_on() {
    let upstream = Upstream::engine_io().await;
    let picket = Picket::guarding_socketio(&upstream).start().await;

    let mut alice = picket.polls("198.51.100.7").connected().await;
    for words in [&["5"][..], &[r#"42["chat:send"]"#], &["2probe", r#"42["chat:send"]"#], &["2probe", "2probe"]] {
        let mut client = eventually("a place for a probe", async || match alice.websocket().connects().await {
            Outcome::Admitted(client) => Some(client),
            Outcome::Refused(_) => None,
        })
        .await;
        for word in words {
            client.sends_text(word).await;
        }
        client.closes_with(1008, "protocol_error").await;
    }
    alice.says(r#"421["chat:send"]"#).await;
    alice.hears("431").await;
    assert_eq!(events(&upstream), [r#"421["chat:send"]"#]);
}

#[tokio::test]
async fn s17_h27_old_protocols_jsonp_compression_and_doubled_parameters_are_refused() {
    let upstream = Upstream::engine_io().await;
    let picket = Picket::guarding_socketio(&upstream).start().await;
    let polls = picket.polls("198.51.100.7");

    for query in [
        "EIO=3&transport=polling",
        "transport=polling",
        "EIO=4&transport=polling&j=0",
        "EIO=4",
        "EIO=4&transport=webtransport",
        "EIO=4&transport=websocket",
        "EIO=4&EIO=4&transport=polling",
        "EIO=4&transport=polling&transport=polling",
        "EIO=4&transport=polling&sid=a&sid=b",
        "EIO=4&transport=%70olling&transport=websocket",
    ] {
        let answer = polls.gets(query).await;
        assert_eq!(answer.head.status(), 400, "{query}");
        let body: Value = serde_json::from_slice(&answer.body).expect("Engine.IO's error");
        assert!(body["code"].is_i64() && body["message"].is_string(), "{query}: {body}");
    }
    assert_eq!(polls.posts("EIO=4&transport=polling", "40").await.head.status(), 400);
    upstream.saw_no_request();
    for line in [
        "Content-Encoding: gzip",
        "Content-Type: application/x-www-form-urlencoded",
        "Content-Type: application/octet-stream",
    ] {
        let mut mallory = polls.clone().connected().await;
        let mut wire = mallory.polls.asks("POST", &mallory.query(), &[line, "Content-Length: 1"], b"3").await;
        assert_eq!(wire.response().await.head.status(), 415, "{line}");
        mallory.is_closed().await;
    }
}

#[tokio::test]
async fn h09_what_is_no_sound_body_is_refused_and_nothing_behind_it_is_served() {
    let upstream = Upstream::engine_io().await;
    let picket = Picket::guarding_socketio(&upstream).start().await;

    for (method, lines, body) in [
        ("GET", &["Content-Length: 1"][..], "3"),
        ("GET", &["Transfer-Encoding: chunked"], "1\r\n3\r\n0\r\n\r\n"),
        ("POST", &["Content-Length: 1", "Content-Length: 2"], "33"),
        ("POST", &["Content-Length: -1"], "3"),
        ("POST", &["Content-Length: 1,1"], "3"),
        ("POST", &["Transfer-Encoding: gzip"], "3"),
        ("POST", &["Transfer-Encoding: xchunked"], "1\r\n3\r\n0\r\n\r\n"),
    ] {
        let mallory = picket.polls("198.51.100.7").connected().await;
        let smuggled = mallory.polls.head("GET", "EIO=4&transport=polling&t=smuggled", &[]);
        let mut wire =
            mallory.polls.asks(method, &mallory.query(), lines, (body.to_owned() + &smuggled).as_bytes()).await;
        let answer = wire.response().await;
        assert_eq!(answer.head.status(), 400, "{method} {lines:?}: {:?}", answer.head);
        assert!(wire.rest().await.is_empty(), "{method} {lines:?}: answered behind it");
    }
    // Of two lengths the chunks count: one request is served, and the connection ends.
    for lines in
        [["Transfer-Encoding: chunked", "Content-Length: 3"], ["Content-Length: 3", "Transfer-Encoding: chunked"]]
    {
        let alice = picket.polls("198.51.100.7").connected().await;
        let smuggled = alice.polls.head("GET", "EIO=4&transport=polling&t=smuggled", &[]);
        let body = "1\r\n3\r\n0\r\n\r\n".to_owned() + &smuggled;
        let mut wire = alice.polls.asks("POST", &alice.query(), &lines, body.as_bytes()).await;
        assert_eq!(wire.response().await.head.first("connection"), Some("close"));
        assert!(wire.rest().await.is_empty());
    }
    assert!(!upstream.requests().iter().any(|request| request.start_line.contains("smuggled")));
}

#[tokio::test]
async fn a_session_is_not_opened_by_an_upstream_that_does_not_open_it() {
    let upstream = Upstream::echo().await;
    let picket =
        Picket::guarding_socketio(&upstream).node(json!({ "limits": { "connectTimeoutMs": 300 } })).start().await;

    let mut waiting = picket.polls("198.51.100.7").asks("GET", "EIO=4&transport=polling", &[], b"").await;
    eventually("the upgrade at the upstream", async || (upstream.requests().len() == 1).then_some(())).await;
    eventually("an open connection", async || upstream.is_held().then_some(())).await;
    upstream.says("hello");
    let answer = waiting.response().await;
    assert_eq!(answer.head.status(), 502, "{}", body(&answer));
    upstream.loses(1).await;
}

#[tokio::test]
async fn s15_s16_a_session_that_does_not_connect_or_does_not_poll_is_forgotten() {
    let upstream = Upstream::engine_io().await;
    let limits =
        json!({ "connectTimeoutMs": 1500, "pingIntervalMs": 600, "pongTimeoutMs": 600, "pollingSessionsMax": 2 });
    let picket = Picket::guarding_socketio(&upstream).node(json!({ "limits": limits })).start().await;

    let silent = picket.polls("198.51.100.7").open().await;
    let gone = picket.polls("198.51.100.8").connected().await;
    let refused = picket.polls("198.51.100.9").gets("EIO=4&transport=polling").await;
    assert_eq!((refused.head.status(), refused.head.first("retry-after")), (503, Some("10")));
    upstream.loses(2).await;
    for poller in [&silent, &gone] {
        eventually("its end", async || (poller.posts("3").await.head.status() == 400).then_some(())).await;
    }
    // Whoever polls is answered in time, and lives.
    let mut dave = picket.polls("198.51.100.10").opens_eventually().await;
    dave.says("40").await;
    for _ in 0..3 {
        assert_eq!(dave.hears("6").await, "6");
    }
}

#[tokio::test]
async fn a_block_ends_a_polling_session_at_once() {
    let upstream = Upstream::engine_io().await;
    let picket = Picket::guarding_socketio(&upstream).start().await;

    let mallory = picket.polls("198.51.100.7").connected().await;
    let mut open_poll = mallory.starts_a_poll().await;
    picket.admin().blocks("198.51.100.7").await;

    assert_eq!(body(&open_poll.response().await), "1");
    upstream.loses(1).await;
    assert_eq!(mallory.polls().await.head.status(), 403);
    assert_eq!(mallory.posts("3").await.head.status(), 403);
    assert_eq!(picket.polls("198.51.100.7").gets("EIO=4&transport=polling").await.head.status(), 403);
}

#[tokio::test]
async fn a_drain_ends_polling_sessions() {
    let upstream = Upstream::engine_io().await;
    let mut picket = Picket::guarding_socketio(&upstream).start().await;

    let alice = picket.polls("198.51.100.7").connected().await;
    let mut open_poll = alice.starts_a_poll().await;
    picket.terminates();
    assert_eq!(body(&open_poll.response().await), "1");
    upstream.loses(1).await;
    assert_eq!(picket.exit_code().await, Some(0));
}

#[tokio::test]
async fn a_client_that_says_it_leaves_is_gone_at_once_over_either_transport() {
    let upstream = Upstream::engine_io().await;
    let picket = Picket::guarding_socketio(&upstream).start().await;

    let alice = picket.polls("198.51.100.7").connected().await;
    let mut open_poll = alice.starts_a_poll().await;
    assert_eq!(body(&alice.posts("1").await), "ok");
    assert_eq!(body(&open_poll.response().await), "1");
    upstream.loses(1).await;
    alice.is_unknown().await;

    let mut bob = SocketIo::connected(picket.socketio_caller("198.51.100.8").comes_in().await).await;
    bob.says("1").await;
    bob.client.closes().await;
    upstream.loses(2).await;
    assert!(!upstream.texts().contains(&"1".to_owned()), "over WebSocket, Engine.IO does not listen to it");
}

#[tokio::test]
async fn an_expired_token_ends_a_polling_session() {
    let upstream = Upstream::engine_io().await;
    let picket = Picket::guarding_socketio(&upstream).issuer(issuer()).start().await;

    // Clocks may differ by a minute: it ends that long after its time.
    let token = Token::of("alice").with("exp", seconds_from_now(-56)).signed();
    let alice = picket.polls("198.51.100.7").connected_with(&format!(r#"40{{"token":"{token}"}}"#)).await;
    let mut open_poll = alice.starts_a_poll().await;
    assert_eq!(body(&open_poll.response().await), "1");
    upstream.loses(1).await;
}

#[tokio::test]
async fn a_page_may_read_the_answers_if_its_origin_may_connect() {
    let upstream = Upstream::engine_io().await;
    let picket = Picket::guarding_socketio(&upstream).start().await;
    let polls = picket.polls("198.51.100.7");

    let alice = polls.clone().open().await;
    let head = alice.handshake.as_ref().unwrap();
    assert_eq!(head.all("access-control-allow-origin"), [HOME]);
    assert_eq!(head.all("access-control-allow-credentials"), ["true"]);
    assert_eq!(head.all("vary"), ["Origin"]);
    let lines = ["Access-Control-Request-Method: POST", "Access-Control-Request-Headers: content-type"];
    let preflight = polls.asks("OPTIONS", "EIO=4&transport=polling", &lines, b"").await.response().await;
    assert_eq!(preflight.head.status(), 204);
    assert_eq!(preflight.head.first("access-control-allow-methods"), Some("GET, POST"));
    assert_eq!(preflight.head.first("access-control-allow-headers"), Some("Authorization, Content-Type"));
    assert_eq!(preflight.head.first("access-control-allow-origin"), Some(HOME));

    let foreign = polls.clone().origin("https://evil.example");
    for answer in [
        foreign.gets("EIO=4&transport=polling").await,
        foreign.asks("OPTIONS", "EIO=4&transport=polling", &lines, b"").await.response().await,
        foreign.gets(&alice.query()).await,
        foreign.posts(&alice.query(), "40").await,
    ] {
        assert_eq!(answer.head.status(), 403, "{:?}", answer.head);
        assert_eq!(answer.head.first("access-control-allow-origin"), None, "{:?}", answer.head);
    }
    upstream.saw_no_message();
    // Some clients say it only when they come in.
    assert_eq!(polls.clone().without_origin().posts(&alice.query(), "40").await.head.status(), 200);
    // A page's GET to its own site has no Origin; its browser vouches for that.
    let own = polls.without_origin();
    assert_eq!(own.gets("EIO=4&transport=polling").await.head.status(), 403, "nobody says where it comes from");
    let same_site = own.header("Sec-Fetch-Site", "same-origin").header("X-Forwarded-Proto", "https");
    let same_site = same_site.header("X-Forwarded-Host", "app.example.com");
    assert_eq!(same_site.clone().gets("EIO=4&transport=polling").await.head.status(), 200);
    let elsewhere = same_site.without("X-Forwarded-Host").header("X-Forwarded-Host", "evil.example");
    assert_eq!(elsewhere.gets("EIO=4&transport=polling").await.head.status(), 403);
}

#[tokio::test]
async fn x28_a_client_that_does_not_poll_stops_the_upstream_from_being_read() {
    let upstream = Upstream::engine_io().await;
    let limits = json!({ "writeTimeoutMs": 1500 });
    let picket = Picket::guarding_socketio(&upstream).node(json!({ "limits": limits })).start().await;

    let slow = picket.polls("198.51.100.7").connected().await;
    upstream.floods();
    upstream.loses(1).await;
    let flooded = upstream.flooded_bytes();
    assert!(flooded < 32 * 1024 * 1024, "{flooded} bytes were taken from the upstream");
    picket.admin().audited("text=slow", 1).await;
    drop(slow);
}

#[tokio::test]
async fn other_http_under_the_route_does_not_reach_the_upstream() {
    let upstream = Upstream::engine_io().await;
    let picket = Picket::guarding_socketio(&upstream).start().await;

    for target in ["GET /socket.io/socket.io.js", "GET /socket.io/", "PUT /socket.io/?EIO=4&transport=polling"] {
        let mut wire = Wire::to(picket.gateway()).await;
        let head = format!("{target} HTTP/1.1\r\nHost: {}\r\nOrigin: {HOME}\r\n\r\n", picket.gateway());
        wire.writes(head).await;
        let answer = wire.response().await;
        let body: Value = serde_json::from_slice(&answer.body).expect("Engine.IO's error");
        assert!(answer.head.status() == 400 && body["code"].is_i64(), "{target}: {body}");
    }
    upstream.saw_no_request();
}

#[tokio::test]
async fn the_upstreams_heartbeat_is_the_clients_to_answer() {
    let upstream = Upstream::engine_io().await;
    let picket = Picket::guarding_socketio(&upstream).start().await;

    let mut alice = picket.polls("198.51.100.7").connected().await;
    upstream.says("2");
    alice.hears("2").await;
    assert!(!upstream.texts().contains(&"3".to_owned()), "the node does not speak for the client");
    alice.says("3").await;
    upstream.receives_text("3").await;
}

#[tokio::test]
async fn polling_can_be_turned_off() {
    let upstream = Upstream::engine_io().await;
    let route = json!({ "path": "/socket.io/", "upstream": upstream.http_url(), "protocol": "socketio", "transports": ["websocket"] });
    let picket = Picket::builder().route(route).start().await;

    let answer = picket.polls("198.51.100.7").gets("EIO=4&transport=polling").await;
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((answer.head.status(), &body["message"]), (400, &json!("Transport unknown")));
    SocketIo::connected(picket.socketio_caller("198.51.100.7").comes_in().await).await;
}
