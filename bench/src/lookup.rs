//! The block list with a million prefixes: how long a lookup takes, and how much memory the list.

use anyhow::Result;
use clap::Args;
use ipnet::IpNet;
use picket_shared::clock::{Timestamp, thread_time};
use picket_shared::state::{Block, BlockOrigin, BlockScope, BlockView};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use crate::cpu;
use crate::machine::Machine;
use crate::numbers::Numbers;

const LOOKUPS: usize = 2_000_000;
const UPDATES: usize = 20_000;
const NOW: Timestamp = Timestamp::from_millis(1_764_000_000_000);

#[derive(Debug, Args)]
pub struct LookupArgs {
    /// How many prefixes are blocked
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    blocks: u32,
}

pub fn run(args: &LookupArgs) -> Result<()> {
    let machine = Machine::look();
    let mut numbers = Numbers::new(7);
    let blocked: Vec<_> = (0..args.blocks).map(|_| network(&mut numbers)).collect();
    let before = cpu::resident_bytes(std::process::id())?;
    let view = BlockView::default();
    for part in blocked.chunks(10_000) {
        view.add_missing(part.iter().map(|network| block(*network)).collect());
    }
    let bytes = cpu::resident_bytes(std::process::id())?.saturating_sub(before);
    let honest: Vec<_> = (0..LOOKUPS).map(|_| address(&mut numbers)).collect();
    let hostile: Vec<_> = (0..LOOKUPS).map(|_| blocked[numbers.below(blocked.len())].addr()).collect();
    let (miss, hit) = (lookups(&view, &honest), lookups(&view, &hostile));
    let updates: Vec<_> = (0..UPDATES).map(|_| network(&mut numbers)).collect();
    let start = thread_time();
    for network in &updates {
        view.add_missing(vec![block(*network)]);
    }
    let update = nanos(start, UPDATES);
    println!(
        "## Block lookup\n\n| {} prefixes, IPv4 and IPv6 | |\n|---|---|\n| lookup of an address that is not blocked | {miss:.0} ns |\n\
         | of one that is | {hit:.0} ns |\n| one more block | {update:.0} ns |\n| memory | {:.0} MiB |\n\nMeasured on: {}.",
        view.len(),
        bytes as f64 / f64::from(1 << 20),
        machine.sentence(),
    );
    Ok(())
}

fn lookups(view: &BlockView, addresses: &[IpAddr]) -> f64 {
    let start = thread_time();
    for address in addresses {
        std::hint::black_box(view.find(*address, NOW));
    }
    nanos(start, addresses.len())
}

/// of this thread's processor time: what else the machine does is not the list's cost
fn nanos(start: Duration, count: usize) -> f64 {
    (thread_time() - start).as_nanos() as f64 / count as f64
}

/// as a coordinator blocks: mostly single addresses and /64s, some prefixes
fn network(numbers: &mut Numbers) -> IpNet {
    let address = address(numbers);
    let length = match (address, numbers.below(10)) {
        (IpAddr::V4(_), 0) => 24,
        (IpAddr::V4(_), _) => 32,
        (IpAddr::V6(_), 0) => 48,
        (IpAddr::V6(_), _) => 64,
    };
    IpNet::new_assert(address, length).trunc()
}

/// two of three are IPv4
fn address(numbers: &mut Numbers) -> IpAddr {
    let number = numbers.next();
    match numbers.below(3) {
        0 => IpAddr::V6(Ipv6Addr::from_bits((0x2001_u128 << 112) | (u128::from(number) << 48))),
        _ => IpAddr::V4(Ipv4Addr::from_bits((number >> 16) as u32)),
    }
}

fn block(network: IpNet) -> Block {
    Block {
        network,
        reason: "score 5 reached the threshold 5".to_owned(),
        origin: BlockOrigin::Automatic,
        by: "picket".to_owned(),
        since: NOW,
        until: Some(NOW.plus(Duration::from_secs(600))),
        scope: BlockScope::Everyone,
        users: Vec::new(),
    }
}
