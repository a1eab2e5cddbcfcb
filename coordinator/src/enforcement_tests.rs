//! Automatic blocking against the embedded state, with a clock that is moved by hand.

use super::*;
use picket_shared::clock::ManualClock;
use picket_shared::policy::Environment;
use picket_shared::state::{Acquired, Claim, State, follow_blocks};
use picket_shared::tasks::Tasks;
use picket_shared::telemetry::Metrics;

const START: Timestamp = Timestamp::from_millis(1_764_000_000_000);

struct Watch {
    enforcement: Enforcement,
    state: State,
    clock: Arc<ManualClock>,
    tasks: Tasks,
}

impl Watch {
    fn with(change: impl FnOnce(&mut Policy)) -> Self {
        let mut policy = Policy::default();
        change(&mut policy);
        let (state, clock, tasks) = (State::memory(), Arc::new(ManualClock::at(START)), Tasks::default());
        let view = BlockView::default();
        tasks.spawn("blocks", follow_blocks(view.clone(), state.blocks.clone(), clock.clone(), tasks.stopped()));
        let enforcement = Enforcement {
            id: "c1".into(),
            policy: LivePolicy::starting_with(policy, Environment::Production).unwrap(),
            blocks: state.blocks.clone(),
            leases: state.leases.clone(),
            view,
            outbox: Outbox::default(),
            clock: clock.clone(),
            trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
            instruments: Instruments::new(&Metrics::start("test").unwrap()),
            memory: Mutex::default(),
            crowded_at: 10,
            term: Default::default(),
        };
        Watch { enforcement, state, clock, tasks }
    }

    async fn offends(&self, address: &str, reason: Reason, times: usize) {
        for _ in 0..times {
            let record = AuditRecord::refusal(reason, address.parse().unwrap(), self.clock.now());
            self.enforcement.observe(&record).await;
        }
    }

    /// what was done then is heard of now
    async fn offended(&self, address: &str, at: Timestamp, times: usize) {
        for _ in 0..times {
            let record = AuditRecord::refusal(Reason::TokenInvalid, address.parse().unwrap(), at);
            self.enforcement.observe(&record).await;
        }
    }

    async fn comes_in(&self, address: &str, user: &str) {
        let address = address.parse().unwrap();
        let record = AuditRecord::new(EventType::AuthenticationSuccess, Severity::Low, address, "in", self.clock.now());
        self.enforcement.observe(&AuditRecord { user_id: Some(user.into()), ..record }).await;
    }

    async fn does(&self, address: &str, user: &str, reason: Reason) {
        let record = AuditRecord::refusal(reason, address.parse().unwrap(), self.clock.now());
        self.enforcement.observe(&AuditRecord { user_id: Some(user.into()), ..record }).await;
    }

