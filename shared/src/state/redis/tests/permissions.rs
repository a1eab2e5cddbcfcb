//! The permissions of `deploy/redis-acl.conf`: enough for each role, and nothing more.

use std::collections::BTreeSet;

use super::server::Server;
use super::{UNUSED, block, messages_of};
use crate::audit::{AuditRecord, Severity};
use crate::policy::Policy;
use crate::reason::Reason;
use crate::state::{
    Begun, Change, Claim, Lead, LeaseKey, Put, RedisOptions, RedisState, Revocation, RevocationPosition, Revoked,
    Trial, Withdrawal,
};
use crate::window::Quota;

const RULES: &str = include_str!("../../../../../deploy/redis-acl.conf");
const NODE: (&str, &str) = ("picket-node", "NODE-PASSWORD");
const COORDINATOR: (&str, &str) = ("picket-coordinator", "COORDINATOR-PASSWORD");

async fn process(server: &Server, (user, password): (&str, &str)) -> RedisState {
    let options = RedisOptions { expires_blocks: user == COORDINATOR.0, ..RedisOptions::default() };
    server.process_at(&server.url_of(user, password), options).await
}

async fn is_refused(server: &Server, (user, password): (&str, &str), words: &[&str]) {
    let answer = server.command_at(&server.url_of(user, password), words).await;
    let error = answer.expect_err(&format!("{user} may not {words:?}"));
    // A script says it in words of its own.
    let told = error.details().to_owned();
    let refusals = ["NOPERM", "ACL failure in script", "The user executing the script can't"];
    assert!(refusals.iter().any(|refusal| told.contains(refusal)), "{words:?}: {told}");
}

/// the commands that a user is given
fn granted(user: &str) -> BTreeSet<String> {
    let line = RULES.lines().find(|line| line.starts_with(&format!("user {user} "))).unwrap();
    let words = line.split_whitespace().map(|word| word.trim_matches(['(', ')']));
    words.filter_map(|word| word.strip_prefix('+')).map(str::to_owned).collect()
}

/// the commands that the scripts call
fn called() -> BTreeSet<String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/state/redis/scripts");
    let mut commands = BTreeSet::new();
    for script in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(script.unwrap().path()).unwrap();
        for call in text.split("redis.call('").chain(text.split("redis.pcall('")).filter(|part| !part.starts_with("--"))
        {
            let words: Vec<_> = call.split('\'').collect();
            let command = words[0].to_lowercase();
            let is_container = matches!(command.as_str(), "xinfo" | "xgroup");
            commands.insert(if is_container { format!("{command}|{}", words[2].to_lowercase()) } else { command });
        }
    }
    commands
}

#[test]
fn r04_no_command_is_permitted_that_is_not_used() {
    let connecting = ["info", "client|id", "role", "cluster|slots", "cluster|info", "subscribe"];
    let running = ["eval", "evalsha", "eval_ro", "evalsha_ro", "wait"];
    let mut used = called();
    used.extend(connecting.into_iter().chain(running).map(str::to_owned));
    let given: BTreeSet<_> = granted(NODE.0).union(&granted(COORDINATOR.0)).cloned().collect();
    assert_eq!(given, used);
}

