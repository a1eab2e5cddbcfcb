//! `picket explain`: why somebody was refused, in plain words, and what can be done about it.

use anyhow::Context;
use picket_shared::secret::Secret;
use reqwest::{Client, StatusCode, Url};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

use crate::cli::ExplainArgs;
use crate::refusal::Refusal;
use crate::terminal;

const ANSWER_WAIT: Duration = Duration::from_secs(30);
/// the largest answer that is read
const ANSWER_BYTES_MAX: usize = 4 << 20;
const PASSWORD_VARIABLE: &str = "SOCKET_ADMIN_PASSWORD";

enum Credential {
    Password(String, Secret),
    Token(Secret),
}

pub fn run(args: &ExplainArgs, variables: &[(String, String)]) -> anyhow::Result<()> {
    let credential = credential(args, variables)?;
    let url = url(args)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let explanation = runtime.block_on(ask(url, &credential))?;
    let text = if args.json { serde_json::to_string_pretty(&explanation)? } else { in_words(&explanation) };
    Ok(terminal::say(&format!("{text}\n"))?)
}

fn credential(args: &ExplainArgs, variables: &[(String, String)]) -> anyhow::Result<Credential> {
    let read = |path: &Path| {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        anyhow::Ok(Secret::new(text.trim_end_matches(['\r', '\n'])))
    };
    if let Some(file) = &args.token_file {
        return Ok(Credential::Token(read(file)?));
    }
    let variable = variables.iter().find(|(name, _)| name == PASSWORD_VARIABLE).map(|(_, value)| value);
    let password = match (&args.password_file, variable) {
        (Some(file), _) => Some(read(file)?),
        (None, value) => value.map(Secret::new),
    };
    match (args.username.clone(), password) {
        (Some(name), Some(password)) => Ok(Credential::Password(name, password)),
        _ => Err(Refusal::Command(format!(
            "picket explain: the management API wants a credential: set SOCKET_ADMIN_USERNAME and {PASSWORD_VARIABLE}, \
             give --username and --password-file, or --token-file"
        ))
        .into()),
    }
}

fn url(args: &ExplainArgs) -> Result<Url, Refusal> {
    let refused = || Refusal::Command(format!("picket explain: `{}` is not the URL of a management API", args.api));
    let mut url = Url::parse(&args.api).map_err(|_| refused())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refused());
    }
    let code = args.code.trim();
    url.path_segments_mut().map_err(|()| refused())?.pop_if_empty().extend([
        "api",
        "security",
        "audit-logs",
        code,
        "explanation",
    ]);
    Ok(url)
}

async fn ask(url: Url, credential: &Credential) -> anyhow::Result<Value> {
    let client = Client::builder().timeout(ANSWER_WAIT).redirect(reqwest::redirect::Policy::none()).build()?;
    let request = match credential {
        Credential::Password(name, password) => client.get(url).basic_auth(name, Some(password.expose())),
        Credential::Token(token) => client.get(url).bearer_auth(token.expose()),
    };
    let mut answer = request.send().await.context("the management API is not reached")?;
    let status = answer.status();
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        anyhow::ensure!(body.len() + chunk.len() <= ANSWER_BYTES_MAX, "the answer is too long for one of Picket");
        body.extend_from_slice(&chunk);
    }
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    match status {
        StatusCode::OK => Ok(body["data"].clone()),
        _ => {
            let detail = body["detail"].as_str().unwrap_or("no problem document came with it");
            Err(anyhow::anyhow!("the management API answers {status}: {detail}"))
        }
    }
}

