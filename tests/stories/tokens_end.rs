//! Tokens end while their sockets are open: by their own time, or because an administrator revoked them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::harness::{
    Application, Cluster, Form, Picket, Redis, SocketIo, Token, Upstream, eventually, issuer, seconds_from_now, within,
};

/// `exp` that is over, of a token that is believed for five to six more seconds.
fn soon_over() -> i64 {
    seconds_from_now(-54)
}

#[tokio::test]
async fn j11_a_socket_ends_with_its_token_on_every_transport_and_in_every_namespace() {
    let (plain, socketio) = (Upstream::echo().await, Upstream::engine_io().await);
    let route = json!({ "path": "/socket.io/", "upstream": socketio.http_url(), "protocol": "socketio" });
    let picket = Picket::guarding(&plain).route(route).issuer(issuer()).start().await;
    let expires = soon_over();
    let token = Token::of("alice").with("exp", expires).signed();
    let connect = format!("40{{\"token\":\"{token}\"}}");

    let mut on_json = picket.caller("198.51.100.7").bearing(&token).comes_in().await;
    let client = picket.socketio_caller("198.51.100.7").comes_in().await;
    let mut on_socketio = SocketIo::connected_with(client, &connect).await;
    let mut polling = picket.polls("198.51.100.7").connected_with(&connect).await;
    let anonymous = picket.socketio_caller("198.51.100.8").comes_in().await;
    let mut in_a_namespace = SocketIo::connected(anonymous).await;
    in_a_namespace.says(&format!("40/private,{{\"token\":\"{token}\"}}")).await;
    in_a_namespace.hears("40/private,").await;

    on_json.closes_with(3000, "token_expired").await;
    on_socketio.client.closes_with(3000, "token_expired").await;
    in_a_namespace.client.closes_with(3000, "token_expired").await;
    within("the end of the polling session", polling.is_closed()).await;

    let late = seconds_from_now(0) - (expires + 60);
    assert!((0..=1).contains(&late), "ended {late} s after exp and leeway");
    picket.caller("198.51.100.7").bearing(&token).connects().await.refused_with(401, "token_expired");
}

#[tokio::test]
async fn j11_revoked_tokens_die_on_every_node_within_a_second_and_a_new_login_lives() {
    let redis = Redis::start().await;
    let cluster = Cluster::of(3).on(&redis).start().await;
    let old = |user: &str, jti: &str| Token::of(user).with("iat", seconds_from_now(-60)).with("jti", jti).signed();
    let (of_alice, of_bob) = (old("alice", "a1"), old("bob", "b1"));
    let (mut alice, mut bob) = (Vec::new(), Vec::new());
    for node in cluster.nodes() {
        alice.push(node.caller("198.51.100.7").bearing(&of_alice).comes_in().await);
        bob.push(node.caller("198.51.100.8").bearing(&of_bob).comes_in().await);
    }

    let start = Instant::now();
    let done = cluster.admin().post("/revoke", json!({ "userId": "alice" })).await.data();
    for socket in &mut alice {
        socket.closes_with(3000, "token_revoked").await;
    }
    let took = start.elapsed();
    eprintln!("j11: three nodes cut a user's sockets {took:?} after the revocation");
    assert!(took <= Duration::from_secs(1), "{took:?}");
    assert_eq!((&done["by"], &done["userId"]), (&json!("warden"), &json!("alice")), "{done}");
    for node in cluster.nodes() {
        node.caller("198.51.100.7").bearing(&of_alice).connects().await.refused_with(401, "token_revoked");
    }
    let admin = cluster.admin();
    let refused = admin.audited("userId=alice&text=token_revoked", 6).await;
    assert!(refused.iter().all(|record| !record["metadata"]["detail"].to_string().contains("alice")), "{refused:?}");
    let fresh = Token::of("alice").with("iat", seconds_from_now(1)).signed();
    cluster.node(0).caller("198.51.100.7").bearing(&fresh).comes_in().await.is_still_served().await;

    cluster.admin().post("/revoke", json!({ "jti": "b1" })).await.succeeds();
    for socket in &mut bob {
        socket.closes_with(3000, "token_revoked").await;
    }
    cluster.node(2).caller("198.51.100.8").bearing(&old("bob", "b2")).comes_in().await.is_still_served().await;

    let record = admin.audited("eventType=ADMIN_ACTION&text=revoked", 2).await.remove(1);
    assert_eq!((&record["metadata"]["actor"], &record["metadata"]["revokedUser"]), (&json!("warden"), &json!("alice")));
    admin.audited("userId=alice&eventType=AUTHENTICATION_SUCCESS", 4).await;
    admin.audited("userId=bob&text=token_revoked", 3).await;
    let erased = admin.erases("alice").await;
    let left = admin.get("/audit-logs/export").await.text;
    assert!(!left.contains("alice") && left.contains(erased["subject"].as_str().unwrap()), "{left}");
}

