//! Rules over what somebody does on all sockets.

use serde_json::{Value, json};

use crate::harness::{Picket, Token, Upstream, issuer};

#[tokio::test]
async fn somebody_who_looks_into_too_many_rooms_over_several_sockets_is_noticed_and_blocked() {
    let upstream = Upstream::echo().await;
    let rule = json!({
        "name": "many-rooms",
        "when": { "event": "room:join", "distinct": "/room", "over": 5, "per": "address", "windowMs": 60_000 },
        "then": "block",
    });
    let security = json!({ "behaviour": [rule], "blockSuspiciousIps": true, "suspiciousActivityThreshold": 3 });
    let picket = Picket::guarding(&upstream).policy(json!({ "security": security })).start().await;
    let mut honest = picket.caller("203.0.113.7").comes_in().await;
    let mut sockets = Vec::new();
    for _ in 0..2 {
        sockets.push(picket.caller("203.0.113.66").comes_in().await);
    }
    for room in 0..6 {
        let event = json!({ "type": "room:join", "room": format!("room-{room}") });
        sockets[room % 2].sends(event.clone()).await;
        honest.sends(json!({ "type": "room:join", "room": "the same" })).await;
        if room < 5 {
            sockets[room % 2].receives(event).await;
        }
    }
    for socket in &mut sockets {
        socket.closes_with(1008, "address_blocked").await;
    }
    let records = picket.admin().audited("text=many-rooms", 1).await;
    assert_eq!((&records[0]["reason"], &records[0]["metadata"]["limit"]), (&json!("behaviour"), &json!(5)));
    honest.is_still_served().await;
}

#[tokio::test]
async fn one_session_that_is_seen_from_two_places_is_noticed_and_its_token_is_nowhere() {
    let upstream = Upstream::echo().await;
    let rule = json!({
        "name": "one-session-two-places",
        "when": { "record": "AUTHENTICATION_SUCCESS", "distinct": "ip", "over": 1, "per": "session", "windowMs": 600_000 },
    });
    let picket = Picket::guarding(&upstream)
        .issuer(issuer())
        .policy(json!({ "security": { "behaviour": [rule] } }))
        .start()
        .await;
    let (stolen, other) = (Token::of("alice").with("jti", "of-alice").signed(), Token::of("alice").signed());
    let mut alice = picket.caller("2001:db8::7").bearing(&stolen).comes_in().await;
    let mut again = picket.caller("2001:db8::8").bearing(&stolen).comes_in().await;
    let mut phone = picket.caller("203.0.113.7").bearing(&other).comes_in().await;
    let mut thief = picket.caller("198.51.100.66").bearing(&stolen).comes_in().await;

    let noticed = picket.admin().audited("text=one-session-two-places", 1).await;
    let record = &noticed[0];
    assert_eq!((&record["reason"], &record["ip"]), (&json!("behaviour"), &json!("198.51.100.66")), "{noticed:?}");
    let came_in = picket.admin().audited("eventType=AUTHENTICATION_SUCCESS", 4).await;
    let of_session = |id: &Value| came_in.iter().filter(|record| record["metadata"]["session"] == *id).count();
    assert_eq!((of_session(&record["metadata"]["session"]), noticed.len()), (3, 1), "{came_in:?}");
    let trail = picket.admin().get("/audit-logs/export").await.text;
    for secret in ["of-alice", &stolen, &other] {
        assert!(!trail.contains(secret), "{secret} is in {trail}");
    }
    for caller in [&mut alice, &mut again, &mut phone, &mut thief] {
        caller.is_still_served().await;
    }
}