    /// the block of a network, when the view has it as it should be
    async fn knows_block(&self, network: &str, wanted: impl Fn(&Block) -> bool) -> Block {
        let mut changes = self.enforcement.view.changes();
        let network = network.parse().unwrap();
        let found = async {
            loop {
                if let Some(block) = self.enforcement.view.block_of(network).filter(&wanted) {
                    return block;
                }
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(5), found).await.expect("the block is there")
    }

    async fn blocks(&self) -> Vec<(String, Duration)> {
        let set = self.state.blocks.load(self.clock.now()).await.unwrap();
        set.blocks
            .into_iter()
            .map(|block| (block.network.to_string(), block.until.unwrap().since(block.since)))
            .collect()
    }
}

#[tokio::test]
async fn a_bad_score_blocks_and_a_relapse_lasts_longer() {
    let watch = Watch::with(|_| {});
    watch.offends("192.0.2.66", Reason::TokenInvalid, 4).await;
    assert_eq!(watch.blocks().await, []);
    watch.offends("192.0.2.66", Reason::HostileContent, 1).await;
    assert_eq!(watch.blocks().await, [("192.0.2.66/32".to_owned(), Duration::from_secs(600))]);
    watch.offends("192.0.2.66", Reason::HostileContent, 3).await;
    assert_eq!(watch.blocks().await.len(), 1);
    assert_eq!(watch.enforcement.relapses("192.0.2.66".parse().unwrap()), 1, "what was under way is no relapse");

    watch.clock.advance(Duration::from_secs(601));
    watch.offends("192.0.2.66", Reason::TokenInvalid, 1).await;
    assert_eq!(watch.blocks().await, [("192.0.2.66/32".to_owned(), Duration::from_secs(2400))]);
    assert!(watch.tasks.stop(Duration::from_secs(1)).await);
}

#[tokio::test]
async fn h23_an_ipv6_subscriber_is_blocked_whole() {
    let watch = Watch::with(|_| {});
    for host in 1..=5 {
        watch.offends(&format!("2001:db8:1:2::{host}"), Reason::TokenInvalid, 1).await;
    }
    assert_eq!(watch.blocks().await, [("2001:db8:1:2::/64".to_owned(), Duration::from_secs(600))]);
}

#[tokio::test]
async fn h24_an_address_that_clean_users_share_is_not_blocked_for_them() {
    let watch = Watch::with(|_| {});
    for user in ["alice", "bob", "carol"] {
        watch.comes_in("192.0.2.7", user).await;
    }
    watch.offends("192.0.2.7", Reason::HostileContent, 5).await;
    let block = watch.knows_block("192.0.2.7/32", |_| true).await;
    assert_eq!((block.scope, block.users.as_slice()), (BlockScope::Anonymous, &[][..]));
    assert!(block.binds(None) && !block.binds(Some("alice")));

    // A user whose own score calls for it is refused too, and that is no relapse.
    for _ in 0..5 {
        watch.does("192.0.2.7", "bob", Reason::HostileContent).await;
    }
    let block = watch.knows_block("192.0.2.7/32", |block| !block.users.is_empty()).await;
    assert_eq!(block.users, ["bob"]);
    assert!(block.binds(Some("bob")) && !block.binds(Some("alice")));
    assert_eq!(watch.enforcement.relapses("192.0.2.7".parse().unwrap()), 1);

    watch.comes_in("192.0.2.8", "alice").await;
    watch.offends("192.0.2.8", Reason::HostileContent, 5).await;
    assert!(watch.knows_block("192.0.2.8/32", |_| true).await.binds_everyone(), "one user shares it with nobody");
}

#[tokio::test]
async fn h24_whose_token_was_revoked_shares_no_address() {
    let watch = Watch::with(|_| {});
    watch.comes_in("192.0.2.7", "mallory").await;
    for user in ["alice", "bob", "carol"] {
        watch.does("192.0.2.7", user, Reason::TokenRevoked).await;
    }
    watch.offends("192.0.2.7", Reason::HostileContent, 5).await;
    assert!(watch.knows_block("192.0.2.7/32", |_| true).await.binds_everyone());
}

#[tokio::test]
async fn h23_a_subscriber_that_changes_its_prefix_is_blocked_by_the_wider_one() {
    let watch = Watch::with(|_| {});
    for network in 0..20 {
        watch.offends(&format!("2001:db8:1:{network:x}::1"), Reason::TokenInvalid, 1).await;
    }
    assert_eq!(watch.blocks().await, [("2001:db8:1::/56".to_owned(), Duration::from_secs(600))]);
}

#[tokio::test]
async fn h23_a_crowded_list_gets_common_prefixes_in_the_place_of_neighbours() {
    let watch = Watch::with(|_| {});
    for network in 0..3 {
        watch.offends(&format!("2001:db8:1:{network:x}::1"), Reason::TokenInvalid, 5).await;
    }
    for host in 1..=7 {
        watch.offends(&format!("192.0.2.{host}"), Reason::TokenInvalid, 5).await;
    }
    watch.knows_block("192.0.2.7/32", |_| true).await;
    watch.offends("2001:db8:1:8::1", Reason::TokenInvalid, 5).await;
    watch.knows_block("2001:db8:1:8::/64", |_| true).await;
    watch.clock.advance(Duration::from_secs(11));
    watch.offends("198.51.100.1", Reason::TokenInvalid, 1).await;
    watch.knows_block("2001:db8:1::/56", |_| true).await;
    let v6: Vec<_> = watch.blocks().await.into_iter().filter(|(network, _)| network.contains(':')).collect();
    assert_eq!(v6.len(), 1, "{v6:?}");
}

#[tokio::test]
async fn x20_what_a_stale_leader_blocks_is_refused() {
    let watch = Watch::with(|_| {});
    watch.enforcement.begin_term().await.unwrap();
    watch.state.blocks.begin_term().await.unwrap();
    watch.offends("192.0.2.66", Reason::HostileContent, 5).await;
    assert_eq!(watch.blocks().await, []);
    watch.enforcement.begin_term().await.unwrap();
    watch.offends("192.0.2.66", Reason::HostileContent, 1).await;
    assert_eq!(watch.blocks().await.len(), 1);
}

#[tokio::test]
async fn r16_allow_listed_addresses_and_proxies_are_never_blocked_nor_is_anyone_by_origins_alone() {
    let watch = Watch::with(|policy| policy.security.allow_list = vec!["203.0.113.0/24".into()]);
    watch.offends("203.0.113.7", Reason::TokenInvalid, 20).await;
    watch.offends("10.1.2.3", Reason::TokenInvalid, 20).await;
    for _ in 0..48 {
        watch.offends("192.0.2.1", Reason::OriginNotAllowed, 50).await;
        watch.clock.advance(Duration::from_secs(1800));
    }
    assert_eq!(watch.blocks().await, []);
}

#[tokio::test]
async fn r16_malformed_handshakes_that_any_page_can_cause_block_nobody() {
    let watch = Watch::with(|_| {});
    for _ in 0..50 {
        let record = AuditRecord::refusal(Reason::ProtocolError, "192.0.2.66".parse().unwrap(), watch.clock.now());
        watch.enforcement.observe(&record.with("stage", "handshake")).await;
    }
    assert_eq!(watch.enforcement.standing("192.0.2.66".parse().unwrap()).score, 1.0);
    assert_eq!(watch.blocks().await, []);
}

#[tokio::test]
async fn blocking_can_be_switched_off() {
    let watch = Watch::with(|policy| policy.security.block_suspicious_ips = false);
    watch.offends("192.0.2.66", Reason::TokenInvalid, 20).await;
    assert_eq!(watch.blocks().await, []);
    assert_eq!(watch.enforcement.standing("192.0.2.66".parse().unwrap()).score, 20.0);
}

#[tokio::test]
async fn loopback_is_blocked_for_the_shortest_time_only() {
    let watch = Watch::with(|_| {});
    for _ in 0..3 {
        watch.offends("127.0.0.1", Reason::TokenInvalid, 5).await;
        assert_eq!(watch.blocks().await, [("127.0.0.1/32".to_owned(), Duration::from_secs(600))]);
        watch.clock.advance(Duration::from_secs(601));
    }
}

#[tokio::test]
async fn an_administrators_block_is_not_shortened() {
    let watch = Watch::with(|_| {});
    let mut changes = watch.enforcement.view.changes();
    let manual = Block {
        network: "192.0.2.66/32".parse().unwrap(),
        reason: "known".into(),
        origin: BlockOrigin::Manual,
        by: "admin".into(),
        since: START,
        until: None,
        scope: BlockScope::Everyone,
        users: Vec::new(),
    };
    watch.state.blocks.put(manual.clone()).await.unwrap();
    changes.changed().await.unwrap();
    watch.offends("192.0.2.66", Reason::TokenInvalid, 20).await;
    assert_eq!(watch.state.blocks.load(START).await.unwrap().blocks, [manual]);
}

#[tokio::test]
async fn an_administrators_block_stays_though_this_process_has_not_heard_of_it() {
    let watch = Watch::with(|_| {});
    let manual = Block {
        network: "192.0.2.66/32".parse().unwrap(),
        reason: "by hand".into(),
        origin: BlockOrigin::Manual,
        by: "admin".into(),
        since: START,
        until: Some(START.plus(Duration::from_secs(300))),
        scope: BlockScope::Everyone,
        users: Vec::new(),
    };
    watch.state.blocks.put(manual.clone()).await.unwrap();
    watch.offends("192.0.2.66", Reason::TokenInvalid, 20).await;
    assert_eq!(watch.state.blocks.load(START).await.unwrap().blocks, [manual]);
    assert_eq!(watch.enforcement.relapses("192.0.2.66".parse().unwrap()), 0, "it was not blocked by its score");
}

#[tokio::test]
async fn what_was_lifted_elsewhere_is_lifted_here_and_offends_anew() {
    let watch = Watch::with(|_| {});
    let ip = "192.0.2.66".parse().unwrap();
    watch.offends("192.0.2.66", Reason::TokenInvalid, 20).await;
    assert_eq!(watch.enforcement.relapses(ip), 1);
    let unblocked =
        AuditRecord::new(EventType::IpUnblocked, Severity::Medium, ip, "x", START).with("network", "192.0.2.66");
    watch.state.blocks.lift("192.0.2.66/32".parse().unwrap(), START).await.unwrap();
    watch.enforcement.observe(&unblocked).await;
    assert_eq!(watch.enforcement.standing(ip).score, 0.0);
    watch.offends("192.0.2.66", Reason::TokenInvalid, 1).await;
    assert_eq!(watch.state.blocks.load(START).await.unwrap().blocks, [], "once is not enough");
    watch.clock.advance(Duration::from_secs(1));
    watch.offends("192.0.2.66", Reason::TokenInvalid, 20).await;
    assert_eq!((watch.enforcement.relapses(ip), watch.state.blocks.load(START).await.unwrap().blocks.len()), (2, 1));
}

#[tokio::test]
async fn what_was_done_before_a_lift_and_is_heard_of_later_does_not_count() {
    let watch = Watch::with(|_| {});
    let ip = "192.0.2.66".parse().unwrap();
    watch.clock.advance(Duration::from_secs(10));
    let lift = Lift { network: "192.0.2.0/24".parse().unwrap(), at: watch.clock.now() };
    watch.enforcement.lifted(lift);
    watch.offended("192.0.2.66", START, 20).await;
    assert_eq!((watch.enforcement.standing(ip).score, watch.blocks().await), (0.0, Vec::new()));
    watch.enforcement.forget();
    watch.offended("192.0.2.66", START, 20).await;
    assert_eq!(watch.blocks().await, [], "the trail may not have the lift yet");
    watch.offends("192.0.2.66", Reason::TokenInvalid, 5).await;
    assert_eq!(watch.blocks().await.len(), 1, "what was done since counts");
}

#[tokio::test]
async fn a_lift_at_another_coordinator_holds_before_its_record_is_read() {
    let watch = Watch::with(|_| {});
    let (ip, network) = ("192.0.2.66".parse().unwrap(), "192.0.2.66/32".parse().unwrap());
    watch.offends("192.0.2.66", Reason::TokenInvalid, 20).await;
    watch.clock.advance(Duration::from_secs(10));
    let lifted = watch.clock.now();
    assert!(watch.state.blocks.lift(network, lifted).await.unwrap());
    watch.clock.advance(Duration::from_secs(10));

    watch.offended("192.0.2.66", START.plus(Duration::from_secs(9)), 20).await;
    assert_eq!(watch.blocks().await, [], "what was done before");
    watch.offends("192.0.2.66", Reason::TokenInvalid, 4).await;
    assert_eq!(watch.blocks().await, [], "and four times since");
    assert_eq!(watch.enforcement.standing(ip).rounded(), 4);

    // Its record, which comes at last, says nothing that was not known.
    let unblocked =
        AuditRecord::new(EventType::IpUnblocked, Severity::Medium, ip, "x", lifted).with("network", "192.0.2.66");
    watch.enforcement.observe(&unblocked).await;
    assert_eq!(watch.enforcement.standing(ip).rounded(), 4);
    watch.offends("192.0.2.66", Reason::TokenInvalid, 1).await;
    assert_eq!((watch.enforcement.relapses(ip), watch.blocks().await.len()), (2, 1), "the fifth is one too many");
}

#[tokio::test]
async fn merging_leaves_an_administrators_block_and_what_a_later_leader_blocked() {
    let watch = Watch::with(|_| {});
    watch.enforcement.begin_term().await.unwrap();
    for host in ["2001:db8:1::1", "2001:db8:1:1::1", "2001:db8:1:2::1", "2001:db8:1:3::1"] {
        watch.offends(host, Reason::TokenInvalid, 5).await;
    }
    watch.knows_block("2001:db8:1:3::/64", |_| true).await;
    let merged = merging::merge(&watch.enforcement.view.blocks(), START).remove(0);
    let manual = Block { origin: BlockOrigin::Manual, until: None, ..merged.block.clone() };
    let manual = Block { network: "2001:db8:1:2::/64".parse().unwrap(), ..manual };
    watch.state.blocks.put(manual.clone()).await.unwrap();

    watch.enforcement.replace(&merged, START).await.unwrap();
    let left = watch.state.blocks.load(START).await.unwrap().blocks;
    assert_eq!((left.len(), left.contains(&manual)), (2, true), "{left:?}");

    watch.offends("2001:db8:2::1", Reason::TokenInvalid, 5).await;
    watch.state.blocks.begin_term().await.unwrap();
    let network = "2001:db8:2::/64".parse().unwrap();
    let stale = watch.enforcement.blocks.withdraw(network, watch.enforcement.lead()).await.unwrap();
    assert_eq!(stale, Withdrawal::Superseded);
}

#[tokio::test]
async fn h24_clean_users_who_have_been_connected_all_day_are_spared() {
    for (leave, scope) in [(false, BlockScope::Anonymous), (true, BlockScope::Everyone)] {
        let watch = Watch::with(|_| {});
        let users = ["alice", "bob", "carol"];
        let claims = users.map(|user| Claim { key: LeaseKey::User(user.into()), cap: 9 });
        assert_eq!(watch.state.leases.acquire(&claims, START).await.unwrap(), Acquired::Granted);
        for user in users {
            watch.comes_in("192.0.2.7", user).await;
        }
        if leave {
            watch.state.leases.release(&[claims[2].key.clone()]);
        }
        watch.clock.advance(Duration::from_secs(8 * 3600));
        watch.offends("192.0.2.7", Reason::HostileContent, 5).await;
        assert_eq!(watch.knows_block("192.0.2.7/32", |_| true).await.scope, scope, "one has left: {leave}");
    }
}

#[tokio::test]
async fn h24_clean_users_are_spared_after_a_lift_too() {
    let watch = Watch::with(|_| {});
    for user in ["alice", "bob", "carol"] {
        watch.comes_in("192.0.2.7", user).await;
    }
    watch.enforcement.lifted(Lift { network: "192.0.2.7/32".parse().unwrap(), at: START });
    watch.offends("192.0.2.7", Reason::HostileContent, 5).await;
    assert_eq!(watch.knows_block("192.0.2.7/32", |_| true).await.scope, BlockScope::Anonymous);
}

#[tokio::test]
async fn an_unblock_that_is_heard_of_late_leaves_what_was_blocked_since() {
    let watch = Watch::with(|_| {});
    let ip = "192.0.2.66".parse().unwrap();
    let unblocked =
        AuditRecord::new(EventType::IpUnblocked, Severity::Medium, ip, "x", START).with("network", "192.0.2.66");
    watch.clock.advance(Duration::from_secs(1));
    watch.offends("192.0.2.66", Reason::TokenInvalid, 20).await;
    let score = watch.enforcement.standing(ip).score;
    watch.enforcement.observe(&unblocked).await;
    assert_eq!(watch.enforcement.standing(ip).score, score);
    watch.offends("192.0.2.66", Reason::TokenInvalid, 20).await;
    assert_eq!(watch.enforcement.relapses(ip), 1, "it is blocked already");
}

#[tokio::test]
async fn what_is_replayed_scores_and_blocks_nobody() {
    let watch = Watch::with(|_| {});
    let ip = "192.0.2.66".parse().unwrap();
    let offence = AuditRecord::refusal(Reason::TokenInvalid, ip, START);
    let blocked = AuditRecord::new(EventType::IpBlocked, Severity::High, ip, "x", START)
        .with("automatic", true)
        .with("network", "192.0.2.66");
    let unblocked =
        AuditRecord::new(EventType::IpUnblocked, Severity::Medium, ip, "x", START).with("network", "192.0.2.66");
    for record in [&offence, &blocked, &unblocked, &offence, &offence] {
        watch.enforcement.replay(record);
    }
    assert_eq!(watch.enforcement.standing(ip).score, 2.0);
    assert_eq!(watch.enforcement.relapses(ip), 1);
    assert_eq!(watch.blocks().await, []);
}

#[tokio::test]
async fn what_a_rule_of_behaviour_noticed_has_the_rules_points() {
    let watch = Watch::with(|_| {});
    let noticed = |points: f64| {
        let record = AuditRecord::refusal(Reason::Behaviour, "192.0.2.66".parse().unwrap(), watch.clock.now());
        record.with("rule", "many-rooms").with("points", points)
    };
    watch.enforcement.observe(&noticed(0.0)).await;
    watch.enforcement.observe(&noticed(2.0)).await;
    watch.enforcement.observe(&noticed(1e9)).await;
    assert_eq!(
        watch.enforcement.standing("192.0.2.66".parse().unwrap()).score,
        2.0,
        "more than a rule may say is nothing"
    );
    watch.enforcement.observe(&noticed(3.0)).await;
    assert_eq!(watch.blocks().await, [("192.0.2.66/32".to_owned(), Duration::from_secs(600))]);
}
