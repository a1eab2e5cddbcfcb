//! Handshakes from origins that only look like the allowed one.

use anyhow::{Context, Result};
use clap::Args;
use futures_util::StreamExt;
use futures_util::stream;
use tokio::time::timeout_at;
use url::Url;

use super::aim::{ATTACKERS, Target};
use super::{Attack, Check, Common, Findings, raw};

pub const EXAMPLES: &str = "\
Examples:
  picket-bench drill origin --practice
  picket-bench drill origin --target ws://127.0.0.1:8080/ws --origin https://shop.example.com
  picket-bench drill origin --target ws://127.0.0.1:8080/ws --origin https://shop.example.com --missing-is-allowed

Passes when every case is refused with 403 or 400, and the allowed origin still gets in.
Where the policy allows a wildcard, such as https://*.example.com, say --skip prefix.
Exit codes: 0 passed, 1 failed, 2 no verdict.";

#[derive(Debug, Args)]
pub struct OriginArgs {
    #[command(flatten)]
    pub common: Common,
    /// The policy lets programs in, which send no Origin (`cors.allowMissingOrigin`)
    #[arg(long)]
    missing_is_allowed: bool,
    /// A case that is left out; repeat it for more
    #[arg(long, value_name = "CASE")]
    skip: Vec<String>,
}

struct Case {
    name: &'static str,
    origins: Vec<Vec<u8>>,
}

pub async fn attack(args: &OriginArgs, attack: &Attack<'_>) -> Result<Findings> {
    let url = Url::parse(&attack.target.origin).with_context(|| format!("{} is no origin", attack.target.origin))?;
    let host = url.host_str().context("an origin without a host")?;
    let cases = cases(&attack.target.origin, url.scheme(), host);
    let cases = cases.into_iter().filter(|case| !(args.missing_is_allowed && case.name == "missing"));
    let trials = cases.enumerate().map(|(number, case)| async move {
        if args.skip.iter().any(|name| name == case.name) {
            return Check::skipped(case.name, "--skip");
        }
        attack.tally.sent.add(1);
        let answer = timeout_at(attack.ends, knock(attack.target, number, &case.origins)).await;
        let answer = answer.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer before the drill ended")));
        if answer.is_ok() {
            attack.tally.turned_away.add(1);
        }
        judge(&case, answer)
    });
    let mut checks: Vec<_> = stream::iter(trials).buffered(attack.connections).collect().await;
    let home = knock(attack.target, checks.len(), &[attack.target.origin.clone().into_bytes()]).await;
    let detail = told(&home);
    checks.push(Check::new(format!("{} gets in", attack.target.origin), matches!(home, Ok(101)), detail));
    Ok(Findings { checks, figures: Vec::new() })
}

async fn knock(target: &Target, number: usize, origins: &[Vec<u8>]) -> Result<u16> {
    let door = target.visitor(ATTACKERS + number)?.door;
    raw::status(&door, &raw::request(&door, origins)).await
}

fn judge(case: &Case, answer: Result<u16>) -> Check {
    let origins: Vec<_> = case.origins.iter().map(|origin| String::from_utf8_lossy(origin)).collect();
    let detail = match &answer {
        Ok(429 | 503) => format!("{}: refused for its rate, so nothing is known of its origin", told(&answer)),
        _ => format!("{} for {:?}", told(&answer), origins),
    };
    Check::new(case.name, matches!(answer, Ok(400 | 403)), detail)
}

fn told(answer: &Result<u16>) -> String {
    answer.as_ref().map_or_else(|error| format!("{error:#}"), u16::to_string)
}

fn cases(good: &str, scheme: &str, host: &str) -> Vec<Case> {
    let other_scheme = if scheme == "https" { "http" } else { "https" };
    let one = |name, origin: String| Case { name, origins: vec![origin.into_bytes()] };
    vec![
        one("foreign", "https://evil.example".to_owned()),
        one("suffix", format!("{scheme}://{host}.evil.example")),
        one("prefix", format!("{scheme}://evil{host}")),
        one("null", "null".to_owned()),
        one("empty", String::new()),
        Case { name: "missing", origins: Vec::new() },
        one("other scheme", format!("{other_scheme}://{host}")),
        one("other port", format!("{scheme}://{host}:8443")),
        one("userinfo", format!("{scheme}://{host}@evil.example")),
        one("own userinfo", format!("{scheme}://evil@{host}")),
        one("trailing dot", format!("{scheme}://{host}.")),
        one("path", format!("{good}/evil")),
        one("backslash", format!("{scheme}://evil.example\\.{host}")),
        one("list", format!("{good} https://evil.example")),
        one("comma list", format!("{good}, https://evil.example")),
        one("look-alike letters", format!("{scheme}://{}", look_alike(host))),
        one("look-alike in punycode", punycode(scheme, &look_alike(host))),
        Case { name: "two, good first", origins: vec![good.into(), b"https://evil.example".to_vec()] },
        Case { name: "two, good last", origins: vec![b"https://evil.example".to_vec(), good.into()] },
    ]
}

/// with a Cyrillic letter for the first Latin one that has a twin, or with one more
fn look_alike(host: &str) -> String {
    let twins = [('a', 'а'), ('e', 'е'), ('o', 'о'), ('p', 'р'), ('c', 'с'), ('x', 'х')];
    match twins.into_iter().find(|(latin, _)| host.contains(*latin)) {
        Some((latin, cyrillic)) => host.replacen(latin, &cyrillic.to_string(), 1),
        None => format!("а{host}"),
    }
}

fn punycode(scheme: &str, host: &str) -> String {
    let origin = format!("{scheme}://{host}");
    Url::parse(&origin).ok().and_then(|url| Some(format!("{scheme}://{}", url.host_str()?))).unwrap_or(origin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_case_is_the_allowed_origin_itself() {
        let good = "https://app.example.com";
        for case in cases(good, "https", "app.example.com") {
            assert_ne!(case.origins, [good.as_bytes().to_vec()], "{}", case.name);
        }
        assert!(punycode("https", &look_alike("app.example.com")).starts_with("https://xn--"));
    }
}
