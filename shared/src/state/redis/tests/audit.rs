//! The audit stream with several readers, with entries that nobody can read, and when it is full.

use futures_util::future::join_all;
use std::sync::Arc;
use std::time::Duration;

use super::block;
use super::server::{Server, eventually};
use crate::audit::{AuditRecord, EventType, Severity};
use crate::clock::Timestamp;
use crate::state::{Blocks, EntryId, RedisOptions, RedisState};

const STREAM: &str = "picket:{audit}:stream";

fn records(n: u64) -> Vec<AuditRecord> {
    let record = |n: u64| {
        AuditRecord::new(
            EventType::ValidationError,
            Severity::Low,
            [192, 0, 2, 1].into(),
            n.to_string(),
            Timestamp::from_millis(n),
        )
    };
    (0..n).map(record).collect()
}

async fn reader(server: &Server, id: &str) -> RedisState {
    server.process_with(RedisOptions { id: id.to_owned(), ..RedisOptions::default() }).await
}

fn ids(batch: &[(EntryId, AuditRecord)]) -> Vec<EntryId> {
    batch.iter().map(|(id, _)| *id).collect()
}

#[tokio::test]
async fn x18_what_a_dead_reader_left_comes_to_another() {
    let server = Server::start().await;
    let (dead, other) = (reader(&server, "c1").await.state().audit, reader(&server, "c2").await.state().audit);
    dead.append(&records(5)).await.unwrap();
    let taken = dead.read(3, Duration::ZERO).await.unwrap();
    let rest = other.read(10, Duration::ZERO).await.unwrap();
    assert_eq!((taken.len(), rest.len()), (3, 2), "each entry has one reader");
    other.acknowledge(&ids(&rest)).await.unwrap();
    assert_eq!(other.read(10, Duration::ZERO).await.unwrap(), [], "not before it was left for 10 s");

    // Redis is told that the entries were delivered 10 s ago.
    for (id, _) in &taken {
        server.command(&["XCLAIM", STREAM, "coordinators", "c1", "0", &id.to_string(), "IDLE", "10000"]).await;
    }
    assert_eq!(other.read(10, Duration::ZERO).await.unwrap(), taken);
    other.acknowledge(&ids(&taken)).await.unwrap();
    assert_eq!(other.lag().await.unwrap(), 0);
}

#[tokio::test]
async fn x23_a_critical_record_that_was_appended_is_on_the_replica_where_there_is_one() {
    let server = Server::start().await;
    let replica = server.start_replica().await;
    let log = reader(&server, "c1").await.state().audit;
    let critical: Vec<_> =
        records(1).into_iter().map(|record| AuditRecord { severity: Severity::Critical, ..record }).collect();
    let waits = async || {
        let stats = server.command(&["INFO", "commandstats"]).await.as_string().unwrap();
        let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_wait:calls="));
        line.map_or(0, |line| line.split(',').next().unwrap().parse::<u64>().unwrap())
    };
    for number in 1..=20 {
        log.append(&critical).await.unwrap();
        assert_eq!(replica.command(&["XLEN", STREAM]).await.as_u64(), Some(number));
    }
    assert_eq!(waits().await, 20);
    log.append(&records(3)).await.unwrap();
    assert_eq!(waits().await, 20, "others do not wait");

    replica.pause();
    for _ in 0..3 {
        log.append(&critical).await.unwrap();
    }
    assert_eq!(waits().await, 21, "a replica that does not answer is not waited for again");
    replica.resume();
}

#[tokio::test]
async fn x09_a_block_is_durable_if_a_replica_has_it() {
    let server = Server::start().await;
    let alone = server.process().await.state().blocks;
    assert!(!alone.put_durably(block("192.0.2.1")).await.unwrap().1, "nobody else has it");

    let replica = server.start_replica().await;
    let blocks = server.process().await.state().blocks;
    for host in 2..20 {
        let (version, durable) = blocks.put_durably(block(&format!("192.0.2.{host}"))).await.unwrap();
        assert!(durable, "{version}");
        let there = replica.command(&["HLEN", "picket:{blocks}:list"]).await.as_u64();
        assert_eq!(there, Some(host));
    }
    replica.pause();
    assert!(!blocks.put_durably(block("192.0.2.100")).await.unwrap().1, "the replica does not answer");
    replica.resume();
}

