//! Frames that no honest client sends, readers that do not read, and connections that fell silent.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Frame, HostileUpstream, Picket, Upstream, Wire, legal_close_codes};

const EVENT: &str = r#"{"type":"chat:say","text":"smuggled"}"#;

/// Each row over a connection of its own: these frames end it with this code, and the upstream hears of none of them.
async fn each_is_closed(code: u16, rows: Vec<(&str, Vec<Frame>)>) {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).start().await;
    for (index, (row, frames)) in rows.into_iter().enumerate() {
        let mut wire = picket.wire(&format!("198.51.100.{index}")).await;
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::bytes).collect();
        wire.writes(bytes).await;
        let (found, reason) = wire.closes().await;
        assert_eq!(found, code, "{row}: {reason:?}");
        upstream.loses(index + 1).await;
        assert!(upstream.seen().is_empty(), "{row} reached the upstream: {:?}", upstream.seen());
    }
    picket.caller("203.0.113.1").comes_in().await.is_still_served().await;
}

#[tokio::test]
async fn f01_an_unmasked_frame_is_1002_and_the_upstream_sees_nothing() {
    each_is_closed(
        1002,
        vec![("text", vec![Frame::text(EVENT).unmasked()]), ("ping", vec![Frame::of(Frame::PING, "").unmasked()])],
    )
    .await;
}

#[tokio::test]
async fn f02_reserved_bits_and_opcodes_are_1002() {
    let mut rows: Vec<(&str, Vec<Frame>)> = [0x40, 0x20, 0x10, 0x70]
        .into_iter()
        .map(|bits| ("a reserved bit", vec![Frame::text(EVENT).reserving(bits)]))
        .collect();
    rows.extend(
        [0x3, 0x4, 0x5, 0x6, 0x7, 0xb, 0xc, 0xd, 0xe, 0xf]
            .into_iter()
            .map(|opcode| ("a reserved opcode", vec![Frame::of(opcode, "")])),
    );
    each_is_closed(1002, rows).await;
}

#[tokio::test]
async fn f03_a_fragmented_or_oversize_control_frame_is_1002() {
    each_is_closed(
        1002,
        vec![
            ("a fragmented ping", vec![Frame::of(Frame::PING, "half").unfinished()]),
            ("a fragmented close", vec![Frame::closing(1000, "").unfinished()]),
            ("a ping of 126 bytes", vec![Frame::of(Frame::PING, [b'x'; 126])]),
            ("a close of 126 bytes", vec![Frame::closing(1000, [b'x'; 124])]),
            ("a ping that declares 64 KiB", vec![Frame::of(Frame::PING, "").declaring(65_536)]),
        ],
    )
    .await;
}

