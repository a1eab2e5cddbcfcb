//! Shares on Redis: the script answers as the reference model does, and nodes that use it keep every window within its limit.

use proptest::prelude::*;
use std::sync::Arc;
use std::time::Duration;

use super::server::Server;
use super::{UNUSED, messages_of};
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::state::shares_model::Book;
use crate::state::{Charge, Counters, Holdings, Identities, Overshoot, ShareId, Shares, Spent};
use crate::window::Quota;

#[derive(Clone, Debug)]
enum Step {
    /// a holder reports what it used of its last share, if it has one, and takes the next
    Take {
        holder: u64,
        used: u32,
        forgets: bool,
    },
    Settle {
        holder: u64,
        used: u32,
        twice: bool,
    },
    Wait {
        ms: u64,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let waits = prop::sample::select(vec![1u64, 15, 160, 500, 990, 1100, 2500]);
    prop::collection::vec(
        prop_oneof![
            4 => (0u64..3, 0u32..40, prop::bool::weighted(0.1)).prop_map(|(holder, used, forgets)| Step::Take { holder, used, forgets }),
            1 => (0u64..3, 0u32..40, any::<bool>()).prop_map(|(holder, used, twice)| Step::Settle { holder, used, twice }),
            3 => waits.prop_map(|ms| Step::Wait { ms }),
        ],
        1..120,
    )
}

#[tokio::test]
async fn the_script_answers_as_the_reference_model_does() {
    let server = Server::start().await;
    let real = server.state_by_caller().await.shares.unwrap();
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || {
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(40));
        let cases = std::sync::atomic::AtomicU64::new(0);
        runner
            .run(&(steps(), prop::sample::select(vec![1u32, 9, 100, 1000])), |(steps, limit)| {
                let case = cases.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                runtime.block_on(plays(&*real, steps, Quota::new(limit, 1000), case));
                Ok(())
            })
            .unwrap();
    })
    .await
    .unwrap();
}

async fn plays(real: &dyn Shares, steps: Vec<Step>, quota: Quota, case: u64) {
    let (model, key) = (Book::default(), messages_of(&format!("case-{case}")));
    let mut now = Timestamp::from_millis(1_764_000_000_000);
    let mut held: [Option<ShareId>; 3] = [None; 3];
    let mut number = 0;
    let life = Duration::from_millis(500);
    for step in steps {
        let spent_of = |share: Option<ShareId>, used: u32| share.map(|share| Spent { share, uses: vec![(now, used)] });
        match step {
            Step::Wait { ms } => now = now.plus(Duration::from_millis(ms)),
            Step::Take { holder, used, forgets } => {
                let slot = &mut held[usize::try_from(holder).unwrap()];
                let spent = if forgets { None } else { spent_of(*slot, used) };
                number += 1;
                let share = ShareId { holder, number };
                let expected = model.take(&key, quota, share, life, spent.as_ref(), now).await.unwrap();
                assert_eq!(real.take(&key, quota, share, life, spent.as_ref(), now).await.unwrap(), expected);
                *slot = Some(share);
            }
            Step::Settle { holder, used, twice } => {
                let Some(spent) = spent_of(held[usize::try_from(holder).unwrap()].take(), used) else { continue };
                for _ in 0..=usize::from(twice) {
                    let excess = model.settle(&key, quota, &spent, now).await.unwrap();
                    assert_eq!(real.settle(&key, quota, &spent, now).await.unwrap(), excess);
                }
            }
        }
    }
}

#[tokio::test]
async fn x01_three_nodes_with_shares_stay_within_the_limit_in_every_window() {
    const LIMIT: u32 = 50;
    let server = Server::start().await;
    let (mut nodes, overshoot) = (Vec::new(), Arc::<Overshoot>::default());
    for _ in 0..3 {
        let state = server.process().await.state();
        nodes.push(Arc::new(Holdings::new(
            state.counters,
            state.shares.unwrap(),
            Arc::new(SystemClock),
            Identities::new(1000),
            overshoot.clone(),
        )));
    }
    let quota = Quota::new(LIMIT, 1000);
    let (mut admitted, mut tried) = (Vec::new(), 0);
    let start = SystemClock.now();
    while SystemClock.now().since(start) < Duration::from_secs(5) {
        for node in &nodes {
            tried += 1;
            if let Charge::Granted(_) = node.charge(messages_of("alice"), quota, SystemClock.now()).await.unwrap() {
                admitted.push(SystemClock.now());
            }
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    let worst = (0..admitted.len())
        .map(|last| admitted[..=last].iter().filter(|at| admitted[last].since(**at) < quota.window).count())
        .max()
        .unwrap_or(0);
    println!("x01: {} of {tried} admitted in 5 s, at most {worst} in any second; the limit is {LIMIT}", admitted.len());
    assert!(worst <= LIMIT as usize, "{worst}");
    assert!(overshoot.overshot().iter().all(|(_, kind)| kind.over == 0), "{overshoot:?}");
    assert!(admitted.len() >= 5 * LIMIT as usize * 9 / 10, "{} admitted", admitted.len());
}

#[tokio::test]
async fn an_exact_charge_counts_what_is_out_as_shares() {
    let server = Server::start().await;
    let state = server.process().await.state();
    let (counters, shares) = (state.counters, state.shares.unwrap());
    let quota = Quota::new(10, 60_000);
    for number in 0..4 {
        let share = ShareId { holder: 1, number };
        shares.take(&messages_of("alice"), quota, share, Duration::from_secs(30), None, UNUSED).await.unwrap();
    }
    let mut granted = 0;
    for _ in 0..20 {
        let charge = counters.charge(messages_of("alice"), quota, UNUSED).await.unwrap();
        granted += usize::from(matches!(charge, Charge::Granted(_)));
    }
    assert_eq!(granted, 6);
}
