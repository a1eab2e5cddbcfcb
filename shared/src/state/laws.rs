//! The laws of the state's contracts. Every backend runs them all: `suite!(expression that makes an empty State)`; or, where
//! a start is slow, `suite!(together name, expression whose `empty_state().await` is one)`, one after the other.

use ipnet::IpNet;
use std::net::IpAddr;
use std::time::Duration;

use super::{
    ANSWER_LIFE, ANSWERS_MAX, Added, Begun, Block, BlockLog, BlockOrigin, BlockScope, BlockView, CHANGE_LIFE, Change,
    Charge, Claim, CounterKey, Lead, Lease, LeaseKey, Lift, LimitName, Published, Put, Revocation, RevocationPosition,
    Revoked, State, Subject, Trial, Withdrawal,
};
use crate::address::AddressKey;
use crate::audit::{AuditRecord, EventType, Severity};
use crate::clock::Timestamp;
use crate::policy::Policy;
use crate::window::Quota;

/// makes one test per law, each on a state of its own; or one test of all
#[macro_export]
macro_rules! state_laws {
    ($state:expr) => {
        $crate::state_laws!(@each tests, $state);
    };
    (together $name:ident, $server:expr) => {
        #[tokio::test]
        async fn $name() {
            let server = $server;
            $crate::state_laws!(@each together, server);
        }
    };
    (@each $how:ident, $state:expr) => {
        $crate::state_laws!(@$how $state,
            no_trailing_window_holds_more_than_the_limit,
            subjects_and_limits_are_counted_apart,
            a_refund_makes_room_for_one,
            a_lease_is_all_or_nothing_and_comes_back_when_dropped,
            a_cap_holds_under_a_race,
            a_block_is_found_by_every_address_in_it_until_it_ends,
            the_block_log_leads_to_the_same_list_as_the_set,
            x20_a_leader_of_an_earlier_term_blocks_nothing,
            a_leader_leaves_an_administrators_block_as_long_as_it_is_in_force,
            a_leader_hears_of_every_lift_before_it_blocks,
            a_leader_takes_only_automatic_blocks_away_and_only_in_its_term,
            a_policy_is_replaced_only_by_who_saw_it,
            revoked_tokens_are_read_once_each_in_order_until_they_end,
            one_policy_is_on_trial_at_a_time_until_it_ends,
            a_change_is_made_by_the_first_to_ask_and_answered_alike_for_a_day,
            answers_are_bounded_and_the_oldest_go,
            audit_records_are_held_until_acknowledged,
            a_silent_node_is_forgotten,
        );
    };
    (@together $server:expr, $($law:ident),+ $(,)?) => {
        $($crate::state::laws::$law(&$server.empty_state().await).await;)+
    };
    (@tests $state:expr, $($law:ident),+ $(,)?) => {
        $(
            #[tokio::test]
            async fn $law() {
                $crate::state::laws::$law(&$state).await;
            }
        )+
    };
}
pub use state_laws as suite;

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(1_000_000_000_000 + millis)
}

fn address(text: &str) -> AddressKey {
    AddressKey::of(text.parse::<IpAddr>().unwrap())
}

fn messages_of(user: &str) -> CounterKey {
    CounterKey { subject: Subject::User(user.into()), limit: LimitName::Messages }
}

async fn granted(state: &State, key: CounterKey, quota: Quota, now: Timestamp) -> bool {
    matches!(state.counters.charge(key, quota, now).await.unwrap(), Charge::Granted(_))
}

pub async fn no_trailing_window_holds_more_than_the_limit(state: &State) {
    let quota = Quota::new(10, 10_000);
    let mut admitted = Vec::new();
    for now in (0..60_000).step_by(97) {
        if granted(state, messages_of("alice"), quota, at(now)).await {
            admitted.push(now);
        }
    }
    for (last, end) in admitted.iter().enumerate() {
        let held = admitted[..=last].iter().filter(|&&t| t + 10_000 > *end).count();
        assert!(held <= 10, "{held} in the window that ends at {end} ms");
    }
    assert!(admitted.len() >= 55, "only {} of 60 were admitted", admitted.len());
}

