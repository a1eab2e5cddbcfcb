//! SQL that both databases speak: a statement with its values, and rows of plain values.

use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{Column, Row as _, TypeInfo, ValueRef};

/// where the databases differ
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Sqlite,
    Postgres,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Integer(Option<i64>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Value::Integer(Some(number))
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Value::Integer(Some(i64::try_from(number).unwrap_or(i64::MAX)))
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Value::Integer(Some(number.into()))
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Text(Some(text.to_owned()))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::Text(Some(text))
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Value::Bytes(Some(bytes))
    }
}

impl<const N: usize> From<[u8; N]> for Value {
    fn from(bytes: [u8; N]) -> Self {
        Value::Bytes(Some(bytes.to_vec()))
    }
}

/// a statement being written; values only enter it bound
pub(super) struct Statement {
    dialect: Dialect,
    pub(super) text: String,
    pub(super) values: Vec<Value>,
}

impl Statement {
    pub(super) fn new(dialect: Dialect, text: impl Into<String>) -> Self {
        Statement { dialect, text: text.into(), values: Vec::new() }
    }

    pub(super) fn push(&mut self, text: &str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    pub(super) fn bind(&mut self, value: impl Into<Value>) -> &mut Self {
        self.values.push(value.into());
        match self.dialect {
            Dialect::Sqlite => self.text.push('?'),
            Dialect::Postgres => self.text.push_str(&format!("${}", self.values.len())),
        }
        self
    }

    /// `(…, …)`
    pub(super) fn bind_all<V: Into<Value>>(&mut self, values: impl IntoIterator<Item = V>) -> &mut Self {
        for (place, value) in values.into_iter().enumerate() {
            self.push(if place == 0 { "(" } else { ", " }).bind(value);
        }
        self.push(")")
    }

    /// A column whose index stays out of the plan: SQLite's planner knows no frequencies, PostgreSQL's knows those of some time ago.
    /// `same` is what changes nothing: `+ 0`, `|| ''`.
    pub(super) fn push_unindexed(&mut self, column: &str, same: &str) -> &mut Self {
        match self.dialect {
            Dialect::Sqlite => self.push("+").push(column),
            Dialect::Postgres => self.push("(").push(column).push(" ").push(same).push(")"),
        }
    }

    /// The time, where the index has something before it. In PostgreSQL's it is an expression (0002_kinds.sql).
    pub(super) fn push_time_of_index(&mut self) -> &mut Self {
        match self.dialect {
            Dialect::Sqlite => self.push("timestamp"),
            Dialect::Postgres => self.push("(timestamp + 0)"),
        }
    }

    /// a comparison with a pattern that takes upper and lower case for the same
    pub(super) fn push_like(&mut self, pattern: &str) -> &mut Self {
        let word = match self.dialect {
            Dialect::Sqlite => " LIKE ",
            Dialect::Postgres => " ILIKE ",
        };
        self.push(word).bind(pattern).push(r" ESCAPE '\'")
    }

    /// whether a column holds a text, byte for byte
    pub(super) fn push_contains(&mut self, column: &str, text: &str) -> &mut Self {
        let function = match self.dialect {
            Dialect::Sqlite => "instr(",
            Dialect::Postgres => "strpos(",
        };
        self.push(function).push(column).push(", ").bind(text).push(") > 0")
    }
}

/// a row of an answer
pub(super) struct Row(Vec<Value>);

impl Row {
    pub(super) fn of_sqlite(row: &SqliteRow) -> sqlx::Result<Self> {
        let value = |column: usize| {
            let raw = row.try_get_raw(column)?;
            if raw.is_null() {
                return Ok(Value::Integer(None));
            }
            let kind = raw.type_info();
            match kind.name() {
                "INTEGER" => row.try_get(column).map(Value::Integer),
                "TEXT" => row.try_get(column).map(Value::Text),
                _ => row.try_get(column).map(Value::Bytes),
            }
        };
        (0..row.len()).map(value).collect::<sqlx::Result<_>>().map(Row)
    }

    pub(super) fn of_postgres(row: &PgRow) -> sqlx::Result<Self> {
        let value = |column: usize| match row.column(column).type_info().name() {
            "INT8" => row.try_get(column).map(Value::Integer),
            "BYTEA" => row.try_get(column).map(Value::Bytes),
            _ => row.try_get(column).map(Value::Text),
        };
        (0..row.len()).map(value).collect::<sqlx::Result<_>>().map(Row)
    }

    pub(super) fn integer(&self, column: usize) -> sqlx::Result<i64> {
        self.maybe_integer(column)?.ok_or_else(|| unreadable("number"))
    }

    pub(super) fn maybe_integer(&self, column: usize) -> sqlx::Result<Option<i64>> {
        match self.0.get(column) {
            Some(Value::Integer(number)) => Ok(*number),
            _ => Err(unreadable("number")),
        }
    }

    pub(super) fn unsigned(&self, column: usize) -> sqlx::Result<u64> {
        Ok(u64::try_from(self.integer(column)?).unwrap_or(0))
    }

    pub(super) fn text(&mut self, column: usize) -> sqlx::Result<String> {
        self.maybe_text(column)?.ok_or_else(|| unreadable("text"))
    }

    /// takes it out of the row
    pub(super) fn maybe_text(&mut self, column: usize) -> sqlx::Result<Option<String>> {
        match self.0.get_mut(column) {
            Some(Value::Text(text)) => Ok(text.take()),
            Some(Value::Integer(None)) => Ok(None),
            _ => Err(unreadable("text")),
        }
    }

    pub(super) fn bytes(&self, column: usize) -> sqlx::Result<&[u8]> {
        self.maybe_bytes(column)?.ok_or_else(|| unreadable("value"))
    }

    pub(super) fn maybe_bytes(&self, column: usize) -> sqlx::Result<Option<&[u8]>> {
        match self.0.get(column) {
            Some(Value::Bytes(bytes)) => Ok(bytes.as_deref()),
            Some(Value::Integer(None)) => Ok(None),
            _ => Err(unreadable("value")),
        }
    }

    pub(super) fn array<const N: usize>(&self, column: usize) -> sqlx::Result<[u8; N]> {
        self.maybe_array(column)?.ok_or_else(|| unreadable("hash"))
    }

    pub(super) fn maybe_array<const N: usize>(&self, column: usize) -> sqlx::Result<Option<[u8; N]>> {
        let bytes = self.maybe_bytes(column)?;
        bytes.map(|bytes| bytes.try_into().map_err(|_| unreadable("hash"))).transpose()
    }
}

pub(super) fn unreadable(what: &'static str) -> sqlx::Error {
    sqlx::Error::Decode(format!("a stored {what} is not known").into())
}