#[tokio::test]
async fn r04_each_role_does_everything_it_does_without_being_refused_once() {
    let server = Server::start_with_permissions().await;
    let (coordinator, node) = (process(&server, COORDINATOR).await, process(&server, NODE).await);
    let (center, edge) = (coordinator.state(), node.state());

    center.blocks.seed(vec![block("192.0.2.1")]).await.unwrap();
    center.blocks.put(block("192.0.2.2")).await.unwrap();
    center.blocks.lift(block("192.0.2.2").network, UNUSED).await.unwrap();
    let lead = Lead { term: center.blocks.begin_term().await.unwrap(), heard: 0 };
    let put = center.blocks.put_in_term(block("192.0.2.2"), lead, UNUSED).await.unwrap();
    assert!(matches!(put, Put::Unheard { .. }), "{put:?}");
    assert_eq!(center.blocks.withdraw(block("192.0.2.2").network, lead).await.unwrap(), Withdrawal::Done);
    let change = Change::of("admin", "/block-ip", "key", &[]);
    assert_eq!(center.answers.begin(&change, UNUSED).await.unwrap(), Begun::First);
    center.answers.answer(&change, "{}".into(), UNUSED).await.unwrap();
    assert_eq!(center.answers.begin(&change, UNUSED).await.unwrap(), Begun::Again("{}".into()));
    center.answers.forget(&change).await.unwrap();
    center.policies.publish(Policy::default(), None, "admin", UNUSED).await.unwrap();
    center.policies.restore(center.policies.current().await.unwrap().unwrap()).await.unwrap();
    center.nodes.coordinators(UNUSED).await.unwrap();
    let trial = Trial {
        id: "t".into(),
        node: "edge".into(),
        base: 1,
        by: "admin".into(),
        began: UNUSED,
        until: crate::clock::Timestamp::from_millis(1 << 45),
        policy: Policy::default(),
    };
    assert!(center.trials.begin(trial, UNUSED).await.unwrap());
    assert!(edge.trials.under_way(UNUSED).await.unwrap().is_some());
    center.trials.end("t").await.unwrap();
    let revoked = Revoked::Token("stolen".into());
    let until = crate::clock::Timestamp::from_millis(1 << 45);
    let revocation = Revocation { revoked, by: "admin".into(), at: UNUSED, until };
    center.revocations.revoke(vec![revocation.clone()], UNUSED).await.unwrap();
    assert_eq!(edge.revocations.since(&RevocationPosition::default()).await.unwrap().revocations, [revocation]);

    let charge = edge.counters.charge(messages_of("alice"), Quota::new(2, 60_000), UNUSED).await.unwrap();
    let crate::state::Charge::Granted(permit) = charge else { panic!("refused") };
    edge.counters.refund(permit).await.unwrap();
    let claims = [Claim { key: LeaseKey::Anonymous, cap: 9 }, Claim { key: LeaseKey::User("alice".into()), cap: 9 }];
    edge.leases.acquire(&claims, UNUSED).await.unwrap();
    assert_eq!(center.leases.held(&LeaseKey::User("alice".into())).await.unwrap(), 1);
    assert_eq!(edge.blocks.load(UNUSED).await.unwrap().blocks, [block("192.0.2.1")]);
    edge.blocks.since(edge.blocks.load(UNUSED).await.unwrap().at).await.unwrap();
    assert!(edge.policies.current().await.unwrap().is_some());
    assert_eq!(edge.policies.history(5).await.unwrap().len(), 1);
    edge.nodes.nodes(UNUSED).await.unwrap();
    edge.audit.append(&[AuditRecord::refusal(Reason::Schema, [192, 0, 2, 1].into(), UNUSED)]).await.unwrap();
    let grave = AuditRecord {
        severity: Severity::Critical,
        ..AuditRecord::refusal(Reason::Schema, [192, 0, 2, 1].into(), UNUSED)
    };
    edge.audit.append(std::slice::from_ref(&grave)).await.unwrap();
    center.audit.append(&[grave]).await.unwrap();

    // What cannot be read goes to the dead letters, with its third delivery.
    server.command(&["XADD", "picket:{audit}:stream", "*", "record", "garbage"]).await;
    let batch = center.audit.read(10, std::time::Duration::ZERO).await.unwrap();
    for _ in 0..3 {
        center.audit.read(10, std::time::Duration::ZERO).await.unwrap();
    }
    let ids: Vec<_> = batch.iter().map(|(id, _)| *id).collect();
    center.audit.acknowledge(&ids).await.unwrap();
    assert_eq!((center.audit.lag().await.unwrap(), center.audit.dead_letters().await.unwrap()), (0, 1));
    assert_eq!(server.command(&["ACL", "LOG"]).await.into_array(), []);
    assert_eq!(node.warnings().await.iter().filter(|warning| warning.contains("tell")).count(), 0);
}

