//! Hostile events and broken frames, each on a connection of its own, and what the target makes of them (docs/reasons.md).

use anyhow::Result;
use clap::Args;
use futures_util::{SinkExt, StreamExt, stream};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::time::{timeout, timeout_at};
use tokio_tungstenite::tungstenite::Message;

use super::aim::{ATTACKERS, Target};
use super::raw::{MASKED, masked};
use super::{Attack, Check, Common, Findings};
use crate::client::{NotOpened, Socket};
use crate::dialect::Dialect;

pub const EXAMPLES: &str = "\
Examples:
  picket-bench drill payload --practice
  picket-bench drill payload --target ws://127.0.0.1:8080/ws --forwarded-for
  picket-bench drill payload --target ws://127.0.0.1:8080 --protocol socketio --jwt-secret \"$SECRET\"

Each case has to be refused, closed with its code, or come back harmless. An honest event has to come back as it was, so that
silence means something. A gateway that scores addresses blocks this one after a few cases, which is its job: use
--forwarded-for, or put this address on its allow list (`security.allowList`).
Exit codes: 0 passed, 1 failed, 2 no verdict.";

/// without an answer for so long, nothing will come
const SILENCE: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub struct PayloadArgs {
    #[command(flatten)]
    pub common: Common,
    /// `validation.maxPayloadSize` of the target
    #[arg(long, default_value_t = 1_048_576, value_parser = clap::value_parser!(u32).range(1024..=16_777_216))]
    max_payload: u32,
    /// `validation.maxMessageLength` of the target
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    max_text: u32,
    /// `validation.maxDepth` of the target
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1000))]
    max_depth: u16,
}

struct Case {
    name: &'static str,
    sends: Sends,
    expects: Expects,
}

enum Sends {
    /// a whole text message
    Text(String),
    /// bytes on the wire
    Bytes(Vec<u8>),
}

enum Expects {
    /// dropped, for one of these reasons where the target names its reason; or closed
    Refused(&'static [&'static str]),
    /// the same, or back without any of these, whatever their case
    Harmless(&'static [&'static str]),
    /// closed with one of these codes
    Closed(&'static [u16]),
}

enum Outcome {
    Back(String),
    Refused(String),
    Closed(Option<u16>),
    Gone,
    Silence,
    NotOpened(NotOpened),
}

pub async fn attack(args: &PayloadArgs, attack: &Attack<'_>) -> Result<Findings> {
    let target = attack.target;
    let honest = Sends::Text(target.event(&tag("honest", "shall we meet at ten?")));
    let control = trial(attack, 0, &honest).await;
    let echoes = matches!(&control, Outcome::Back(text) if text.contains("shall we meet at ten?"));
    let mut findings = Findings::default();
    findings.check("an honest event comes back", echoes, control.told());
    let cases = [events(target, args), markup(target), frames(target.dialect, args)];
    let trials = cases.into_iter().flatten().enumerate().map(|(number, case)| async move {
        let outcome = timeout_at(attack.ends, trial(attack, number + 1, &case.sends)).await;
        match outcome {
            Ok(outcome) => case.judge(&outcome),
            Err(_) => Check::new(case.name, false, "the drill ended before its answer"),
        }
    });
    findings.checks.extend(stream::iter(trials).buffered(attack.connections).collect::<Vec<_>>().await);
    Ok(findings)
}

async fn trial(attack: &Attack<'_>, number: usize, sends: &Sends) -> Outcome {
    let connected = match attack.target.visitor(ATTACKERS + number) {
        Ok(visitor) => visitor.connect().await,
        Err(error) => Err(NotOpened::Unwelcome(error.to_string())),
    };
    let mut socket = match connected {
        Ok(socket) => socket,
        Err(error) => {
            attack.tally.turned_away.add(1);
            return Outcome::NotOpened(error);
        }
    };
    attack.tally.opened.add(1);
    let sent = match sends {
        Sends::Text(text) => timeout(SILENCE, socket.send(Message::text(text.as_str()))).await.is_ok(),
        Sends::Bytes(bytes) => timeout(SILENCE, socket.get_mut().write_all(bytes)).await.is_ok(),
    };
    // A target that closes in the middle of a message has answered nonetheless.
    attack.tally.sent.add(sent.into());
    let outcome = timeout(SILENCE, answer(&mut socket, attack.target.dialect)).await.unwrap_or(Outcome::Silence);
    match &outcome {
        Outcome::Back(_) => attack.tally.echoed.add(1),
        Outcome::Refused(_) => attack.tally.refused.add(1),
        Outcome::Closed(_) | Outcome::Gone => attack.tally.closed.add(1),
        Outcome::Silence | Outcome::NotOpened(_) => {}
    }
    outcome
}

