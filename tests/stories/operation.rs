//! Running it: probes, metrics, draining, and a fault in one connection.

use serde_json::json;

use crate::harness::{Frame, Picket, Upstream, Wire, eventually};

#[tokio::test]
async fn the_probes_and_the_metrics_are_on_the_ops_listener() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).start().await;
    let _alice = picket.caller("198.51.100.7").comes_in().await;
    picket
        .caller("198.51.100.8")
        .origin("https://evil.example")
        .connects()
        .await
        .refused_with(403, "origin_not_allowed");

    assert_eq!(picket.ops("/livez").await.status, 200);
    assert_eq!(picket.ops("/readyz").await.status, 200);
    let metrics = picket.ops("/metrics").await;
    assert_eq!(metrics.status, 200);
    assert!(metrics.content_type().starts_with("text/plain"), "{}", metrics.content_type());
    let families: Vec<_> = metrics.text.lines().filter_map(|line| line.strip_prefix("# TYPE picket_")).collect();
    assert!(families.len() >= 5, "{}", metrics.text);
    assert!(metrics.text.contains("origin_not_allowed"), "refusals by reason: {}", metrics.text);
    assert!(!metrics.text.contains("198.51.100"), "no label comes from a client: {}", metrics.text);
    assert_eq!(picket.ops("/api/security/metrics").await.status, 404);
}

#[tokio::test]
async fn on_sigterm_it_is_unready_at_once_accepts_for_the_grace_then_closes_1012_and_ends() {
    let upstream = Upstream::echo().await;
    let mut picket =
        Picket::guarding(&upstream).node(json!({ "drain": { "graceMs": 1500, "spreadMs": 300 } })).start().await;
    let mut alice = picket.caller("198.51.100.7").comes_in().await;
    alice.is_still_served().await;

    picket.terminates();
    eventually("readyz to say 503", async || (picket.ops("/readyz").await.status == 503).then_some(())).await;
    assert_eq!(picket.ops("/livez").await.status, 200);
    let mut late = picket.caller("198.51.100.8").comes_in().await;
    late.is_still_served().await;
    alice.is_still_served().await;

    alice.closes_with(1012, "draining").await;
    late.closes_with(1012, "draining").await;
    assert_eq!(picket.exit_code().await, Some(0));
    upstream.loses(2).await;
}

#[tokio::test]
async fn r17_x38_a_panic_ends_one_connection_with_1011_and_is_counted() {
    let upstream = Upstream::echo().await;
    let mut picket = Picket::guarding(&upstream).environment("PICKET_TEST_PANIC_EVENT", "boom").start().await;
    let mut unlucky = picket.caller("198.51.100.7").comes_in().await;
    let mut bystander = picket.caller("198.51.100.8").comes_in().await;
    assert_eq!(picket.metric("picket_panics_total").await, 0.0);

    unlucky.sends(json!({ "type": "boom" })).await;
    let (code, _) = unlucky.closes().await;
    assert_eq!(code, 1011);

    bystander.is_still_served().await;
    assert!(picket.is_running());
    eventually("the panic in the metrics", async || (picket.metric("picket_panics_total").await == 1.0).then_some(()))
        .await;
    upstream.loses(1).await;
    picket.admin().counts("one open connection", |metrics| metrics["activeConnections"] == 1).await;
    assert!(!upstream.texts().iter().any(|text| text.contains("boom")), "{:?}", upstream.texts());
}

#[tokio::test]
async fn x33_a_log_that_takes_no_more_lines_ends_nothing_and_they_are_counted() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).start().await;
    let mut alice = picket.caller("198.51.100.7").comes_in().await;
    picket.nobody_reads_its_log();
    let mut messages_max = 1000;
    eventually("lines that are lost", async || {
        messages_max += 1;
        let patch = json!({ "rateLimiting": { "messageLimit": { "maxMessages": messages_max } } });
        assert_eq!(picket.admin().changes_policy(patch).await.status, 200);
        (picket.metric("picket_log_lines_lost_total").await >= 3.0).then_some(())
    })
    .await;
    assert_eq!(picket.metric("picket_panics_total").await, 0.0);
    alice.is_still_served().await;
}

