//! An alarm as its receivers read it: the JSON of a webhook, and Slack's form.

use serde_json::{Value, json};

use super::{Alarm, Kind};

/// the most that Slack shows of a text
const TEXT_CHARS_MAX: usize = 2900;

/// `dropped` alarms did not find room in the queue since the last one that arrived
pub(super) fn webhook(alarm: &Alarm, dropped: u64) -> Value {
    let reason = match alarm.kind {
        Kind::Condition(_) => None,
        Kind::Records(_, reason) => reason,
    };
    json!({
        "type": format!("alarm.{}", alarm.state.as_str()),
        "timestamp": alarm.at,
        "data": {
            "kind": alarm.kind.as_str(),
            "reason": reason,
            "severity": alarm.severity,
            "summary": alarm.summary,
            "count": alarm.count,
            "since": alarm.since,
            "record": alarm.record,
            "coordinator": alarm.coordinator,
            "dropped": dropped,
        },
    })
}

pub(super) fn slack(alarm: &Alarm, dropped: u64) -> Value {
    let severity = alarm.severity.as_str();
    let text = format!("[{severity}] {}", escaped(&alarm.summary));
    let mut about =
        format!("{} {} · since {} · {}", alarm.kind.as_str(), alarm.state.as_str(), alarm.since, alarm.coordinator);
    if let Some(record) = &alarm.record {
        about.push_str(&format!(" · record {}", record.id));
    }
    if dropped > 0 {
        about.push_str(&format!(" · {dropped} alarms before it were dropped"));
    }
    json!({
        "text": text,
        "blocks": [
            { "type": "section", "text": { "type": "mrkdwn", "text": text } },
            { "type": "context", "elements": [{ "type": "mrkdwn", "text": escaped(&about) }] },
        ],
    })
}

/// Slack reads these three as markup
fn escaped(text: &str) -> String {
    let text: String = text.chars().take(TEXT_CHARS_MAX).collect();
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