#[tokio::test]
async fn of_many_blocks_at_once_one_waits_for_all() {
    const AT_ONCE: u64 = 30;
    let server = Server::start().await;
    let puts = async |blocks: Arc<dyn Blocks>, net: &str| {
        let put = |host| {
            let (blocks, block) = (blocks.clone(), block(&format!("{net}.{host}")));
            async move {
                // The last one comes while the others wait.
                tokio::time::sleep(Duration::from_millis(50 * (host / AT_ONCE))).await;
                blocks.put_durably(block).await.unwrap().1
            }
        };
        let durable: Vec<bool> = join_all((1..=AT_ONCE).map(put)).await;
        durable.into_iter().filter(|durable| *durable).count() as u64
    };
    assert_eq!(
        puts(server.process().await.state().blocks, "192.0.2").await,
        0,
        "nobody is refused, and nobody else has them"
    );

    let replica = server.start_replica().await;
    assert_eq!(puts(server.process().await.state().blocks, "198.51.100").await, AT_ONCE);
    let there = replica.command(&["HLEN", "picket:{blocks}:list"]).await.as_u64();
    assert_eq!(there, Some(2 * AT_ONCE));
}

#[tokio::test]
async fn the_stream_is_trimmed_only_below_what_every_group_has_acknowledged() {
    let server = Server::start().await;
    let log = reader(&server, "c1").await.state().audit;
    log.append(&records(6)).await.unwrap();
    server.command(&["XGROUP", "CREATE", STREAM, "archive", "0"]).await;
    let batch = log.read(6, Duration::ZERO).await.unwrap();
    let held = async || server.command(&["XLEN", STREAM]).await.as_u64().unwrap();

    log.acknowledge(&ids(&batch[..2])).await.unwrap();
    assert_eq!(held().await, 6, "the other group has read nothing");
    server.command(&["XGROUP", "DESTROY", STREAM, "archive"]).await;
    log.acknowledge(&ids(&batch[3..])).await.unwrap();
    assert_eq!(held().await, 4, "the third is not acknowledged");
    log.acknowledge(&ids(&batch[2..3])).await.unwrap();
    assert_eq!((held().await, log.lag().await.unwrap()), (0, 0));
    log.append(&records(1)).await.unwrap();
    assert_eq!(log.lag().await.unwrap(), 1);
}

#[tokio::test]
async fn x21_what_cannot_be_read_is_put_aside_and_delays_nobody() {
    let server = Server::start().await;
    let process = reader(&server, "c1").await;
    let log = process.state().audit;
    server.command(&["XADD", STREAM, "*", "record", "garbage"]).await;
    log.append(&records(2)).await.unwrap();
    let batch = log.read(10, Duration::ZERO).await.unwrap();
    assert_eq!(batch.len(), 2);
    log.acknowledge(&ids(&batch)).await.unwrap();
    assert_eq!((log.lag().await.unwrap(), log.dead_letters().await.unwrap()), (1, 0));
    log.read(10, Duration::ZERO).await.unwrap();
    log.read(10, Duration::ZERO).await.unwrap();
    assert_eq!((log.lag().await.unwrap(), log.dead_letters().await.unwrap()), (0, 1));
    assert_eq!(process.corrupt_values(), 1);
}

#[tokio::test]
async fn a_read_waits_for_the_first_record_and_no_longer() {
    let server = Server::start().await;
    let log = reader(&server, "c1").await.state().audit;
    let start = tokio::time::Instant::now();
    assert_eq!(log.read(10, Duration::from_millis(120)).await.unwrap(), []);
    assert!(start.elapsed() >= Duration::from_millis(120));
    let (read, _) = tokio::join!(log.read(10, Duration::from_secs(5)), async {
        log.append(&records(1)).await.unwrap();
    });
    assert_eq!(read.unwrap().len(), 1);
}

#[tokio::test]
async fn a_full_stream_takes_all_of_a_batch_or_nothing() {
    let server = Server::start().await;
    let log = reader(&server, "c1").await.state().audit;
    // One entry short of full: a script adds what 1,000 appends would.
    let fill = format!(
        "for i = 1, {} do redis.call('XADD', KEYS[1], '*', 'record', '') end",
        super::super::audit::ENTRIES_MAX - 1
    );
    server.command(&["EVAL", &fill, "1", STREAM]).await;
    eventually("the server has filled the stream", async || log.append(&records(1)).await.is_ok()).await;
    let error = log.append(&records(1)).await.unwrap_err();
    assert!(error.0.contains("1000000"), "{error}");
    assert_eq!(server.command(&["XLEN", STREAM]).await.as_u64(), Some(super::super::audit::ENTRIES_MAX));
}