pub async fn subjects_and_limits_are_counted_apart(state: &State) {
    let quota = Quota::new(1, 10_000);
    let typing = CounterKey { limit: LimitName::Event("typing".into()), ..messages_of("alice") };
    let same_text = CounterKey { subject: Subject::Address(address("192.0.2.1")), ..messages_of("192.0.2.1") };
    for key in [messages_of("alice"), messages_of("bob"), messages_of("192.0.2.1"), typing, same_text] {
        assert!(granted(state, key.clone(), quota, at(0)).await, "{key:?} starts empty");
        assert!(!granted(state, key.clone(), quota, at(1)).await, "{key:?} is full");
    }
}

pub async fn a_refund_makes_room_for_one(state: &State) {
    let quota = Quota::new(1, 10_000);
    let Charge::Granted(permit) = state.counters.charge(messages_of("alice"), quota, at(0)).await.unwrap() else {
        panic!("an empty counter refused");
    };
    let Charge::Exhausted { retry_after } = state.counters.charge(messages_of("alice"), quota, at(5)).await.unwrap()
    else {
        panic!("a full counter admitted");
    };
    assert!(retry_after > Duration::from_secs(9) && retry_after < Duration::from_secs(11), "{retry_after:?}");
    state.counters.refund(permit).await.unwrap();
    assert!(granted(state, messages_of("alice"), quota, at(6)).await);
}

pub async fn a_lease_is_all_or_nothing_and_comes_back_when_dropped(state: &State) {
    let everyone = Claim { key: LeaseKey::Anonymous, cap: 2 };
    let one = |text| Claim { key: LeaseKey::AnonymousOf(address(text)), cap: 1 };
    let first = Lease::acquire(&state.leases, &[everyone.clone(), one("192.0.2.1")], at(0)).await.unwrap().unwrap();
    let full = Lease::acquire(&state.leases, &[everyone.clone(), one("192.0.2.1")], at(1)).await.unwrap();
    assert_eq!(full.unwrap_err(), 1, "the second claim was full");
    assert_eq!(state.leases.held(&LeaseKey::Anonymous).await.unwrap(), 1, "nothing was taken");
    let _second = Lease::acquire(&state.leases, &[everyone.clone(), one("192.0.2.2")], at(2)).await.unwrap().unwrap();
    let full = Lease::acquire(&state.leases, &[everyone.clone(), one("192.0.2.3")], at(3)).await.unwrap();
    assert_eq!(full.unwrap_err(), 0, "the first claim was full");
    drop(first);
    assert!(Lease::acquire(&state.leases, &[everyone, one("192.0.2.1")], at(4)).await.unwrap().is_ok());
}

pub async fn a_cap_holds_under_a_race(state: &State) {
    let claim = [Claim { key: LeaseKey::User("alice".into()), cap: 7 }];
    let attempts = (0..50).map(|n| Lease::acquire(&state.leases, &claim, at(n)));
    let outcomes = futures_util::future::join_all(attempts).await;
    let held: Vec<_> = outcomes.into_iter().filter_map(|outcome| outcome.unwrap().ok()).collect();
    assert_eq!(held.len(), 7);
}

fn block(network: &str, until: Option<Timestamp>) -> Block {
    Block {
        network: crate::address::parse_network(network).unwrap(),
        reason: "law".into(),
        origin: BlockOrigin::Manual,
        by: "law".into(),
        since: at(0),
        until,
        scope: BlockScope::Everyone,
        users: Vec::new(),
    }
}

fn automatic(network: &str, until: u64) -> Block {
    Block { origin: BlockOrigin::Automatic, ..block(network, Some(at(until))) }
}

async fn view_of(state: &State, from: &BlockView, now: Timestamp) {
    match state.blocks.since(from.position()).await.unwrap() {
        BlockLog::Changes { changes, at } => from.apply(changes, at, now),
        BlockLog::Gap => from.replace(state.blocks.load(now).await.unwrap()),
        BlockLog::Lost => panic!("a list that is whole was reported lost"),
    }
}