async fn answer(socket: &mut Socket, dialect: Dialect) -> Outcome {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) if dialect == Dialect::Socketio && text.as_str() == "2" => {}
            Some(Ok(Message::Text(text))) => {
                let refusal = dialect.refusal(&text);
                return refusal.map_or_else(|| Outcome::Back(text.as_str().to_owned()), Outcome::Refused);
            }
            Some(Ok(Message::Binary(bytes))) => return Outcome::Back(format!("{} bytes", bytes.len())),
            Some(Ok(Message::Close(frame))) => return Outcome::Closed(frame.map(|frame| frame.code.into())),
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Outcome::Gone,
        }
    }
}

impl Case {
    fn judge(&self, outcome: &Outcome) -> Check {
        let holds = match (&self.expects, outcome) {
            (_, Outcome::NotOpened(_)) => false,
            (Expects::Closed(codes), Outcome::Closed(Some(code))) => codes.contains(code),
            (Expects::Closed(_), _) => false,
            (Expects::Refused(reasons), Outcome::Refused(reason)) => reasons.contains(&reason.as_str()),
            (Expects::Refused(_), Outcome::Back(_)) => false,
            (Expects::Harmless(parts), Outcome::Back(text)) => is_harmless(text, parts),
            (Expects::Harmless(_), Outcome::Refused(_)) => true,
            (_, Outcome::Closed(_) | Outcome::Gone | Outcome::Silence) => true,
        };
        let expected = match (&self.expects, holds) {
            (_, true) => String::new(),
            (Expects::Refused(reasons), false) => format!("; expected: {}", reasons.join(" or ")),
            (Expects::Harmless(parts), false) => format!("; expected: a refusal, or none of {}", parts.join(" ")),
            (Expects::Closed(codes), false) => format!("; expected: closed with {codes:?}"),
        };
        Check::new(self.name, holds, format!("{}{expected}", outcome.told()))
    }
}

impl Outcome {
    fn told(&self) -> String {
        match self {
            Outcome::Back(text) => format!("came back: {}", text.chars().take(90).collect::<String>()),
            Outcome::Refused(reason) => format!("refused: {reason}"),
            Outcome::Closed(Some(code)) => format!("closed with {code}"),
            Outcome::Closed(None) => "closed without a code".to_owned(),
            Outcome::Gone => "ended without a close frame".to_owned(),
            Outcome::Silence => format!("nothing came back within {SILENCE:?}"),
            Outcome::NotOpened(NotOpened::Refused { status, .. }) if status.as_u16() == 403 => {
                "no connection: 403, as for a blocked address: use --forwarded-for or the target's allow list"
                    .to_owned()
            }
            Outcome::NotOpened(error) => format!("no connection: {error}"),
        }
    }
}

/// in the text as it came, and as an application reads it
fn is_harmless(text: &str, parts: &[&str]) -> bool {
    let json = text.trim_start_matches(|letter: char| letter.is_ascii_digit());
    let decoded = serde_json::from_str::<serde_json::Value>(json).map(|value| strings(&value)).unwrap_or_default();
    let text = text.to_lowercase();
    !parts.iter().any(|part| text.contains(part) || decoded.contains(part))
}

/// all texts of a value, in small letters
fn strings(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.to_lowercase(),
        serde_json::Value::Array(values) => values.iter().map(strings).collect(),
        serde_json::Value::Object(members) => members.values().map(strings).collect(),
        _ => String::new(),
    }
}

fn tag(name: &str, text: &str) -> String {
    format!("drill {name}: {text}")
}