/// what the API answered, as lines for a person
fn in_words(explanation: &Value) -> String {
    let record = &explanation["record"];
    let mut lines = vec![format!(
        "{} · {} · {}",
        text(&explanation["appeal"]).unwrap_or("-"),
        text(&record["timestamp"]).unwrap_or("-"),
        text(&record["id"]).unwrap_or("-")
    )];
    lines.push(format!("What:    {}", what(explanation)));
    lines.push(format!("Who:     {}", who(record)));
    lines.extend(limit(&explanation["limit"]).map(|limit| format!("Limit:   {limit}")));
    lines.extend(text(&record["metadata"]["detail"]).map(|detail| format!("Detail:  {detail}")));
    lines.extend(changed(&record["metadata"]["changed"]).map(|changed| format!("Changed: {changed}")));
    lines.extend(block(&explanation["block"]));
    let version = &explanation["policyVersion"];
    let node = text(&explanation["node"]).unwrap_or("an unknown process");
    lines.push(match version.is_null() {
        true => format!("Where:   {node}"),
        false => format!("Where:   {node}, by version {version} of the policy"),
    });
    lines.push(format!("Now:     {}", standing(&explanation["address"])));
    lines.extend(remedy(explanation));
    lines.join("\n")
}

fn what(explanation: &Value) -> String {
    let record = &explanation["record"];
    let message = text(&record["message"]).unwrap_or("-");
    match text(&record["reason"]) {
        Some(reason) => format!("{message} ({reason}, {})", text(&record["severity"]).unwrap_or("-")),
        None => message.to_owned(),
    }
}

fn who(record: &Value) -> String {
    let parts = [
        ("actor", &record["metadata"]["actor"]),
        ("address", &record["ip"]),
        ("user", &record["userId"]),
        ("event", &record["eventName"]),
        ("route", &record["route"]),
        ("country", &record["metadata"]["country"]),
        ("network", &record["metadata"]["asn"]),
    ];
    let known = parts.iter().filter(|(_, value)| !value.is_null());
    known.map(|(name, value)| format!("{name} {}", shown(value))).collect::<Vec<_>>().join(", ")
}

/// the fields of the policy that an administrative act changed
fn changed(paths: &Value) -> Option<String> {
    let paths: Vec<_> = paths.as_array()?.iter().filter_map(Value::as_str).collect();
    (!paths.is_empty()).then(|| paths.join(", "))
}

fn limit(limit: &Value) -> Option<String> {
    let setting = text(&limit["setting"])?;
    let mut said = format!("{setting} is {}", shown(&limit["limit"]));
    if let Some(window) = limit["windowMs"].as_u64() {
        said.push_str(&format!(" in {} s, and so many were used up", seconds(window)));
    }
    if let Some(observed) = limit["observed"].as_u64() {
        said.push_str(&format!("; it was {observed}"));
    }
    if let Some(counted) = text(&limit["countedFor"]) {
        said.push_str(&format!("; counted for {counted}"));
    }
    Some(said)
}

fn seconds(millis: u64) -> String {
    let (whole, rest) = (millis / 1000, millis % 1000);
    if rest == 0 { whole.to_string() } else { format!("{whole}.{rest:03}") }
}

fn block(block: &Value) -> Vec<String> {
    let Some(network) = text(&block["network"]) else { return Vec::new() };
    let made = &block["made"];
    if made.is_null() {
        return vec![format!("Block:   {network}; the record of its making is not kept")];
    }
    let (at, metadata) = (text(&made["timestamp"]).unwrap_or("-"), &made["metadata"]);
    let why = match (metadata["score"].as_f64(), text(&metadata["reason"])) {
        (Some(_), _) => format!("its score came to {}", shown(&metadata["score"])),
        (None, reason) => format!("by {}: {}", shown(&metadata["actor"]), reason.unwrap_or("-")),
    };
    let mut lines = vec![format!("Block:   {network}, at {at}, {why}")];
    let parts = metadata["parts"].as_object().into_iter().flatten();
    lines.extend(parts.map(|(reason, points)| format!("         {points} for {reason}")));
    let behind = block["behind"].as_array().into_iter().flatten();
    lines.extend(behind.map(|record| {
        let field = |name: &str| text(&record[name]).unwrap_or("-").to_owned();
        format!("         {} {} on {} ({})", field("timestamp"), field("reason"), field("node"), field("id"))
    }));
    lines
}