#[tokio::test]
async fn x34_without_file_descriptors_open_sockets_go_on_and_whoever_waits_comes_in_when_there_are_some() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).start().await;
    let mut alice = picket.caller("198.51.100.7").comes_in().await;
    let said = |words: &str| picket.log().iter().any(|line| line.contains("gateway") && line.contains(words));

    let start = std::time::Instant::now();
    let mut waiting = Vec::new();
    eventually("the node to be without file descriptors", async || {
        picket.may_open_no_more_files();
        waiting.push(Wire::to(picket.gateway()).await);
        said("sockets cannot be accepted").then_some(())
    })
    .await;
    alice.is_still_served().await;
    let (before, looked_on) = (picket.processor_time(), std::time::Duration::from_secs(2));
    tokio::time::sleep(looked_on).await;
    let used = picket.processor_time() - before;
    println!("x34: {used:?} of processor time in {looked_on:?} without file descriptors");
    assert!(used < looked_on / 20, "{used:?} in {looked_on:?}");
    let last = waiting.pop().unwrap();
    assert!(!said("sockets are accepted again"));

    picket.may_open_files(1024);
    let mut late = last.upgraded("/ws", "198.51.100.8", picket.gateway()).await;
    late.sends(Frame::text(r#"{"type":"late"}"#)).await;
    late.frame().await.expect("an echo");
    assert!(said("sockets are accepted again"));
    picket.caller("198.51.100.9").comes_in().await.is_still_served().await;
    alice.is_still_served().await;
    let failures = picket.metric("picket_accept_failures_total").await;
    let busiest = start.elapsed().as_millis() as f64 / 50.0 + 1.0;
    assert!((1.0..=busiest).contains(&failures), "{failures} failures in {:?}: a loop that spins", start.elapsed());
}

#[tokio::test]
async fn x35_a_node_at_the_end_of_its_memory_lets_nobody_more_in_and_says_when_to_come_back() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).node(json!({ "limits": { "memoryBytesMax": 1_048_576 } })).start().await;

    for address in ["198.51.100.7", "198.51.100.8"] {
        picket.caller(address).connects().await.refused_with(503, "overload").may_be_retried();
    }

    assert!(picket.metric("picket_memory_used_percent").await >= 98.0, "{}", picket.ops("/metrics").await.text);
    assert_eq!(picket.ops("/readyz").await.status, 200);
    upstream.saw_no_request();
}

#[tokio::test]
async fn x35_open_sockets_stay_while_memory_is_full_and_newcomers_come_in_again_when_it_is_given_back() {
    const BUDGET: u64 = 256 * 1024 * 1024;
    const UNFINISHED: usize = 900_000;
    let upstream = Upstream::echo().await;
    let mut picket = Picket::guarding(&upstream).node(json!({ "limits": { "memoryBytesMax": BUDGET } })).start().await;
    let mut alice = picket.caller("198.51.100.7").comes_in().await;
    let addresses = (10..).flat_map(|host| std::iter::repeat_n(format!("198.51.100.{host}"), 10));
    // All are in before memory is full.
    let mut idle = Vec::new();
    for address in addresses.take(BUDGET as usize / UNFINISHED + 1) {
        idle.push(picket.wire(&address).await);
    }

    let unfinished = Frame::text(vec![b' '; UNFINISHED]).declaring(1_000_000).bytes();
    let mut holding = Vec::new();
    eventually("the node to be at the end of its memory", async || {
        for mut wire in idle.split_off(idle.len().saturating_sub(10)) {
            wire.writes(&unfinished).await;
            holding.push(wire);
        }
        (picket.metric("picket_memory_used_percent").await >= 98.0).then_some(())
    })
    .await;

    picket.caller("198.51.100.8").connects().await.refused_with(503, "overload").may_be_retried();
    alice.is_still_served().await;
    drop(holding);
    eventually("room for newcomers", async || (picket.metric("picket_memory_used_percent").await < 98.0).then_some(()))
        .await;
    picket.caller("198.51.100.8").comes_in().await.is_still_served().await;
    alice.is_still_served().await;
    assert!(picket.is_running());
}

#[tokio::test]
async fn without_routes_in_development_a_demo_is_behind_the_gateway() {
    let mut picket =
        Picket::builder().with(json!({ "environment": "development" })).also_listening("demo").start().await;

    assert!(picket.address("demo").ip().is_loopback());
    assert!(picket.is_running());
}

#[tokio::test]
async fn a_generated_password_lies_in_a_file_of_its_owner_and_is_not_shown() {
    use std::os::unix::fs::PermissionsExt;

    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream)
        .with(json!({ "environment": "development" }))
        .without_environment("SOCKET_ADMIN_USERNAME")
        .without_environment("SOCKET_ADMIN_PASSWORD")
        .start()
        .await;

    let file = std::fs::read_dir(picket.data_directory())
        .unwrap()
        .map(|entry| entry.unwrap())
        .find(|entry| entry.file_name().to_string_lossy().contains("password"))
        .expect("a file with the password in the data directory");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let secret = std::fs::read_to_string(file.path()).unwrap();
    let password = secret.trim();
    assert!(password.len() >= 16, "a long password");
    let said = picket.everything_it_said();
    assert!(!said.contains(password), "the password is shown");
    assert!(said.contains(file.file_name().to_str().unwrap()), "it says where the password is: {said}");
    picket.admin_with("admin", password).get("/metrics").await.succeeds();
}