#[tokio::test]
async fn r04_whatever_could_harm_redis_is_refused() {
    let server = Server::start_with_permissions().await;
    server.command(&["SET", "others", "secret"]).await;
    for user in [NODE, COORDINATOR] {
        for words in [
            &["FLUSHALL"][..],
            &["FLUSHDB"],
            &["CONFIG", "GET", "*"],
            &["CONFIG", "SET", "dir", "/tmp"],
            &["KEYS", "*"],
            &["SCAN", "0"],
            &["ACL", "LIST"],
            &["CLIENT", "LIST"],
            &["CLIENT", "KILL", "TYPE", "normal"],
            &["SCRIPT", "FLUSH"],
            &["FUNCTION", "LIST"],
            &["SHUTDOWN"],
            &["REPLICAOF", "127.0.0.1", "1"],
            &["SAVE"],
            &["MONITOR"],
            &["MODULE", "LIST"],
            &["GET", "others"],
            &["EVAL", "return redis.call('GET', KEYS[1])", "1", "others"],
            &["EVAL", "return redis.call('GET', 'others')", "0"],
            &["EVAL", "return redis.call('FLUSHALL')", "0"],
            &["BLPOP", "picket:{blocks}:list", "1"],
            &["PSUBSCRIBE", "*"],
            &["SUBSCRIBE", "others"],
            &["PUBLISH", "others", "1"],
        ] {
            is_refused(&server, user, words).await;
        }
    }
    is_refused(&server, COORDINATOR, &["GET", "picket:{0123456789abcdef0123456789abcdef}:m"]).await;
    is_refused(&server, COORDINATOR, &["HSET", "picket:{0123456789abcdef0123456789abcdef}:l:user", "a", "1"]).await;
}

#[tokio::test]
async fn r05_a_nodes_user_can_neither_forge_a_block_nor_a_policy_nor_a_hint_of_one() {
    let server = Server::start_with_permissions().await;
    let (coordinator, node) = (process(&server, COORDINATOR).await, process(&server, NODE).await);
    coordinator.state().blocks.seed(vec![block("192.0.2.1")]).await.unwrap();
    coordinator.state().policies.publish(Policy::default(), None, "admin", UNUSED).await.unwrap();

    let (edge, of_others) = (node.state(), block("192.0.2.66"));
    assert!(edge.blocks.put(of_others.clone()).await.unwrap_err().0.contains("NOPERM"));
    assert!(edge.blocks.lift(block("192.0.2.1").network, UNUSED).await.unwrap_err().0.contains("NOPERM"));
    assert!(edge.blocks.seed(vec![of_others]).await.unwrap_err().0.contains("NOPERM"));
    assert!(edge.policies.publish(Policy::default(), Some(1), "node", UNUSED).await.unwrap_err().0.contains("NOPERM"));
    let change = Change::of("admin", "/block-ip", "key", &[]);
    assert!(edge.answers.begin(&change, UNUSED).await.unwrap_err().0.contains("NOPERM"));
    for words in [
        &["HGETALL", "picket:{answers}:list"][..],
        &["PUBLISH", "picket:blocks", "1"],
        &["PUBLISH", "picket:policy", "1"],
        &["SPUBLISH", "picket:blocks", "1"],
        &["EVAL", "return redis.call('PUBLISH', 'picket:blocks', '1')", "0"],
        &["EVAL", "return redis.call('HSET', 'picket:{blocks}:list', 'a', 'b')", "0"],
        &["EVAL", "return redis.call('HSET', KEYS[1], 'a', 'b')", "1", "picket:{blocks}:list"],
        &["EVAL_RO", "return redis.call('HSET', KEYS[1], 'a', 'b')", "1", "picket:{blocks}:list"],
        &["HSET", "picket:{blocks}:list", "192.0.2.66/32", "x"],
        &["HDEL", "picket:{blocks}:list", "192.0.2.1/32"],
        &["DEL", "picket:{blocks}:list"],
        &["SET", "picket:{blocks}:whole", "1"],
        &["PEXPIRE", "picket:{blocks}:whole", "1"],
        &["XADD", "picket:{blocks}:log", "*", "network", ""],
        &["HSET", "picket:{policy}:versions", "version", "9"],
        &["XREADGROUP", "GROUP", "coordinators", "me", "STREAMS", "picket:{audit}:stream", ">"],
        &["XRANGE", "picket:{audit}:stream", "-", "+"],
        &["XTRIM", "picket:{audit}:stream", "MAXLEN", "0"],
        &["DEL", "picket:{audit}:stream"],
        &["HSET", "picket:{members}:coordinators", "me", "x"],
        &["DEL", "picket:{members}:generations"],
    ] {
        is_refused(&server, NODE, words).await;
    }
    assert_eq!(edge.blocks.load(UNUSED).await.unwrap().blocks, [block("192.0.2.1")]);
    assert_eq!(edge.policies.newest_version().await.unwrap(), 1);
}