fn standing(address: &Value) -> String {
    let score = shown(&address["score"]);
    match text(&address["block"]["ip"]) {
        Some(network) => match text(&address["block"]["until"]) {
            Some(until) => format!("score {score}, blocked as {network} until {until}"),
            None => format!("score {score}, blocked as {network} until it is lifted"),
        },
        None => format!("score {score}, not blocked"),
    }
}

/// what can be done, where something can
fn remedy(explanation: &Value) -> Option<String> {
    let network = text(&explanation["address"]["block"]["ip"])?;
    Some(format!(
        "To lift: curl -u NAME -H 'Content-Type: application/json' -d '{{\"ip\":\"{network}\",\"reason\":\"appeal {}\"}}' URL/api/security/unblock-ip",
        text(&explanation["appeal"]).unwrap_or("-")
    ))
}

fn text(value: &Value) -> Option<&str> {
    value.as_str()
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_explanation_says_limit_score_and_what_to_do() {
        let explanation = json!({
            "appeal": "0123A-4567B",
            "record": {
                "id": "r1", "timestamp": "2026-01-31T12:00:00Z", "message": "this address is blocked", "reason": "address_blocked",
                "severity": "high", "ip": "192.0.2.66", "metadata": {},
            },
            "limit": { "setting": "rateLimiting.messageLimit", "limit": 100, "windowMs": 1500, "countedFor": "user" },
            "block": {
                "network": "192.0.2.66",
                "made": { "timestamp": "2026-01-31T11:59:00Z", "metadata": { "score": 5.0, "parts": { "hostile_content": 5.0 } } },
                "behind": [{ "timestamp": "2026-01-31T11:58:59Z", "reason": "hostile_content", "node": "edge-2", "id": "r0" }],
            },
            "node": "edge-1",
            "policyVersion": 3,
            "address": { "score": 5.0, "block": { "ip": "192.0.2.66", "until": null } },
        });
        let said = in_words(&explanation);
        println!("{said}");
        for words in [
            "0123A-4567B",
            "rateLimiting.messageLimit is 100 in 1.500 s, and so many were used up; counted for user",
            "its score came to 5.0",
            "5.0 for hostile_content",
            "hostile_content on edge-2 (r0)",
            "edge-1, by version 3 of the policy",
            "blocked as 192.0.2.66 until it is lifted",
            r#"-d '{"ip":"192.0.2.66","reason":"appeal 0123A-4567B"}'"#,
        ] {
            assert!(said.contains(words), "{words}");
        }
    }

    #[test]
    fn of_an_administrative_act_actor_and_change_are_told() {
        let said = in_words(&json!({
            "record": {
                "message": "policy changed", "ip": "192.0.2.1",
                "metadata": { "actor": "api-key:gitops", "changed": ["validation.maxDepth", "enforce"] },
            },
        }));
        assert!(said.contains("Who:     actor api-key:gitops, address 192.0.2.1"), "{said}");
        assert!(said.contains("Changed: validation.maxDepth, enforce"), "{said}");
    }

    #[test]
    fn a_code_is_one_segment_of_the_path_whatever_it_holds() {
        let args = |api: &str, code: &str| ExplainArgs {
            code: code.into(),
            api: api.into(),
            username: None,
            password_file: None,
            token_file: None,
            json: false,
        };
        let path = |code| url(&args("https://picket.example/ops/", code)).unwrap().path().to_owned();
        assert_eq!(path(" 0123A-4567B "), "/ops/api/security/audit-logs/0123A-4567B/explanation");
        assert_eq!(path("../../config"), "/ops/api/security/audit-logs/..%2F..%2Fconfig/explanation");
        assert!(url(&args("picket", "x")).is_err() && url(&args("ftp://x", "x")).is_err());
    }
}
