//! `picket token`: an application token for development, signed with the HMAC secret of a configured issuer.

use picket_shared::clock::{Clock, SystemClock, Timestamp};
use picket_shared::token::{IssuerConfig, KeyFamily, sign};
use serde_json::{Map, Value};

use crate::cli::TokenArgs;
use crate::config::Config;
use crate::refusal::Refusal;
use crate::role::Role;
use crate::terminal;

pub fn run(args: &TokenArgs, variables: &[(String, String)]) -> anyhow::Result<()> {
    let file = args.config.config.as_deref();
    let folder = super::temporary_folder();
    // The configuration of either serves: what signs is the same.
    let loaded = super::load(Role::Standalone, file, variables, Some(&folder))
        .or_else(|mistakes| super::load(Role::Node, file, variables, None).map_err(|_| mistakes));
    let config = loaded?.config;
    let issuer = choose(&config.auth.jwt.issuers, args.issuer.as_deref())?;
    let claims = claims(&config, issuer, args, SystemClock.now());
    Ok(terminal::say(&format!("{}\n", sign(issuer, &claims)?))?)
}

/// the only issuer that can sign, or the one that was asked for
fn choose<'c>(issuers: &'c [IssuerConfig], name: Option<&str>) -> Result<&'c IssuerConfig, Refusal> {
    let signing: Vec<_> = issuers
        .iter()
        .filter(|issuer| issuer.algorithms.first().is_some_and(|algorithm| algorithm.family() == KeyFamily::Hmac))
        .collect();
    let names = || signing.iter().map(|issuer| issuer.issuer.as_str()).collect::<Vec<_>>().join(", ");
    let refused = match (name, signing.as_slice()) {
        (_, []) => {
            "no issuer with an HMAC secret is configured: add one to auth.jwt.issuers, such as \
             { issuer: https://id.example.com, audience: chat, algorithms: [HS256], secretFile: jwt.secret }, and name the file with --config"
                .to_owned()
        }
        (None, [only]) => return Ok(only),
        (None, _) => format!("several issuers can sign; choose one with --issuer: {}", names()),
        (Some(name), _) => match signing.iter().find(|issuer| issuer.issuer == name) {
            Some(issuer) => return Ok(issuer),
            None => format!("no issuer `{name}` with an HMAC secret is configured; there is {}", names()),
        },
    };
    Err(Refusal::Command(format!("picket token: {refused}")))
}

fn claims(config: &Config, issuer: &IssuerConfig, args: &TokenArgs, now: Timestamp) -> Map<String, Value> {
    let seconds = now.as_millis() / 1000;
    let mut claims = Map::new();
    claims.insert("iss".into(), issuer.issuer.clone().into());
    claims.insert("aud".into(), issuer.audience.clone().into());
    claims.insert("iat".into(), seconds.into());
    claims.insert("exp".into(), (seconds + args.ttl.as_secs()).into());
    claims.insert("jti".into(), picket_shared::random::hex(12).into());
    claims.insert(config.auth.jwt.user_claim.clone(), args.subject.clone().into());
    match args.roles.as_slice() {
        [] => None,
        [only] => claims.insert(config.auth.jwt.role_claim.clone(), only.clone().into()),
        several => claims.insert(config.auth.jwt.role_claim.clone(), several.into()),
    };
    claims
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_shared::secret::Secret;
    use picket_shared::token::{ClaimNames, SigningAlgorithm, TokenVerifier};
    use std::time::Duration;

    fn issuer(name: &str, algorithm: SigningAlgorithm) -> IssuerConfig {
        IssuerConfig {
            issuer: name.into(),
            audience: "chat".into(),
            algorithms: vec![algorithm],
            secret: Some(Secret::new("5b2c0f6a9d3e48178c6d4e2f1a0b9c8d")),
            secret_file: None,
            public_key_file: None,
            jwks_url: None,
            ca_file: None,
        }
    }

    fn args(roles: &[&str]) -> TokenArgs {
        TokenArgs {
            config: crate::cli::ConfigArgs { config: None },
            subject: "alice".into(),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            ttl: Duration::from_secs(3600),
            issuer: None,
        }
    }

    #[test]
    fn a_signed_token_is_believed_until_it_expires() {
        let now = Timestamp::from_millis(1_764_000_000_000);
        let issuer = issuer("shop", SigningAlgorithm::HS256);
        let token = sign(&issuer, &claims(&Config::default(), &issuer, &args(&["member", "editor"]), now)).unwrap();
        let verifier = TokenVerifier::new(&[issuer], ClaimNames::default()).unwrap();
        let user = verifier.verify(&token, now).unwrap();
        assert_eq!((&*user.id, &user.roles[..]), ("alice", &["member".to_owned(), "editor".to_owned()][..]));
        assert!(verifier.verify(&token, now.plus(Duration::from_secs(3700))).is_err());
    }

    #[test]
    fn only_an_issuer_with_a_secret_signs() {
        let issuers = [
            issuer("rsa", SigningAlgorithm::RS256),
            issuer("shop", SigningAlgorithm::HS256),
            issuer("chat", SigningAlgorithm::HS512),
        ];
        assert_eq!(choose(&issuers[..2], None).unwrap().issuer, "shop");
        assert_eq!(choose(&issuers, Some("chat")).unwrap().issuer, "chat");
        for (issuers, name, words) in [
            (&issuers[..1], None, "no issuer with an HMAC"),
            (&issuers[..], None, "shop, chat"),
            (&issuers[..], Some("rsa"), "no issuer `rsa`"),
        ] {
            assert!(choose(issuers, name).unwrap_err().to_string().contains(words));
        }
    }
}
