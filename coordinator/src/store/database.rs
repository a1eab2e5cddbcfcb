//! A database of either kind: its pools, and sessions that are one transaction each.

use std::time::Duration;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::postgres::PgPool;
use sqlx::sqlite::SqlitePool;
use sqlx::{AssertSqlSafe, Postgres, SqlSafeStr, Sqlite, Transaction};

use super::StoreError;
use super::chain::Sealed;
use super::statement::{Dialect, Row, Statement, Value};
use super::{postgres, sqlite};

/// who holds this lock writes; other coordinators wait
const WRITER_LOCK: i64 = 0x5069_636b_6574;

/// how long a server may take for one statement; it ends those of readers itself before that
const ANSWER_WAIT: Duration = Duration::from_secs(60);

#[derive(Clone)]
pub(super) enum Pool {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

/// one writer, and readers that it does not wait for
#[derive(Clone)]
pub(super) struct Database {
    pub(super) dialect: Dialect,
    pub(super) writer: Pool,
    pub(super) readers: Pool,
}

/// one transaction; what is not committed never was
pub(super) struct Session {
    pub(super) dialect: Dialect,
    transaction: Open,
}

enum Open {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

impl Database {
    /// a consistent view of what is committed
    pub(super) async fn read(&self) -> Result<Session, StoreError> {
        let transaction = match &self.readers {
            Pool::Sqlite(pool) => Open::Sqlite(pool.begin().await?),
            Pool::Postgres(pool) => {
                Open::Postgres(pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?)
            }
        };
        Ok(Session { dialect: self.dialect, transaction })
    }

    /// the only one that writes as long as it lasts
    pub(super) async fn write(&self) -> Result<Session, StoreError> {
        let transaction = match &self.writer {
            Pool::Sqlite(pool) => Open::Sqlite(pool.begin().await?),
            Pool::Postgres(pool) => {
                let mut transaction = pool.begin().await?;
                let lock = sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(WRITER_LOCK);
                lock.execute(&mut *transaction).await?;
                Open::Postgres(transaction)
            }
        };
        Ok(Session { dialect: self.dialect, transaction })
    }

    /// SQLite's log of writes goes into its file, and nothing of it is left; where somebody reads for long, the next time
    pub(super) async fn fold_log(&self) -> Result<(), StoreError> {
        if let Pool::Sqlite(pool) = &self.writer {
            sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(pool).await?;
        }
        Ok(())
    }

    pub(super) async fn close(&self) {
        for pool in [&self.readers, &self.writer] {
            match pool {
                Pool::Sqlite(pool) => pool.close().await,
                Pool::Postgres(pool) => pool.close().await,
            }
        }
    }
}

impl Session {
    pub(super) fn statement(&self, text: impl Into<String>) -> Statement {
        Statement::new(self.dialect, text)
    }

    pub(super) async fn rows(&mut self, statement: Statement) -> sqlx::Result<Vec<Row>> {
        let text = AssertSqlSafe(statement.text);
        match &mut self.transaction {
            Open::Sqlite(transaction) => {
                let query = statement.values.into_iter().fold(sqlx::query(text), bind_sqlite);
                query.fetch_all(&mut **transaction).await?.iter().map(Row::of_sqlite).collect()
            }
            Open::Postgres(transaction) => {
                let query = statement.values.into_iter().fold(sqlx::query(text), bind_postgres);
                answered(query.fetch_all(&mut **transaction)).await?.iter().map(Row::of_postgres).collect()
            }
        }
    }

    pub(super) async fn row(&mut self, statement: Statement) -> sqlx::Result<Option<Row>> {
        Ok(self.rows(statement).await?.into_iter().next())
    }

    /// answers how many rows were touched
    pub(super) async fn execute(&mut self, statement: Statement) -> sqlx::Result<u64> {
        let text = AssertSqlSafe(statement.text);
        match &mut self.transaction {
            Open::Sqlite(transaction) => {
                let query = statement.values.into_iter().fold(sqlx::query(text), bind_sqlite);
                Ok(query.execute(&mut **transaction).await?.rows_affected())
            }
            Open::Postgres(transaction) => {
                let query = statement.values.into_iter().fold(sqlx::query(text), bind_postgres);
                Ok(answered(query.execute(&mut **transaction)).await?.rows_affected())
            }
        }
    }

    /// stores records; answers how many were new
    pub(super) async fn insert(&mut self, slice: i64, records: impl Iterator<Item = Sealed<'_>>) -> sqlx::Result<u64> {
        match &mut self.transaction {
            Open::Sqlite(transaction) => sqlite::insert(transaction, slice, records).await,
            Open::Postgres(transaction) => postgres::insert(transaction, slice, records).await,
        }
    }

    pub(super) async fn commit(self) -> sqlx::Result<()> {
        match self.transaction {
            Open::Sqlite(transaction) => transaction.commit().await,
            Open::Postgres(transaction) => transaction.commit().await,
        }
    }
}

/// what a server answers, unless it is gone without a word
async fn answered<T>(query: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    let answer = tokio::time::timeout(ANSWER_WAIT, query).await;
    answer.unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())))
}

/// the steps that bring a database up to date, in their order
pub(super) fn migrator(files: &[(&'static str, &'static str)]) -> Migrator {
    let migrations = (1..).zip(files).map(|(version, (name, sql))| {
        Migration::new(version, (*name).into(), MigrationType::Simple, sql.into_sql_str(), false)
    });
    Migrator::with_migrations(migrations.collect())
}

type SqliteQuery = sqlx::query::Query<'static, Sqlite, <Sqlite as sqlx::Database>::Arguments>;
type PostgresQuery = sqlx::query::Query<'static, Postgres, <Postgres as sqlx::Database>::Arguments>;

fn bind_sqlite(query: SqliteQuery, value: Value) -> SqliteQuery {
    match value {
        Value::Integer(number) => query.bind(number),
        Value::Text(text) => query.bind(text),
        Value::Bytes(bytes) => query.bind(bytes),
    }
}

fn bind_postgres(query: PostgresQuery, value: Value) -> PostgresQuery {
    match value {
        Value::Integer(number) => query.bind(number),
        Value::Text(text) => query.bind(text),
        Value::Bytes(bytes) => query.bind(bytes),
    }
}
