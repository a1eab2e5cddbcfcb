//! The demo: a small chat behind the gateway, and a page that attacks it and shows what Picket answers. For this machine only.

mod chat;
mod page;

use picket_node::config::{DenyMode, Parser, Protocol, RouteConfig, Transport};
use picket_shared::policy::{AutoBlock, MessageLimit, Policy};
use picket_shared::tasks::Tasks;
use std::io;
use std::net::SocketAddr;

use crate::config::Config;

pub use page::{Page, Viewer};

/// starts the chat and makes it the only upstream, under a policy whose limits a visitor can reach
pub async fn stand_in(config: &mut Config, tasks: &Tasks) -> io::Result<()> {
    let upstream = chat::start(tasks).await?;
    config.node.routes.push(route(upstream));
    soften(&mut config.policy);
    Ok(())
}

fn route(upstream: SocketAddr) -> RouteConfig {
    RouteConfig {
        path: "/chat".into(),
        hosts: Vec::new(),
        upstream: format!("ws://{upstream}").into(),
        upstream_tls: None,
        protocol: Protocol::Json,
        deny_mode: DenyMode::Http,
        event_field: "type".into(),
        refusal: None,
        transports: vec![Transport::WebSocket],
        parser: Parser::Default,
    }
}

/// what the user left at its default becomes small enough to be seen: a flood is cut off, and a block soon ends
fn soften(policy: &mut Policy) {
    let defaults = Policy::default();
    let validation = &mut policy.validation;
    validation.allowed_event_types.get_or_insert_with(|| vec!["chat:*".into()]);
    replace(&mut validation.max_message_length, &defaults.validation.max_message_length, 500);
    let limits = &mut policy.rate_limiting;
    let few = MessageLimit { max_messages: 30, window_ms: 10_000, ..MessageLimit::default() };
    replace(&mut limits.message_limit, &defaults.rate_limiting.message_limit, few);
    let security = &mut policy.security;
    replace(&mut security.violations_before_close, &defaults.security.violations_before_close, 100);
    replace(&mut security.suspicious_activity_threshold, &defaults.security.suspicious_activity_threshold, 8);
    let short = AutoBlock { base_ms: 15_000, factor: 1.0, max_ms: 15_000 };
    replace(&mut security.auto_block, &defaults.security.auto_block, short);
    replace(&mut security.reputation.half_life_ms, &defaults.security.reputation.half_life_ms, 20_000);
}

fn replace<T: PartialEq>(field: &mut T, default: &T, with: T) {
    if field == default {
        *field = with;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_shared::policy::{Environment, Rules};

    #[test]
    fn the_demo_leaves_alone_what_the_user_set() {
        let mut policy = Policy::default();
        policy.validation.max_message_length = 7;
        policy.validation.allowed_event_types = Some(vec!["mine".into()]);
        soften(&mut policy);
        assert_eq!((policy.validation.max_message_length, policy.rate_limiting.message_limit.max_messages), (7, 30));
        assert_eq!(policy.validation.allowed_event_types.as_deref(), Some(&["mine".to_owned()][..]));
        assert!(Rules::compile(policy, Environment::Development).is_ok());
    }
}