#[tokio::test]
async fn j11_a_time_ends_a_users_older_tokens_or_everybodys_on_every_node_within_a_second() {
    let redis = Redis::start().await;
    let cluster = Cluster::of(2).on(&redis).start().await;
    let admin = cluster.admin();
    let issued = |user: &str, ago: i64| Token::of(user).with("iat", seconds_from_now(-ago)).signed();
    let in_on_both = async |user: &str, ago: i64| {
        let mut sockets = Vec::new();
        for node in cluster.nodes() {
            sockets.push(node.caller("198.51.100.7").bearing(&issued(user, ago)).comes_in().await);
        }
        sockets
    };
    let between = OffsetDateTime::from_unix_timestamp(seconds_from_now(-1800)).unwrap().format(&Rfc3339).unwrap();
    let mut old_of_alice = in_on_both("alice", 3600).await;
    let mut new_of_alice = in_on_both("alice", 60).await;
    let mut old_of_bob = in_on_both("bob", 3600).await;
    let mut new_of_bob = in_on_both("bob", 60).await;

    for (body, ended) in [
        (json!({ "userId": "alice", "issuedBefore": between }), &mut old_of_alice),
        (json!({ "issuedBefore": between, "force": true }), &mut old_of_bob),
    ] {
        let start = Instant::now();
        admin.post("/revoke", body.clone()).await.succeeds();
        for socket in ended {
            socket.closes_with(3000, "token_revoked").await;
        }
        let took = start.elapsed();
        eprintln!("j11: two nodes cut the sockets of {body} in {took:?}");
        assert!(took <= Duration::from_secs(1), "{took:?}");
        for socket in new_of_alice.iter_mut().chain(&mut new_of_bob) {
            socket.is_still_served().await;
        }
    }
    for node in cluster.nodes() {
        for user in ["alice", "bob"] {
            let caller = || node.caller("198.51.100.7");
            caller().bearing(&issued(user, 3600)).connects().await.refused_with(401, "token_revoked");
            caller().bearing(&issued(user, 60)).comes_in().await;
        }
        // Who brings none has none that could end.
        node.caller("198.51.100.8").comes_in().await.is_still_served().await;
    }
}

#[tokio::test]
async fn j11_a_revocation_outlives_an_emptied_redis_and_a_node_that_starts_later() {
    let redis = Redis::start().await;
    let cluster = Cluster::of(1).on(&redis).start().await;
    let token = Token::of("alice").with("iat", seconds_from_now(-60)).signed();
    cluster.admin().post("/revoke", json!({ "userId": "alice" })).await.succeeds();
    eventually("the revocation at the node", async || {
        (cluster.node(0).caller("198.51.100.7").bearing(&token).connects().await.is_refusal()).then_some(())
    })
    .await;

    redis.does(&["FLUSHALL"]).await;
    cluster.node(0).caller("198.51.100.7").bearing(&token).connects().await.refused_with(401, "token_revoked");
    eventually("the list in redis again", async || {
        (redis.does(&["EXISTS", "picket:{revocations}:list"]).await.number() == 1).then_some(())
    })
    .await;
    let later = cluster.another_node("edge-9").start().await;
    later.caller("198.51.100.7").bearing(&token).connects().await.refused_with(401, "token_revoked");
}

#[tokio::test]
async fn j11_the_check_api_knows_revoked_tokens_too() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).issuer(issuer()).checking().start().await;
    let application: Application = picket.application().speaking(Form::Json);
    let token = Token::of("alice").with("iat", seconds_from_now(-60)).signed();
    let allowed = json!({ "allowed": true });
    assert_eq!(
        application
            .connects_with("by-token", "198.51.100.7", json!({ "token": token, "origin": crate::harness::HOME }))
            .await,
        allowed
    );
    let named = json!({ "user": "alice", "payload": {} });
    assert_eq!(application.says_with("named", "198.51.100.7", "chat:say", named.clone()).await, allowed);

    picket.admin().post("/revoke", json!({ "userId": "alice" })).await.succeeds();
    let refused = |verdict: &Value| verdict["reason"] == "token_revoked" && verdict["close"] == 3000;
    eventually("a revoked token at the check API", async || {
        refused(&application.says("by-token", "198.51.100.7", "chat:say", json!({})).await).then_some(())
    })
    .await;
    assert!(refused(&application.says_with("named", "198.51.100.7", "chat:say", named.clone()).await));
    assert_eq!(application.says_with("vouched-for-again", "198.51.100.7", "chat:say", named).await, allowed);
}

#[tokio::test]
async fn a_revocation_that_says_too_little_or_too_much_is_told_so() {
    let picket = Picket::guarding(&Upstream::echo().await).issuer(issuer()).start().await;
    let admin = picket.admin();
    for (body, status) in [
        (json!({}), 422),
        (json!({ "jti": "a", "userId": "alice" }), 422),
        (json!({ "userId": "" }), 422),
        (json!({ "userId": "alice", "issuedBefore": "yesterday" }), 422),
        (json!({ "userId": "alice", "issuedBefore": "2999-01-01T00:00:00Z" }), 422),
        (json!({ "issuedBefore": "2026-01-01T00:00:00Z" }), 409),
    ] {
        admin.post("/revoke", body).await.fails_with(status);
    }
    admin.post("/revoke", json!({ "issuedBefore": "2026-01-01T00:00:00Z", "force": true })).await.succeeds();
}
