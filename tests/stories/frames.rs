//! Frames that no honest client sends, readers that do not read, and connections that fell silent.

use serde_json::json;

use crate::harness::{Frame, Picket, Upstream, Wire, legal_close_codes};

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
