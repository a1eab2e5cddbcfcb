//! The command line: what is checked before anything starts, and the commands that only print.

use serde_json::{Value, json};

use crate::harness::{Ended, HOME, Picket, Program, SECRET, Token, Upstream, issuer};

#[test]
fn check_config_lists_every_mistake_with_its_path_and_line_and_exits_64() {
    let program = Program::new().with_admin();
    let file = program.writes(
        "picket.yaml",
        "environment: production
state:
  url: memory://
node:
  listen: not an address
  lisen: 127.0.0.1:1
  routes:
    - path: /ws
      upstream: ws://127.0.0.1:4000/ws
      protocol: carrier-pigeon
policy:
  cors:
    allowedOrigins: [\"https://app.example.com\"]
  validation:
    maxPayloadSize: lots
    maxDepth: -1
",
    );

    let said = program.runs(&["check-config", file.to_str().unwrap()]).refuses_the_configuration();

    for (path, line) in [("listen", 5), ("lisen", 6), ("protocol", 10), ("maxPayloadSize", 15), ("maxDepth", 16)] {
        let mentioned = said.lines().any(|mistake| {
            let numbers: Vec<_> = mistake.split(|letter: char| !letter.is_ascii_digit()).collect();
            mistake.contains(path) && numbers.contains(&line.to_string().as_str())
        });
        assert!(mentioned, "{path} on line {line} is not in:\n{said}");
    }
    assert!(!said.contains("allowedOrigins"), "no mistake where there is none:\n{said}");
}

#[test]
fn check_config_says_where_the_yaml_itself_is_broken() {
    let program = Program::new().with_admin();
    let file = program.writes("picket.yaml", "environment: production\nnode:\n  listen: \"127.0.0.1:0\n");

    let said = program.runs(&["check-config", file.to_str().unwrap()]).refuses_the_configuration();
    assert!(said.contains('3') || said.contains('4'), "no line:\n{said}");
    let said = program.runs(&["check-config", "/nowhere/picket.yaml"]).refuses_the_configuration();
    assert!(said.contains("/nowhere/picket.yaml"), "{said}");
}

#[test]
fn check_config_prints_the_effective_configuration_with_its_secrets_masked() {
    let program = Program::new()
        .environment("SOCKET_ADMIN_USERNAME", "warden")
        .environment("SOCKET_ADMIN_PASSWORD", "canary-password-81bd20c4f6");
    let file = program.writes_config(&json!({
        "environment": "production",
        "state": { "url": "memory://" },
        "node": { "routes": [{ "path": "/ws", "upstream": "ws://127.0.0.1:4000", "protocol": "json" }] },
        "auth": { "jwt": { "issuers": [issuer()] } },
        "policy": { "cors": { "allowedOrigins": [HOME] } },
    }));

    let printed = program.runs(&["check-config", file.to_str().unwrap()]);
    let everything = printed.everything();
    let shown = printed.succeeds();

    for canary in ["canary-password-81bd20c4f6", SECRET] {
        assert!(!everything.contains(canary), "{canary} is in:\n{everything}");
    }
    for shown_too in ["allowedOrigins", HOME, "maxPayloadSize", "1048576", "maxConnections"] {
        assert!(shown.contains(shown_too), "{shown_too} is not in:\n{shown}");
    }
}

#[test]
fn an_unsafe_production_setting_stops_the_start_and_says_how_to_mend_it() {
    let sound = || {
        json!({
            "environment": "production",
            "state": { "url": "memory://" },
            "node": { "listen": "127.0.0.1:0", "opsListen": "127.0.0.1:0", "routes": [{ "path": "/ws", "upstream": "ws://127.0.0.1:1/ws", "protocol": "json", "eventField": "type" }] },
            "coordinator": { "listen": "127.0.0.1:0" },
            "policy": { "cors": { "allowedOrigins": [HOME] } },
        })
    };
    let any_origin = {
        let mut config = sound();
        config["policy"]["cors"]["allowedOrigins"] = json!(["*"]);
        config
    };
    let every_proxy = {
        let mut config = sound();
        config["node"]["trustedProxies"] = json!(["0.0.0.0/0"]);
        config
    };

    for (row, program, role, config, mend) in [
        ("no management credential", Program::new(), "standalone", sound(), "coordinator.admin"),
        ("any origin", Program::new().with_admin(), "standalone", any_origin, "allowAnyOrigin"),
        ("every proxy is trusted", Program::new().with_admin(), "standalone", every_proxy, "trustedProxies"),
        ("memory for a lone node", Program::new().with_admin(), "node", sound(), "state.url"),
        ("memory for a lone coordinator", Program::new().with_admin(), "coordinator", sound(), "state.url"),
    ] {
        let file = program.writes_config(&config);
        let said = program.runs(&[role, "--config", file.to_str().unwrap()]).refuses_the_configuration();
        assert!(said.contains(mend), "{row}: {mend} is not in:\n{said}");
    }
}

#[test]
fn the_schema_describes_the_configuration_file() {
    let schema: Value = serde_json::from_str(&Program::new().runs(&["schema"]).succeeds()).unwrap();

    for section in ["environment", "state", "node", "auth", "coordinator", "telemetry", "policy"] {
        assert!(schema["properties"][section].is_object(), "{section} in {}", schema["properties"]);
    }
    let schema_of_schemas = jsonschema::draft202012::meta::validate(&schema);
    assert!(schema_of_schemas.is_ok(), "{schema_of_schemas:?}");
    let validator = jsonschema::validator_for(&schema).unwrap();
    assert!(validator.is_valid(&json!({ "environment": "production", "auth": { "jwt": { "issuers": [issuer()] } } })));
    assert!(!validator.is_valid(&json!({ "environment": "production", "nodes": {} })), "an unknown key");
}

#[test]
fn a_token_carries_what_was_asked_for() {
    let program = Program::new();
    let config =
        program.writes_config(&json!({ "environment": "development", "auth": { "jwt": { "issuers": [issuer()] } } }));

    let arguments =
        ["token", "--config", config.to_str().unwrap(), "--subject", "alice", "--role", "member", "--ttl", "1h"];
    let printed = program.runs(&arguments).succeeds();

    let mut checks = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::HS256);
    checks.set_audience(&["chat"]);
    let key = jsonwebtoken::DecodingKey::from_secret(SECRET.as_bytes());
    let claims = jsonwebtoken::decode::<Value>(printed.trim(), &key, &checks).unwrap().claims;
    assert_eq!(claims["sub"], "alice", "{claims}");
    assert!(claims["role"] == "member" || claims["role"] == json!(["member"]), "{claims}");
    let left = claims["exp"].as_i64().unwrap() - crate::harness::seconds_from_now(0);
    assert!((3500..=3610).contains(&left), "{left} s left");
}