pub async fn a_block_is_found_by_every_address_in_it_until_it_ends(state: &State) {
    state.blocks.put(block("198.51.100.0/24", None)).await.unwrap();
    state.blocks.put(block("198.51.100.7", Some(at(1000)))).await.unwrap();
    state.blocks.put(block("2001:db8:1::/48", Some(at(1000)))).await.unwrap();
    let view = BlockView::default();
    view_of(state, &view, at(1)).await;
    let found = |text: &str, now| view.find(text.parse().unwrap(), at(now)).map(|block| block.network.to_string());
    assert_eq!(found("198.51.100.7", 1).as_deref(), Some("198.51.100.7/32"), "the longest prefix");
    assert_eq!(found("198.51.100.7", 1000).as_deref(), Some("198.51.100.0/24"), "the wider one after it has ended");
    assert_eq!(found("::ffff:198.51.100.9", 1).as_deref(), Some("198.51.100.0/24"));
    assert_eq!(found("198.51.101.9", 1), None);
    assert_eq!(found("2001:db8:1:9::1", 999).as_deref(), Some("2001:db8:1::/48"));
    assert_eq!(found("2001:db8:1:9::1", 1000), None);
    let wide: IpNet = "198.51.100.0/24".parse().unwrap();
    assert!(state.blocks.lift(wide, at(2)).await.unwrap());
    assert!(!state.blocks.lift(wide, at(3)).await.unwrap(), "it is lifted already");
    view_of(state, &view, at(4)).await;
    assert!(view.find("198.51.100.9".parse().unwrap(), at(4)).is_none());
}

pub async fn the_block_log_leads_to_the_same_list_as_the_set(state: &State) {
    let (follower, late) = (BlockView::default(), BlockView::default());
    for n in 0..200u32 {
        let network = format!("203.0.113.{}", n % 50);
        if n % 3 == 2 {
            state.blocks.lift(crate::address::parse_network(&network).unwrap(), at(1)).await.unwrap();
        } else {
            state.blocks.put(block(&network, None)).await.unwrap();
        }
        view_of(state, &follower, at(1)).await;
    }
    late.replace(state.blocks.load(at(1)).await.unwrap());
    assert_eq!(follower.version(), late.version());
    for n in 0..50 {
        let address = format!("203.0.113.{n}").parse().unwrap();
        assert_eq!(follower.find(address, at(1)), late.find(address, at(1)), "{address}");
    }
}

pub async fn x20_a_leader_of_an_earlier_term_blocks_nothing(state: &State) {
    let old = state.blocks.begin_term().await.unwrap();
    let put = |term| state.blocks.put_in_term(automatic("192.0.2.1", 1000), Lead { term, heard: 0 }, at(0));
    assert!(matches!(put(old).await.unwrap(), Put::Done(_)));
    let new = state.blocks.begin_term().await.unwrap();
    assert!(new > old);
    assert_eq!(put(old).await.unwrap(), Put::Superseded);
    assert!(matches!(put(new).await.unwrap(), Put::Done(_)));
    assert!(state.blocks.put(block("192.0.2.2", None)).await.is_ok(), "an administrator has no term");
}

pub async fn a_leader_leaves_an_administrators_block_as_long_as_it_is_in_force(state: &State) {
    let term = state.blocks.begin_term().await.unwrap();
    let put = |network: &str| state.blocks.put_in_term(automatic(network, 100_000), Lead { term, heard: 0 }, at(0));
    assert!(matches!(put("192.0.2.1").await.unwrap(), Put::Done(_)));
    assert!(matches!(put("192.0.2.1").await.unwrap(), Put::Done(_)), "its own it replaces");
    for until in [None, Some(at(60_000))] {
        state.blocks.put(block("192.0.2.1", until)).await.unwrap();
        assert_eq!(put("192.0.2.1").await.unwrap(), Put::Manual, "{until:?}");
    }
    assert!(state.blocks.load(at(0)).await.unwrap().blocks.iter().all(|block| block.origin == BlockOrigin::Manual));
    state.blocks.put(block("192.0.2.2", Some(at(0)))).await.unwrap();
    assert!(matches!(put("192.0.2.2").await.unwrap(), Put::Done(_)), "that one has ended");
}

