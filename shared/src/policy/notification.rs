//! Who is told of alarms: webhooks, and chats that take Slack's form.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use super::Mistake;
use crate::audit::Severity;
use crate::secret::{MASK, Secret};

/// receivers that a policy may name
const NOTIFICATIONS_MAX: usize = 16;
const URL_BYTES_MAX: usize = 2048;

/// one receiver of alarms
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Notification {
    pub kind: NotificationKind,
    /// where it is sent, http or https; shown masked, since whoever knows such a URL may post there
    pub url: Secret,
    /// the least severity that is sent
    #[serde(default = "high")]
    pub min_severity: Severity,
    /// of a webhook: a file on the coordinators that holds a secret of the form `whsec_…`, or several in lines, with each of which it
    /// is signed
    #[serde(default)]
    pub secret_file: Option<String>,
}

/// the form in which an alarm is sent
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NotificationKind {
    /// after the Standard Webhooks specification
    Webhook,
    /// `text` and blocks, as Slack and what imitates it take them
    Slack,
}

fn high() -> Severity {
    Severity::High
}

impl Notification {
    /// what may be shown of the URL
    pub fn host(&self) -> String {
        let url = Url::parse(self.url.expose()).ok();
        url.and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_else(|| MASK.to_owned())
    }
}

pub(super) fn check(notifications: &[Notification], mistakes: &mut Vec<Mistake>) {
    const PATH: &str = "monitoring.notifications";
    if notifications.len() > NOTIFICATIONS_MAX {
        mistakes.push(Mistake::new(PATH, format!("at most {NOTIFICATIONS_MAX} receivers are told")));
    }
    for (index, notification) in notifications.iter().enumerate() {
        if let Some(message) = url_mistake(notification.url.expose()) {
            mistakes.push(Mistake::new(format!("{PATH}[{index}].url"), message));
        }
        if notification.kind == NotificationKind::Slack && notification.secret_file.is_some() {
            let message = "Slack's form is not signed, its URL is the secret; remove secretFile";
            mistakes.push(Mistake::new(format!("{PATH}[{index}].secretFile"), message));
        }
    }
}

/// never with a part of the URL
fn url_mistake(text: &str) -> Option<&'static str> {
    if text.contains(MASK) {
        return Some("is the mask under which a URL is shown; write the URL itself");
    }
    if text.len() > URL_BYTES_MAX {
        return Some("is longer than 2048 bytes");
    }
    let Ok(url) = Url::parse(text) else {
        return Some("is not a URL; write one such as https://hooks.example.com/picket");
    };
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Some("must begin with https:// or http:// and name a host");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Some("must not hold a user or password; a webhook is known by its signature");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said_of(kind: NotificationKind, url: &str, secret_file: Option<&str>) -> Vec<Mistake> {
        let notification = Notification {
            kind,
            url: Secret::new(url),
            min_severity: Severity::High,
            secret_file: secret_file.map(str::to_owned),
        };
        let mut mistakes = Vec::new();
        check(&[notification], &mut mistakes);
        mistakes
    }

    #[test]
    fn only_addresses_that_are_posted_to_are_accepted_and_none_is_told_again() {
        let path = "monitoring.notifications[0].url";
        for url in [
            "canary",
            "ftp://canary/x",
            "file:///canary",
            "https://canary:pass@h/",
            "https://",
            MASK,
            &"h".repeat(3000),
        ] {
            let said = said_of(NotificationKind::Webhook, url, None);
            assert_eq!(said[0].path, path, "{url}");
            assert!(!said[0].message.contains("canary"), "{said:?}");
        }
        assert!(said_of(NotificationKind::Slack, "https://hooks.slack.com/services/T/B/x", None).is_empty());
        assert!(said_of(NotificationKind::Webhook, "http://127.0.0.1:8080/", Some("hook.secret")).is_empty());
        let said = said_of(NotificationKind::Slack, "https://hooks.slack.com/services/T/B/x", Some("x"));
        assert_eq!(said[0].path, "monitoring.notifications[0].secretFile");
    }
}