#[tokio::test]
async fn the_environment_goes_before_the_file() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream)
        .issuer(issuer())
        .environment("WHITE_LIST_URLS", "https://one.example.net, https://two.example.net")
        .environment("PICKET_NODE__ID", "edge-of-the-environment")
        .start()
        .await;

    picket.caller("198.51.100.7").origin("https://one.example.net").comes_in().await;
    picket
        .caller("198.51.100.7")
        .origin("https://two.example.net")
        .bearing(&Token::of("alice").signed())
        .comes_in()
        .await;
    picket.caller("198.51.100.7").origin(HOME).connects().await.refused_with(403, "origin_not_allowed");

    let record = picket.admin().audited("eventType=INVALID_ORIGIN", 1).await.remove(0);
    assert_eq!(record["node"], "edge-of-the-environment", "{record}");
}

#[test]
fn api_key_prints_a_key_and_the_configuration_that_admits_it_and_nothing_else_of_it() {
    let program = Program::new();
    let printed = program.runs(&["api-key", "siem", "--scope", "audit:read", "--scope", "metrics:read"]).succeeds();
    let key = printed.split_whitespace().find(|word| word.starts_with("picket_")).unwrap();
    assert_eq!(key.len(), "picket_".len() + 64, "{printed}");
    assert_eq!(printed.matches(&key["picket_".len()..]).count(), 1, "once, and its hash is another:\n{printed}");

    let admitted = Program::new().with_admin();
    let base = "environment: production\nstate: { url: \"memory://\" }\nnode: { routes: [{ path: /ws, upstream: \"ws://127.0.0.1:1\", protocol: json }] }\n";
    let file = admitted.writes("picket.yaml", &format!("{base}{printed}"));
    let effective = admitted.runs(&["check-config", file.to_str().unwrap()]).succeeds();
    assert!(effective.contains("siem") && !effective.contains(key), "{effective}");

    let unknown = program.runs(&["api-key", "siem", "--scope", "everything"]).everything();
    assert!(unknown.contains("audit:read"), "what is known is said:\n{unknown}");
}

#[test]
fn audit_verify_says_when_it_proves_nothing() {
    let program = Program::new();
    let verified = |text: &str, more: &[&str]| {
        let file = program.writes("export.ndjson", text);
        program.runs(&[&["audit", "verify", "--export", file.to_str().unwrap()], more].concat())
    };
    let forged = json!({
        "id": "x1", "timestamp": "2026-01-31T12:00:00.000Z", "eventType": "IP_BLOCKED", "severity": "high", "ip": "192.0.2.66",
        "message": "never happened",
    });
    let forged = format!("{forged}\n");
    let claims = |ended: &Ended| ended.everything().contains("is what was written");
    for (text, why) in [("", "there are no records"), (&*forged, "1 records are in no chain")] {
        let ended = verified(text, &[]);
        assert!(ended.code == Some(1) && !claims(&ended), "{}", ended.everything());
        assert!(ended.everything().contains(why), "{}", ended.everything());
    }
    let told = verified(&forged, &["--allow-unchained"]);
    assert!(told.code == Some(0) && !claims(&told), "{}", told.everything());
    let checkpoint = format!("w1:99999:{}", "0".repeat(64));
    let ended = verified(&forged, &["--allow-unchained", "--checkpoint", &checkpoint]);
    assert!(ended.code == Some(1) && !claims(&ended), "{}", ended.everything());
    assert!(ended.everything().contains("chain w1, record 99999, could not be compared"), "{}", ended.everything());
}