pub async fn a_leader_hears_of_every_lift_before_it_blocks(state: &State) {
    let network = |text: &str| crate::address::parse_network(text).unwrap();
    let term = state.blocks.begin_term().await.unwrap();
    let mut heard = 0;
    for (blocked, lifted_at) in [("192.0.2.1", 5), ("2001:db8::/48", 5), ("192.0.2.1", 7)] {
        state.blocks.put(block(blocked, None)).await.unwrap();
        assert!(state.blocks.lift(network(blocked), at(lifted_at)).await.unwrap());
        assert!(!state.blocks.lift(network(blocked), at(9)).await.unwrap(), "what is not blocked is not lifted");

        let put = |heard| state.blocks.put_in_term(automatic("203.0.113.1", 1000), Lead { term, heard }, at(0));
        let Put::Unheard { lifts, heard: now_heard } = put(heard).await.unwrap() else {
            panic!("it blocks without having heard of {blocked}")
        };
        assert_eq!(lifts, [Lift { network: network(blocked), at: at(lifted_at) }]);
        assert!(matches!(put(now_heard).await.unwrap(), Put::Done(_)));
        heard = now_heard;
    }
    let mut all = Vec::new();
    let mut lead = Lead { term, heard: 0 };
    while let Put::Unheard { lifts, heard } =
        state.blocks.put_in_term(automatic("203.0.113.1", 1000), lead, at(0)).await.unwrap()
    {
        all.extend(lifts);
        lead.heard = heard;
    }
    assert_eq!((all.len(), lead.heard), (3, heard), "who has heard of none hears of all");
    state.blocks.put(block("192.0.2.9", Some(at(3)))).await.unwrap();
    state.blocks.lift(network("192.0.2.9"), at(4)).await.unwrap();
    let put = state.blocks.put_in_term(automatic("203.0.113.1", 1000), lead, at(0)).await.unwrap();
    assert!(matches!(put, Put::Done(_)), "one that had ended was not lifted");
}

pub async fn a_leader_takes_only_automatic_blocks_away_and_only_in_its_term(state: &State) {
    let (old, term) = (state.blocks.begin_term().await.unwrap(), state.blocks.begin_term().await.unwrap());
    let network = |text: &str| crate::address::parse_network(text).unwrap();
    let withdraw = |text: &str, term| state.blocks.withdraw(network(text), Lead { term, heard: 0 });
    state.blocks.put(block("192.0.2.1", None)).await.unwrap();
    state.blocks.put(automatic("192.0.2.2", 1000)).await.unwrap();
    assert_eq!(withdraw("192.0.2.1", term).await.unwrap(), Withdrawal::Manual);
    assert_eq!(withdraw("192.0.2.2", old).await.unwrap(), Withdrawal::Superseded);
    assert_eq!(state.blocks.load(at(0)).await.unwrap().blocks.len(), 2);
    assert_eq!(withdraw("192.0.2.2", term).await.unwrap(), Withdrawal::Done);
    assert_eq!(withdraw("192.0.2.3", term).await.unwrap(), Withdrawal::Done, "there is none");
    assert_eq!(state.blocks.load(at(0)).await.unwrap().blocks, [block("192.0.2.1", None)]);
    let put = state.blocks.put_in_term(automatic("192.0.2.2", 1000), Lead { term, heard: 0 }, at(0)).await.unwrap();
    assert!(matches!(put, Put::Done(_)), "nobody forgave anything");
}

pub async fn a_policy_is_replaced_only_by_who_saw_it(state: &State) {
    let policies = &state.policies;
    assert_eq!(policies.current().await.unwrap(), None);
    assert_eq!(policies.publish(Policy::default(), None, "file", at(0)).await.unwrap(), Published::Version(1));
    assert_eq!(
        policies.publish(Policy::default(), None, "other", at(1)).await.unwrap(),
        Published::Conflict { current: 1 }
    );
    let mut next = Policy::default();
    next.security.allow_anonymous = false;
    assert_eq!(policies.publish(next.clone(), Some(1), "admin", at(2)).await.unwrap(), Published::Version(2));
    assert_eq!(
        policies.publish(Policy::default(), Some(1), "late", at(3)).await.unwrap(),
        Published::Conflict { current: 2 }
    );
    let history = policies.history(10).await.unwrap();
    assert_eq!(
        history.iter().map(|version| (version.version, version.by.as_str())).collect::<Vec<_>>(),
        [(2, "admin"), (1, "file")]
    );
    assert_eq!(policies.current().await.unwrap().unwrap().policy, next);
}