#[tokio::test]
async fn f04_fragments_out_of_order_are_1002() {
    each_is_closed(
        1002,
        vec![
            ("a continuation of nothing", vec![Frame::of(Frame::CONTINUATION, EVENT)]),
            ("an unfinished continuation of nothing", vec![Frame::of(Frame::CONTINUATION, EVENT).unfinished()]),
            ("a text inside a text", vec![Frame::text(r#"{"type":"#).unfinished(), Frame::text(EVENT)]),
            ("a binary inside a text", vec![Frame::text(r#"{"type":"#).unfinished(), Frame::of(Frame::BINARY, EVENT)]),
        ],
    )
    .await;
}

#[tokio::test]
async fn f05_bad_utf8_is_1007_wherever_it_stands() {
    each_is_closed(
        1007,
        vec![
            ("a lone continuation byte", vec![Frame::text(b"{\"type\":\"a\x80\"}")]),
            ("an overlong slash", vec![Frame::text(b"{\"type\":\"a\xc0\xaf\"}")]),
            ("an encoded surrogate", vec![Frame::text(b"{\"type\":\"a\xed\xa0\x80\"}")]),
            ("beyond Unicode", vec![Frame::text(b"{\"type\":\"a\xf4\x90\x80\x80\"}")]),
            ("cut short", vec![Frame::text(b"{\"type\":\"\xf0\x9f\x98")]),
            (
                "broken across fragments",
                vec![Frame::text(b"{\"type\":\"\xe2\x82").unfinished(), Frame::of(Frame::CONTINUATION, b"\x22}")],
            ),
            ("in a close reason", vec![Frame::closing(1000, b"bye \xff")]),
        ],
    )
    .await;
}

#[tokio::test]
async fn f05_a_character_split_across_fragments_is_whole_again() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).start().await;
    let text = r#"{"type":"chat:say","text":"a euro: €, a face: 😀"}"#;

    let mut wire = picket.wire("198.51.100.7").await;
    let bytes = text.as_bytes();
    let cut = text.find('€').unwrap() + 1;
    wire.sends(Frame::text(&bytes[..cut]).unfinished()).await;
    wire.sends(Frame::of(Frame::PING, "between fragments")).await;
    wire.sends(Frame::of(Frame::CONTINUATION, &bytes[cut..])).await;

    upstream.receives_text(text).await;
}

#[tokio::test]
async fn f06_an_illegal_close_is_1002_and_the_upstream_is_told_a_legal_code() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).start().await;
    let mut rows: Vec<_> = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535]
        .into_iter()
        .map(|code| Frame::closing(code, ""))
        .collect();
    rows.push(Frame::of(Frame::CLOSE, [3]));

    let count = rows.len();
    for (index, frame) in rows.into_iter().enumerate() {
        let row = format!("{:?}", frame.payload);
        let mut wire = picket.wire(&format!("198.51.100.{index}")).await;
        wire.sends(frame).await;
        let (found, reason) = wire.closes().await;
        assert_eq!(found, 1002, "a close body {row}: {reason:?}");
    }
    for code in upstream.loses(count).await {
        assert!(code.is_none_or(|code| code == 1005 || legal_close_codes(code)), "the upstream was told {code:?}");
    }
}

#[tokio::test]
async fn a_close_travels_with_its_code_in_both_directions() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).start().await;

    let mut alice = picket.caller("198.51.100.7").comes_in().await;
    alice.is_still_served().await;
    upstream.closes(4000, "game over");
    alice.closes_with(4000, "game over").await;

    let mut bob = picket.caller("198.51.100.8").comes_in().await;
    bob.leaves_with(4001, "i am off").await;
    let ends = upstream.loses(2).await;
    assert!(ends.contains(&Some(4001)), "{ends:?}");
}

#[tokio::test]
async fn f07_a_declared_length_past_the_bound_is_1009_from_the_header_alone() {
    let lengths = [(1 << 20) + 1, 1 << 32, (1 << 63) - 1];
    each_is_closed(
        1009,
        lengths.into_iter().map(|length| ("a declared length", vec![Frame::text("{").declaring(length)])).collect(),
    )
    .await;
}

#[tokio::test]
async fn f08_a_message_that_grows_too_big_by_fragments_is_1009_before_it_ends() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).policy(json!({ "validation": { "maxPayloadSize": 4096 } })).start().await;

    let mut wire = picket.wire("198.51.100.7").await;
    wire.sends(Frame::text([b' '; 1024]).unfinished()).await;
    for _ in 0..4 {
        wire.sends(Frame::of(Frame::CONTINUATION, [b' '; 1024]).unfinished()).await;
    }

    assert_eq!(wire.closes_with(1009).await, "payload_too_large");
    upstream.loses(1).await;
    upstream.saw_no_message();
}

/// Fragments without end over connections of their own; each ends at the same fragment, and memory does not grow with them.
async fn a_fragment_flood_is_1008(payload: &[u8]) {
    const ATTACKERS: usize = 16;
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).start().await;
    picket.caller("203.0.113.1").comes_in().await.is_still_served().await;
    let fragment = Frame::of(Frame::CONTINUATION, payload).unfinished().bytes();

    let before = picket.resident_bytes();
    let mut attackers = Vec::new();
    for index in 0..ATTACKERS {
        let mut wire = picket.wire(&format!("198.51.100.{index}")).await;
        wire.sends(Frame::text(payload).unfinished()).await;
        wire.writes(fragment.repeat(1023)).await;
        wire.sends(Frame::of(Frame::PING, "1024 fragments")).await;
        assert_eq!(wire.frame().await.expect("a pong").payload, b"1024 fragments", "1,024 fragments are allowed");
        attackers.push(wire);
    }
    let grown = picket.resident_bytes().saturating_sub(before);
    eprintln!("{ATTACKERS} messages of 1,024 fragments of {} bytes: {grown} bytes more", payload.len());
    assert!(grown < 8 << 20, "grew by {grown} bytes");

    for mut wire in attackers {
        wire.writes(&fragment).await;
        assert_eq!(wire.closes_with(1008).await, "flood");
    }
    upstream.loses(ATTACKERS).await;
    assert_eq!(upstream.seen().len(), 1, "{:?}", upstream.seen());
    picket.admin().audited("text=flood&eventType=SUSPICIOUS_ACTIVITY", ATTACKERS).await;
}

