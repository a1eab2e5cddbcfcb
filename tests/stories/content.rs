//! What a text may hold: active markup goes, honest text arrives byte for byte.

use serde_json::{Value, json};

use crate::harness::{Picket, PicketBuilder, Upstream};

/// Active markup, with what must survive of it when it is sanitised.
const ACTIVE: &[(&str, &str)] = &[
    ("hello <script>alert(1)</script>world", "hello"),
    ("<b>bold</b> <img src=x onerror=alert(1)>", "<b>bold</b>"),
    ("see <a href=\"javascript:alert(1)\">this</a>", "this"),
    ("hello <svg/onload=alert(1)>", "hello"),
    ("hello <iframe src=\"https://evil.example\"></iframe>", "hello"),
    ("hello <ScRiPt src=//evil.example/x.js></sCrIpT>", "hello"),
    ("<a href=\"java\tscript:alert(1)\">tab</a>", "tab"),
    ("<p onclick=\"alert(1)\">text</p>", "text"),
];

const TRACES: &[&str] =
    &["<script", "onerror", "javascript:", "java\tscript", "onload", "<iframe", "onclick", "alert("];

const HONEST: &[&str] = &[
    "a < b",
    "a < b && c > d",
    "I <3 you",
    "R&D",
    "AT&T &amp; friends",
    "5 > 3, 3 < 5 and x<y",
    "for (let i = 0; i < n; i++) { if (a[i] <= b) return a[i]; }",
    "Vec<Option<String>> is a type",
    "std::vector<int> v; v.push_back(1);",
    "mail me <at> home",
    "<3 <3 <3",
    "->  <-  <->  =>",
    "😀 👩‍👩‍👧 e\u{301} \u{202b}שלום\u{202c} 你好",
    "SELECT * FROM users WHERE name = 'Robert'); DROP TABLE students;--",
    "../../etc/passwd is where it is",
    "the onerror handler is called on errors, onload on load",
    "javascript is a language",
    "data: the plural of datum",
    "<b>bold</b> and <i>it</i>",
    "line one\nline two\ttabbed\r\nline three",
    "\"quoted\" and 'quoted' and `quoted`",
    "100% of $5 #1 @home ~/x C:\\x",
    "   leading and trailing   ",
    "",
];

fn say(text: &str) -> Value {
    json!({ "type": "chat:say", "message": { "parts": [text] } })
}

fn text_of(message: &str) -> String {
    let message: Value = serde_json::from_str(message).expect("JSON at the upstream");
    message["message"]["parts"][0].as_str().expect("the text").to_owned()
}

fn in_mode(upstream: &Upstream, mode: &str) -> PicketBuilder {
    Picket::guarding(upstream).patient().policy(json!({ "validation": { "content": { "mode": mode } } }))
}

#[tokio::test]
async fn honest_text_arrives_byte_for_byte_in_every_mode() {
    for mode in ["sanitize", "reject", "detect", "off"] {
        let upstream = Upstream::echo().await;
        let picket = in_mode(&upstream, mode).start().await;
        let mut alice = picket.caller("198.51.100.7").comes_in().await;

        for text in HONEST {
            // Escaped and spaced in a way that a rewriting serialiser would not keep.
            let message = format!(
                "{{ \"type\":\"chat:say\",  \"message\":{{\"parts\":[{}],\"n\":1.0,\"u\":\"\\u0041\\/\"}} }}",
                Value::from(*text)
            );
            alice.sends_text(&message).await;
            let echo = alice.receives_text(|_| true).await;
            assert_eq!(echo, message, "{mode}: {text:?}");
        }
        assert_eq!(upstream.texts().len(), HONEST.len());
    }
}