pub async fn revoked_tokens_are_read_once_each_in_order_until_they_end(state: &State) {
    let list = &state.revocations;
    let one = |n: u64, until| Revocation {
        revoked: Revoked::Token(format!("token-{n}")),
        by: "law".into(),
        at: at(n),
        until: at(until),
    };
    let nothing = list.since(&RevocationPosition::default()).await.unwrap();
    assert_eq!((nothing.from_start, nothing.revocations.len()), (true, 0));
    assert_eq!(list.revoke(vec![one(1, 5000), one(2, 9000)], at(1)).await.unwrap(), Added::Yes);
    let first = list.since(&nothing.at).await.unwrap();
    assert_eq!((first.from_start, first.revocations), (true, vec![one(1, 5000), one(2, 9000)]));
    let end = list.since(&first.at).await.unwrap();
    assert_eq!((end.from_start, end.revocations.len(), &end.at), (false, 0, &first.at));
    // The same again changes nothing.
    list.revoke(vec![one(2, 9000)], at(2)).await.unwrap();
    list.revoke(vec![one(3, 9000)], at(3)).await.unwrap();
    let next = list.since(&end.at).await.unwrap();
    assert_eq!((next.from_start, next.revocations), (false, vec![one(3, 9000)]));
    // What has ended makes room, and whoever stood elsewhere reads all that is left.
    list.revoke(vec![one(4, 9000)], at(6000)).await.unwrap();
    let elsewhere = RevocationPosition { id: "another list's".into(), ..next.at };
    let all = list.since(&elsewhere).await.unwrap();
    assert_eq!((all.from_start, all.revocations), (true, vec![one(2, 9000), one(3, 9000), one(4, 9000)]));
}

pub async fn one_policy_is_on_trial_at_a_time_until_it_ends(state: &State) {
    let trial = |id: &str, began, until| Trial {
        id: id.into(),
        node: "edge".into(),
        base: 1,
        by: "law".into(),
        began: at(began),
        until: at(until),
        policy: Policy::default(),
    };
    let trials = &state.trials;
    assert_eq!(trials.under_way(at(0)).await.unwrap(), None);
    assert!(trials.begin(trial("a", 0, 5000), at(0)).await.unwrap());
    assert!(!trials.begin(trial("b", 1, 6000), at(1)).await.unwrap(), "another one is under way");
    assert_eq!(trials.under_way(at(4999)).await.unwrap(), Some(trial("a", 0, 5000)));
    assert_eq!(trials.under_way(at(5000)).await.unwrap(), None);
    assert!(trials.begin(trial("b", 5000, 9000), at(5000)).await.unwrap());
    trials.end("a").await.unwrap();
    assert!(trials.under_way(at(6000)).await.unwrap().is_some(), "another one has ended");
    trials.end("b").await.unwrap();
    assert_eq!(trials.under_way(at(6000)).await.unwrap(), None);
}

pub async fn a_change_is_made_by_the_first_to_ask_and_answered_alike_for_a_day(state: &State) {
    let change = |account: &str, body: &str| Change::of(account, "/block-ip", "key", &[body.as_bytes()]);
    let begin = async |change: &Change, now| state.answers.begin(change, now).await.unwrap();
    let (first, again, other) = (change("warden", "one"), change("warden", "one"), change("warden", "other"));
    assert_eq!(begin(&first, at(0)).await, Begun::First);
    assert_eq!(begin(&again, at(1)).await, Begun::UnderWay);
    assert_eq!(begin(&other, at(2)).await, Begun::Another);
    assert_eq!(begin(&change("somebody else", "other"), at(2)).await, Begun::First, "accounts have keys of their own");
    state.answers.answer(&again, "of one that did not begin".into(), at(3)).await.unwrap();
    state.answers.forget(&again).await.unwrap();
    assert_eq!(begin(&again, at(4)).await, Begun::UnderWay, "the claim is the first one's");
    state.answers.answer(&first, "{\"é\": 1}\0".into(), at(5)).await.unwrap();
    state.answers.forget(&first).await.unwrap();
    let life = ANSWER_LIFE.as_millis() as u64;
    for now in [6, life + 4] {
        assert_eq!(begin(&again, at(now)).await, Begun::Again("{\"é\": 1}\0".into()));
        assert_eq!(begin(&other, at(now)).await, Begun::Another);
    }

    // What was not made, or whose maker is gone, is made by the next.
    let late = at(life + 5);
    assert_eq!(begin(&other, late).await, Begun::First, "a day later it is another change");
    state.answers.forget(&other).await.unwrap();
    assert_eq!(begin(&again, late).await, Begun::First);
    let next = change("warden", "one");
    assert_eq!(begin(&next, late.plus(CHANGE_LIFE - Duration::from_millis(1))).await, Begun::UnderWay);
    assert_eq!(begin(&next, late.plus(CHANGE_LIFE)).await, Begun::First);
    state.answers.answer(&again, "late".into(), late.plus(CHANGE_LIFE)).await.unwrap();
    assert_eq!(begin(&again, late.plus(CHANGE_LIFE)).await, Begun::UnderWay, "a late answer is not another one's");
}

