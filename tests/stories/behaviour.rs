//! Rules over what somebody does on all sockets.

use serde_json::json;

use crate::harness::{Picket, Upstream};

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
