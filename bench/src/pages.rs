//! How long pages of the audit trail take when the store holds ten million records, and how fast it filled.

use anyhow::Result;
use clap::Args;
use serde_json::json;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::cli::picket_executable;
use crate::ingest::{ADDRESSES, Trail, address, socket_id, user_id};
use crate::machine::{self, Machine};
use crate::numbers::Numbers;
use crate::picket::{Admin, Picket, Plan, policy};
use crate::redis::Redis;
use crate::stats::{ascending, median, percentile};

/// records that wait in Redis at once
const ROUND: u32 = 500_000;
const TRIES: usize = 30;

#[derive(Debug, Args)]
pub struct PagesArgs {
    /// How many records the store holds
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u32).range(1000..=20_000_000))]
    records: u32,
    /// An empty PostgreSQL database, `postgres://…` [default: SQLite]
    #[arg(long, value_name = "URL", env = "PICKET_BENCH_DATABASE", hide_env_values = true)]
    database: Option<String>,
    /// Keep only so many records, so that old ones are deleted while others come
    #[arg(long, value_name = "RECORDS")]
    keep: Option<u32>,
    /// The picket executable [default: beside this one]
    #[arg(long)]
    picket: Option<PathBuf>,
}

/// a page, and what it asks for, each time of somebody else
struct Page {
    title: &'static str,
    path: fn(&mut Numbers) -> String,
}

const PAGES: [Page; 13] = [
    Page { title: "newest 100", path: |_| String::new() },
    Page { title: "newest 1,000", path: |_| "limit=1000".to_owned() },
    Page { title: "of an address", path: |numbers| format!("ip={}", address(numbers.below(ADDRESSES))) },
    Page { title: "of an address that nobody has", path: |numbers| format!("ip=203.0.113.{}", numbers.below(250)) },
    Page { title: "of a prefix of 256", path: |numbers| format!("ip=198.18.{}.0/24", numbers.below(70)) },
    Page { title: "of a user", path: |numbers| format!("userId={}", user_id(numbers.below(ADDRESSES))) },
    Page { title: "of a socket", path: |numbers| format!("socketId={}", socket_id(numbers.below(ADDRESSES))) },
    Page { title: "of a kind", path: |_| "eventType=RATE_LIMIT_EXCEEDED".to_owned() },
    Page { title: "of a severity", path: |_| "severity=high".to_owned() },
    Page { title: "of a kind with another severity", path: |_| "eventType=INVALID_ORIGIN&severity=low".to_owned() },
    Page {
        title: "of an address and a kind",
        path: |numbers| format!("eventType=INVALID_ORIGIN&ip={}", address(numbers.below(ADDRESSES))),
    },
    Page { title: "with a text that many have", path: |_| "text=inspection".to_owned() },
    Page { title: "with a user's name as text", path: |numbers| format!("text={}", user_id(numbers.below(ADDRESSES))) },
];

pub async fn run(args: &PagesArgs) -> Result<()> {
    let executable = picket_executable(args.picket.as_ref())?;
    let machine = Machine::look();
    let redis = Redis::start(None).await?;
    let plan = Plan {
        executable: &executable,
        redis: redis.url(),
        routes: json!([]),
        // Blocks of ten thousand made-up addresses are another measurement.
        policy: policy(json!({ "security": { "blockSuspiciousIps": false } })),
        limits: json!({}),
    };
    let mut store = json!({ "retention": { "maxRecords": args.keep } });
    if let Some(url) = &args.database {
        store["auditStore"] = json!(url);
    }
    let coordinator = plan.coordinator_with("coordinator-1", None, json!({ "coordinator": store })).await?;
    let trail = Trail::open(&redis).await?;
    let rates = fill(&trail, args.records, &redis, &coordinator).await?;
    let admin = Admin::new(&coordinator)?;

    println!(
        "## Pages of {} audit records in {}\n\n| page of 100, unless said | median | p95 | longest of {TRIES} |\n|---|---|---|---|",
        args.records,
        if args.database.is_some() { "PostgreSQL" } else { "SQLite" },
    );
    for page in PAGES {
        let times = times(&admin, &page).await?;
        let (half, most) = (median(&times).unwrap_or_default(), percentile(&times, 0.95).unwrap_or_default());
        let longest = times.last().copied().unwrap_or_default();
        println!("| {} | {half:.1} ms | {most:.1} ms | {longest:.1} ms |", page.title);
    }
    let (first, last) = (rates.first().copied().unwrap_or_default(), rates.last().copied().unwrap_or_default());
    println!(
        "\nRecords stored per second: the first {ROUND} {first:.0}, the last {last:.0}, at the median {:.0}{}.\n\n\
         Measured on: {}; {}.",
        median(&rates).unwrap_or_default(),
        args.keep.map_or_else(String::new, |keep| format!(", of which {keep} are kept")),
        machine.sentence(),
        machine::version(&executable, "--version"),
    );
    Ok(())
}

/// in rounds, each of which is stored before the next; how many records a second each took
async fn fill(trail: &Trail, records: u32, redis: &Redis, coordinator: &Picket) -> Result<Vec<f64>> {
    let (mut stored, mut rates) = (0, Vec::new());
    while stored < records {
        let round = ROUND.min(records - stored);
        coordinator.process.signal("STOP").await?;
        trail.fill(round, stored).await?;
        coordinator.process.signal("CONT").await?;
        let took = trail.is_stored(redis, coordinator).await?;
        stored += round;
        rates.push(f64::from(round) / took.seconds);
        eprintln!("{stored} records are stored, the last {round} at {:.0} a second", rates[rates.len() - 1]);
    }
    Ok(rates)
}

/// in milliseconds, ascending
async fn times(admin: &Admin, page: &Page) -> Result<Vec<f64>> {
    let mut numbers = Numbers::new(7);
    let mut times = Vec::with_capacity(TRIES);
    for _ in 0..TRIES {
        let path = format!("/audit-logs?{}", (page.path)(&mut numbers));
        let start = Instant::now();
        admin.get(&path).await?;
        times.push(millis(start.elapsed()));
    }
    Ok(ascending(times))
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