pub async fn answers_are_bounded_and_the_oldest_go(state: &State) {
    let change = |n: usize| Change::of("warden", "/block-ip", &n.to_string(), &[]);
    let begin = async |change: &Change| state.answers.begin(change, at(ANSWERS_MAX as u64)).await.unwrap();
    let changes: Vec<_> = (0..ANSWERS_MAX).map(change).collect();
    for (n, change) in changes.iter().enumerate() {
        assert_eq!(state.answers.begin(change, at(n as u64)).await.unwrap(), Begun::First);
    }
    assert_eq!(begin(&change(ANSWERS_MAX)).await, Begun::Full, "nothing that is under way is given up");
    for n in [8, 7] {
        state.answers.answer(&changes[n], n.to_string(), at((2 * ANSWERS_MAX - n) as u64)).await.unwrap();
    }
    assert_eq!(begin(&change(ANSWERS_MAX)).await, Begun::First);
    assert_eq!(begin(&change(7)).await, Begun::Again("7".into()), "the oldest answer has gone, not this one");
    assert_eq!(begin(&change(8)).await, Begun::First);
    assert_eq!(begin(&change(7)).await, Begun::Full, "and then the next");
}

pub async fn audit_records_are_held_until_acknowledged(state: &State) {
    let record = |n: u64| {
        AuditRecord::new(EventType::ConnectionAttempt, Severity::Low, [192, 0, 2, 1].into(), n.to_string(), at(n))
    };
    let records: Vec<_> = (0..5).map(record).collect();
    state.audit.append(&records).await.unwrap();
    let first = state.audit.read(3, Duration::ZERO).await.unwrap();
    assert_eq!(first.iter().map(|(_, record)| record.clone()).collect::<Vec<_>>(), records[..3]);
    assert_eq!(state.audit.read(3, Duration::ZERO).await.unwrap(), first, "what is not acknowledged comes again");
    let ahead = state.audit.read_on(first[2].0, 10).await.unwrap();
    assert_eq!(ahead.iter().map(|(_, record)| record.clone()).collect::<Vec<_>>(), records[3..]);
    let after_one = state.audit.read_on(first[0].0, 1).await.unwrap();
    assert_eq!(after_one, first[1..2], "and what was given before, if it is asked for");
    let stored: Vec<_> = first.iter().map(|(id, _)| *id).collect();
    state.audit.acknowledge(&stored).await.unwrap();
    let rest = state.audit.read(10, Duration::ZERO).await.unwrap();
    assert_eq!(rest.iter().map(|(_, record)| record.clone()).collect::<Vec<_>>(), records[3..]);
    assert_eq!(state.audit.lag().await.unwrap(), 2);
}

pub async fn a_silent_node_is_forgotten(state: &State) {
    let status = |id: &str, last_seen| super::NodeStatus {
        id: id.into(),
        version: "1".into(),
        mode: super::Mode::Normal,
        policy_version: 1,
        connections: 0,
        last_seen,
        traffic: super::TrafficSnapshot::default(),
        decisions: None,
        knows_countries: None,
        enforce: Default::default(),
        is_switched: false,
        on_trial: false,
        clock_offset_ms: 0,
    };
    state.nodes.node_alive(status("a", at(0))).await.unwrap();
    state.nodes.node_alive(status("b", at(9000))).await.unwrap();
    let ids = |nodes: Vec<super::NodeStatus>| nodes.into_iter().map(|node| node.id).collect::<Vec<_>>();
    assert_eq!(ids(state.nodes.nodes(at(9000)).await.unwrap()), ["a", "b"]);
    assert_eq!(ids(state.nodes.nodes(at(11_000)).await.unwrap()), ["b"]);
}