#[tokio::test]
async fn sanitising_removes_what_could_run_keeps_the_rest_and_is_stable() {
    let upstream = Upstream::echo().await;
    let picket = in_mode(&upstream, "sanitize").start().await;
    let mut mallory = picket.caller("198.51.100.7").comes_in().await;

    for (text, kept) in ACTIVE {
        mallory.sends(say(text)).await;
        let once = mallory.receives_text(|_| true).await;
        let cleaned = text_of(&once);
        assert!(cleaned.contains(kept), "{text:?} became {cleaned:?}, without {kept:?}");
        for trace in TRACES {
            assert!(!cleaned.to_ascii_lowercase().contains(trace), "{text:?} became {cleaned:?}, still with {trace:?}");
        }
        mallory.sends_text(&once).await;
        assert_eq!(mallory.receives_text(|_| true).await, once, "sanitising {text:?} again changed it");
    }
}

#[tokio::test]
async fn sanitising_one_text_leaves_its_neighbours_keys_and_name_alone() {
    let upstream = Upstream::echo().await;
    let picket = in_mode(&upstream, "sanitize").start().await;
    let mut mallory = picket.caller("198.51.100.7").comes_in().await;

    mallory.sends(json!({ "type": "chat:say", "a<b": "a < b", "n": 1, "text": "<script>alert(1)</script>hi", "t": true, "z": null })).await;
    let arrived: Value = serde_json::from_str(&mallory.receives_text(|_| true).await).unwrap();

    assert_eq!(arrived, json!({ "type": "chat:say", "a<b": "a < b", "n": 1, "text": "hi", "t": true, "z": null }));
}

#[tokio::test]
async fn rejecting_refuses_active_text_and_records_it() {
    let upstream = Upstream::echo().await;
    let picket = in_mode(&upstream, "reject").start().await;
    let mut mallory = picket.caller("198.51.100.7").comes_in().await;

    for (text, _) in ACTIVE {
        mallory.sends(say(text)).await;
        assert_eq!(mallory.is_refused("hostile_content").await["event"], "chat:say", "{text:?}");
    }
    mallory.is_still_served().await;
    assert_eq!(upstream.texts().len(), 1, "{:?}", upstream.texts());

    let record = picket.admin().audited("eventType=SUSPICIOUS_ACTIVITY", 1).await.remove(0);
    assert_eq!(
        (&record["severity"], &record["reason"], &record["eventName"]),
        (&json!("high"), &json!("hostile_content"), &json!("chat:say")),
        "{record}"
    );
}

#[tokio::test]
async fn detecting_records_active_text_and_lets_it_pass_unchanged() {
    let upstream = Upstream::echo().await;
    let picket = in_mode(&upstream, "detect").start().await;
    let mut mallory = picket.caller("198.51.100.7").comes_in().await;

    for (text, _) in ACTIVE {
        mallory.sends(say(text)).await;
        assert_eq!(text_of(&mallory.receives_text(|_| true).await), *text);
    }
    picket.admin().audited("eventType=SUSPICIOUS_ACTIVITY&ip=198.51.100.7", 1).await;
}

#[tokio::test]
async fn with_content_checks_off_active_text_passes_unchanged() {
    let upstream = Upstream::echo().await;
    let picket = in_mode(&upstream, "off").start().await;
    let mut mallory = picket.caller("198.51.100.7").comes_in().await;

    for (text, _) in ACTIVE {
        mallory.sends(say(text)).await;
        assert_eq!(text_of(&mallory.receives_text(|_| true).await), *text);
    }
}

#[tokio::test]
async fn p15_a_connection_has_a_processor_time_of_its_own_and_others_are_not_concerned() {
    let upstream = Upstream::echo().await;
    let node = json!({ "limits": { "inspectionMsPerSecond": 1 } });
    let picket = Picket::guarding(&upstream).node(node).start().await;
    let mut mallory = picket.caller("198.51.100.7").comes_in().await;
    let texts = vec!["<a x=".repeat(1900); 50];
    let heavy = json!({ "type": "chat:say", "texts": texts });

    mallory.sends(heavy).await;
    mallory.sends(json!({ "type": "chat:say", "text": "hi" })).await;
    let refusal = mallory.is_refused("inspection_time").await;

    eprintln!("p15: after half a megabyte of tags the next message waits {} ms", refusal["retryAfterMs"]);
    assert!(refusal["retryAfterMs"].as_u64().is_some_and(|wait| wait > 0), "{refusal}");
    picket.caller("198.51.100.8").comes_in().await.is_still_served().await;
}
