//! Reading what a script answered.

use fred::types::Value;

use crate::state::StateError;

/// the parts of an answer, taken in order
pub(super) struct Reply(std::vec::IntoIter<Value>);

impl From<Value> for Reply {
    fn from(value: Value) -> Self {
        Reply(value.into_array().into_iter())
    }
}

impl Reply {
    pub(super) fn is_empty(&self) -> bool {
        self.0.as_slice().is_empty()
    }

    pub(super) fn value(&mut self) -> Result<Value, StateError> {
        self.0.next().ok_or_else(unexpected)
    }

    pub(super) fn integer(&mut self) -> Result<i64, StateError> {
        integer(&self.value()?)
    }

    pub(super) fn number(&mut self) -> Result<u64, StateError> {
        self.value()?.as_u64().ok_or_else(unexpected)
    }

    pub(super) fn text(&mut self) -> Result<String, StateError> {
        self.value()?.as_string().ok_or_else(unexpected)
    }

    /// `None` where the script answered `false`
    pub(super) fn bytes(&mut self) -> Result<Option<Vec<u8>>, StateError> {
        match self.value()? {
            Value::Null => Ok(None),
            value => value.into_owned_bytes().map(Some).ok_or_else(unexpected),
        }
    }
}

pub(super) fn integer(value: &Value) -> Result<i64, StateError> {
    value.as_i64().ok_or_else(unexpected)
}

/// the answer is not what the script says it answers
pub(super) fn unexpected() -> StateError {
    StateError("a script gave an unexpected answer".to_owned())
}