fn events(target: &Target, args: &PayloadArgs) -> Vec<Case> {
    let case =
        |name, text: String, reasons| Case { name, sends: Sends::Text(text), expects: Expects::Refused(reasons) };
    let members = |members: &str| target.event_of(&format!(r#""text":"a drill",{members}"#));
    let nested = |levels: usize| members(&format!(r#""deep":{}{}"#, "[".repeat(levels), "]".repeat(levels)));
    let text = target.event(&"a".repeat(args.max_text as usize + 1));
    let size = target.event_of(&format!(
        r#""parts":["{}"]"#,
        vec!["a".repeat(1000); args.max_payload as usize / 1000 + 1].join(r#"",""#)
    ));
    let cut = members(r#""n":1"#).trim_end_matches(['}', ']']).to_owned();
    vec![
        case("text too long", text, &["text_too_long", "payload_too_large"]),
        Case { name: "message too large", sends: Sends::Text(size), expects: Expects::Closed(&[1009]) },
        case("nested a little too deep", nested(usize::from(args.max_depth) + 1), &["too_deep"]),
        case("nested 100,000 deep", nested(100_000), &["too_deep"]),
        case("duplicate keys", members(r#""id":1,"id":2"#), &["malformed"]),
        case("duplicate keys, one escaped", members(r#""id":1,"\u0069d":2"#), &["malformed"]),
        case("cut off", cut, &["malformed"]),
        case("NaN", members(r#""n":NaN"#), &["malformed"]),
        case("half a surrogate pair", members(r#""name":"\ud800""#), &["malformed"]),
        case("__proto__", members(r#""__proto__":{"admin":true}"#), &["hostile_content"]),
        case("__proto__, escaped", members(r#""\u005f_proto__":{"admin":true}"#), &["hostile_content"]),
        case("__proto__, deep", members(r#""a":[{"b":{"__proto__":{}}}]"#), &["hostile_content"]),
        case("constructor.prototype", members(r#""constructor":{"prototype":{"admin":true}}"#), &["hostile_content"]),
        case("$where", members(r#""id":{"$where":"sleep(1000)"}"#), &["hostile_content"]),
        case("$ne", members(r#""password":{"$ne":null}"#), &["hostile_content"]),
    ]
}

fn markup(target: &Target) -> Vec<Case> {
    let case = |name, text: &str, parts| Case {
        name,
        sends: Sends::Text(target.event(&tag("markup", text))),
        expects: Expects::Harmless(parts),
    };
    vec![
        case("<script>", "<script>alert(1)</script>", &["<script"]),
        case("<script>, escaped in JSON", r"\u003cscript\u003ealert(1)\u003c/script\u003e", &["<script"]),
        case("<sCrIpT> with a break", r"<sCrIpT\n>alert(1)</sCrIpT>", &["<script"]),
        case("onerror", "<img src=x onerror=alert(1)>", &["onerror"]),
        case("onload in SVG", "<svg/onload=alert(1)>", &["onload"]),
        case("javascript: in a link", r#"<a href=\"javascript:alert(1)\">here</a>"#, &["javascript:"]),
        case(
            "javascript: with a tab",
            r#"<a href=\"java\tscript:alert(1)\">here</a>"#,
            &["java\tscript:", r"java\tscript:"],
        ),
        case("<iframe srcdoc>", r#"<iframe srcdoc=\"<script>alert(1)</script>\"></iframe>"#, &["<iframe", "<script"]),
    ]
}

fn frames(dialect: Dialect, args: &PayloadArgs) -> Vec<Case> {
    let case = |name, bytes, codes| Case { name, sends: Sends::Bytes(bytes), expects: Expects::Closed(codes) };
    let declared = |length: u64| {
        let mut bytes = vec![TEXT, MASKED | 127];
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes
    };
    // A Socket.IO connection takes binary messages, but none that was not announced.
    let binary: &[u16] = if dialect == Dialect::Json { &[1003] } else { &[1003, 1008] };
    vec![
        case("frame without a mask", [&[TEXT, 2][..], b"hi"].concat(), &[1002]),
        case("RSV1, as if compressed", masked(TEXT | 0x40, b"hi"), &[1002]),
        case("RSV3", masked(TEXT | 0x10, b"hi"), &[1002]),
        case("reserved opcode 3", masked(0x83, b"hi"), &[1002]),
        case("reserved control opcode 11", masked(0x8b, b"hi"), &[1002]),
        case("fragmented ping", masked(0x09, b"hi"), &[1002]),
        case("ping of 126 bytes", masked(0x89, &[0; 126]), &[1002]),
        case("continuation of nothing", masked(0x80, b"hi"), &[1002]),
        case("close with the code 1005", masked(0x88, &1005_u16.to_be_bytes()), &[1002]),
        case("declared length of 2^63", declared(1 << 63), &[1002, 1009]),
        case("declared length of 2^32", declared(1 << 32), &[1009]),
        case("declared length of one too much", declared(u64::from(args.max_payload) + 1), &[1009]),
        case("invalid UTF-8", masked(TEXT, b"\"\xff\xfe\""), &[1007]),
        case("overlong UTF-8", masked(TEXT, b"\"\xc0\xaf\""), &[1007]),
        case("binary message", masked(0x82, b"hi"), binary),
    ]
}

const TEXT: u8 = 0x81;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn harm_is_seen_through_escapes_and_capitals() {
        assert!(!is_harmless(r#"{"type":"m","text":"\u003cSCRIPT>"}"#, &["<script"]));
        assert!(!is_harmless(r#"42["m",{"text":"<img ONERROR=x>"}]"#, &["onerror"]));
        assert!(is_harmless(r#"42["m",{"text":"alert(1)"}]"#, &["<script"]));
    }
}