#[tokio::test]
async fn f09_a_flood_of_tiny_fragments_is_1008_at_the_1025th() {
    a_fragment_flood_is_1008(b" ").await;
}

#[tokio::test]
async fn f10_a_flood_of_empty_fragments_is_1008_at_the_1025th() {
    a_fragment_flood_is_1008(b"").await;
}

#[tokio::test]
async fn f11_an_unfinished_message_is_not_held_whatever_comes_beside_it() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).node(json!({ "limits": { "messageTimeoutMs": 400 } })).start().await;

    let mut held = picket.wire("198.51.100.7").await;
    held.sends(Frame::text(r#"{"type":"#).unfinished()).await;
    held.sends(Frame::of(Frame::PING, "i am alive")).await;
    assert_eq!(held.frame().await.expect("a pong").payload, b"i am alive");
    assert_eq!(held.closes_with(1008).await, "slow");

    upstream.loses(1).await;
    upstream.saw_no_message();
}

#[tokio::test]
async fn f13_a_frame_that_drips_is_closed_however_steadily() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).node(json!({ "limits": { "messageTimeoutMs": 500 } })).start().await;

    let mut slow = picket.wire("198.51.100.7").await;
    let frame = Frame::text(vec![b' '; 60_000]).bytes();
    let mut bytes = frame.chunks(1);
    while tokio::time::timeout(Duration::from_millis(20), slow.stream.readable()).await.is_err() {
        slow.writes(bytes.next().expect("an end before the frame's own")).await;
    }
    assert_eq!(slow.closes_with(1008).await, "slow");

    upstream.loses(1).await;
    upstream.saw_no_message();
}

#[tokio::test]
async fn f12_more_than_ten_control_frames_a_second_for_five_seconds_are_1008() {
    const PONG: u8 = 0xa;
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).start().await;

    for (index, opcode) in [Frame::PING, PONG].into_iter().enumerate() {
        let mut wire = picket.wire(&format!("198.51.100.{index}")).await;
        let flood = |range: std::ops::Range<usize>| {
            range.flat_map(|number| Frame::of(opcode, number.to_string()).bytes()).collect::<Vec<u8>>()
        };
        wire.writes(flood(0..50)).await;
        wire.sends(Frame::text(EVENT)).await;
        let mut pongs = 0;
        while let Some(frame) = wire.frame().await {
            if frame.opcode() == Frame::TEXT {
                break;
            }
            pongs += 1;
        }
        // Each is answered, once, as conformance suites ask; all of a burst go out in one write.
        assert_eq!(pongs, if opcode == Frame::PING { 50 } else { 0 });
        wire.writes(flood(50..51)).await;
        assert_eq!(wire.closes_with(1008).await, "flood");
    }
    upstream.loses(2).await;
    assert_eq!(upstream.texts(), [EVENT, EVENT]);
}

#[tokio::test]
async fn f16_hostile_frames_of_an_upstream_are_1014_and_end_nothing_else() {
    const ANSWER: &str =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ";
    let of = |frame: Frame| frame.unmasked().bytes();
    for (fault, frames) in [
        ("a masked frame", Frame::text("{}").bytes()),
        ("a reserved bit", of(Frame::text("{}").reserving(0x40))),
        ("a reserved opcode", of(Frame::of(0x3, ""))),
        ("a fragmented ping", of(Frame::of(Frame::PING, "x").unfinished())),
        ("a ping of 126 bytes", of(Frame::of(Frame::PING, [b'x'; 126]))),
        ("a continuation of nothing", of(Frame::of(Frame::CONTINUATION, "x"))),
        ("bad UTF-8", of(Frame::text(b"\xff"))),
        ("an illegal close code", of(Frame::closing(1005, ""))),
        ("a close of one byte", of(Frame::of(Frame::CLOSE, [3]))),
        ("more than the bound", of(Frame::text("{").declaring((16 << 20) + 1))),
        ("2^63 bytes", of(Frame::text("{").declaring(1 << 63))),
        ("no frames at all", format!("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{:100}", "").into_bytes()),
    ] {
        let upstream = HostileUpstream::answering(move |accept| {
            [ANSWER.as_bytes(), accept.as_bytes(), b"\r\n\r\n", &frames].concat()
        })
        .await;
        let picket = Picket::guarding_hostile(&upstream).start().await;
        let before = picket.resident_bytes();
        let mut alice = picket.wire("198.51.100.7").await;
        let (code, reason) = alice.closes().await;
        assert_eq!((code, reason.as_str()), (1014, "upstream_protocol"), "{fault}");
        let grown = picket.resident_bytes().saturating_sub(before);
        assert!(grown < 16 << 20, "{fault}: grew by {grown} bytes");
        assert_eq!(picket.metric("picket_panics_total").await, 0.0, "{fault}");
        assert_eq!(picket.ops("/livez").await.status, 200, "{fault}");
    }
}

