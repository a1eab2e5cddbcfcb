//! Who is told of alarms may be slow: nobody else waits for it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Pager, Picket, SlowPager, Upstream, eventually, soon};

/// how long a receiver may take for an answer
const ANSWER_WAIT: Duration = Duration::from_secs(10);
const OFFENDERS: usize = 40;

#[tokio::test]
async fn a_receiver_that_never_answers_and_one_that_dribbles_hold_up_nobody() {
    let (silent, dribbling) = (SlowPager::that_never_answers().await, SlowPager::that_answers_a_byte_a_second().await);
    let mut pager = Pager::listens().await;
    let upstream = Upstream::echo().await;
    let mut picket = Picket::guarding(&upstream)
        .policy(json!({
            "monitoring": { "notifications": [silent.entry(), dribbling.entry(), pager.entry()] },
            "security": { "blockSuspiciousIps": true, "suspiciousActivityThreshold": 3 },
            "validation": { "content": { "mode": "reject" } },
        }))
        .start()
        .await;
    let admin = picket.admin();
    let mut alice = picket.caller("198.51.100.7").comes_in().await;

    admin.blocks("203.0.113.250").await;
    pager.rings_for("IP_BLOCKED").await;
    eventually("both hold an alarm", async || (silent.holds() + dribbling.holds() == 2).then_some(())).await;

    // While they do: messages pass, offences are refused and stored, the policy changes, and the third is told.
    for host in 0..OFFENDERS {
        let mut offender = picket.caller(&format!("203.0.113.{host}")).comes_in().await;
        offender.sends(json!({ "type": "chat:say", "text": "<script>alert(1)</script>" })).await;
        offender.is_refused("hostile_content").await;
        alice.is_still_served().await;
    }
    admin.audited("eventType=SUSPICIOUS_ACTIVITY&ip=203.0.113.0/24&limit=100", OFFENDERS).await;
    admin.changes_policy(json!({ "security": { "suspiciousActivityThreshold": 4 } })).await.succeeds();
    pager.rings_for("POLICY_CHANGED").await;
    assert!(silent.holds() <= 1 && dribbling.holds() <= 1, "one alarm at a time");

    // Each attempt ends, is told, and is made again.
    let promised = 2 * ANSWER_WAIT;
    for place in 0..2 {
        soon("who does not answer is named", promised, async || {
            let issues = notification_issues(&admin.get("/health").await.json());
            let words = format!("monitoring.notifications[{place}] (127.0.0.1): not reached: no answer within 10 s");
            issues.iter().any(|issue| issue.starts_with(&words)).then_some(())
        })
        .await;
    }
    soon("both are tried again", promised, async || (silent.holds() + dribbling.holds() == 2).then_some(())).await;
    let issues = notification_issues(&admin.get("/health").await.json());
    assert!(!issues.iter().any(|issue| issue.contains("notifications[2]")), "{issues:?}");
    alice.is_still_served().await;
    picket.terminates();
    assert_eq!(picket.exit_code().await, Some(0), "it ends though they hold it");
}

fn notification_issues(health: &Value) -> Vec<String> {
    let issues = health["issues"].as_array().unwrap().iter().filter(|issue| issue["kind"] == "notifications");
    issues.map(|issue| issue["message"].as_str().unwrap().to_owned()).collect()
}