#[tokio::test]
async fn f17_http_after_the_upgrade_is_1002_and_never_a_request() {
    let http = |method: &str| format!("{method} /admin HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes();
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).start().await;
    let rows = [http("GET"), http("POST"), http("HEAD"), http("PUT"), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()];
    for (index, bytes) in rows.into_iter().enumerate() {
        let mut wire = picket.wire(&format!("198.51.100.{index}")).await;
        wire.writes(&bytes).await;
        wire.closes_with(1002).await;
        upstream.loses(index + 1).await;
    }
    assert_eq!(upstream.requests().len(), 5, "{:?}", upstream.requests());
    assert!(
        upstream.requests().iter().all(|head| head.start_line.starts_with("GET /ws ")),
        "{:?}",
        upstream.requests()
    );
    upstream.saw_no_message();
}

#[tokio::test]
async fn f14_a_reader_that_never_reads_holds_the_upstream_back_and_is_let_go() {
    let upstream = Upstream::echo().await;
    let limits = json!({ "limits": { "writeTimeoutMs": 400 } });
    let picket = Picket::guarding(&upstream).node(limits).start().await;

    let mut sloth = Wire::narrow(picket.gateway()).await.upgraded("/ws", "198.51.100.7", picket.gateway()).await;
    upstream.floods();

    upstream.loses(1).await;
    // Two hops of kernel buffers and Picket's queue; a gateway that queued without a bound would have taken all of it.
    let taken = upstream.flooded_bytes();
    assert!(taken < 32 * 1024 * 1024, "{taken} bytes were taken for a client that reads nothing");
    picket.admin().counts("no open connection", |metrics| metrics["activeConnections"] == 0).await;
    sloth.rest().await;
    picket.caller("198.51.100.8").comes_in().await.is_still_served().await;
}

#[tokio::test]
async fn f15_a_peer_that_does_not_answer_pings_is_let_go() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream)
        .node(json!({ "limits": { "pingIntervalMs": 150, "pongTimeoutMs": 250 } }))
        .start()
        .await;

    let mut silent = picket.wire("198.51.100.7").await;
    assert_eq!(silent.closes_with(1008).await, "idle");

    upstream.loses(1).await;
    picket.admin().counts("no open connection", |metrics| metrics["activeConnections"] == 0).await;
}

#[tokio::test]
async fn f15_a_quiet_peer_that_answers_pings_stays() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream)
        .node(json!({ "limits": { "pingIntervalMs": 100, "pongTimeoutMs": 1000 } }))
        .start()
        .await;

    let mut quiet = picket.caller("198.51.100.7").comes_in().await;
    for _ in 0..12 {
        quiet.is_pinged().await;
    }
    quiet.is_still_served().await;
}

#[tokio::test]
async fn x27_an_upstream_that_dies_closes_its_clients_with_1014_within_a_second_and_frees_their_places() {
    let upstream = Upstream::echo().await;
    let limit = json!({ "rateLimiting": { "concurrentConnections": { "perAddress": 1, "perUser": 20 } } });
    let picket = Picket::guarding(&upstream).policy(limit).start().await;
    // Raw, as the library of the other clients does not know 1014.
    let mut alice = picket.wire("198.51.100.7").await;
    let mut bob = picket.wire("198.51.100.8").await;
    picket.admin().counts("two open connections", |metrics| metrics["activeConnections"] == 2).await;

    upstream.dies();
    let died = std::time::Instant::now();
    let closed =
        tokio::time::timeout(std::time::Duration::from_secs(1), async { (alice.closes().await, bob.closes().await) })
            .await;
    let ((first, reason), (second, _)) = closed.expect("both are closed within a second");
    assert_eq!((first, second), (1014, 1014), "{reason:?}");
    eprintln!("x27: both sockets closed with 1014 {:?} after the upstream died", died.elapsed());

    picket.caller("198.51.100.7").comes_in_eventually().await;
    eprintln!("x27: the place was free {:?} after it", died.elapsed());
}
