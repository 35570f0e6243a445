//! Arguments and results, the same for every engine.

use std::fmt;

use bytes::Bytes;

use crate::StoreError;

/// An argument of a statement, or a column of a result. `Debug` shows the type only.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    /// BIGINT.
    Int(i64),
    /// TEXT.
    Text(String),
    /// BLOB. Shared, so that an envelope is not copied on its way to the engine.
    Blob(Bytes),
    /// NULL.
    Null,
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(_) => f.write_str("Int(..)"),
            Self::Text(_) => f.write_str("Text(..)"),
            Self::Blob(bytes) => write!(f, "Blob({} bytes)", bytes.len()),
            Self::Null => f.write_str("Null"),
        }
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Self::Blob(value.into())
    }
}

impl From<Bytes> for Value {
    fn from(value: Bytes) -> Self {
        Self::Blob(value)
    }
}

impl From<&[u8]> for Value {
    fn from(value: &[u8]) -> Self {
        Self::Blob(Bytes::copy_from_slice(value))
    }
}

impl<const N: usize> From<[u8; N]> for Value {
    fn from(value: [u8; N]) -> Self {
        Self::Blob(Bytes::copy_from_slice(&value))
    }
}

impl<const N: usize> From<&[u8; N]> for Value {
    fn from(value: &[u8; N]) -> Self {
        Self::Blob(Bytes::copy_from_slice(value))
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// One row of a result. Columns are read by position, from 0.
#[derive(Clone, Debug)]
pub struct Row(pub(crate) Vec<Value>);

impl Row {
    /// A BIGINT that is not NULL.
    ///
    /// # Errors
    /// [`StoreError::Column`] if the column is missing, NULL or of another type.
    pub fn int(&self, index: usize) -> Result<i64, StoreError> {
        self.opt_int(index)?.ok_or(StoreError::Column { index, expected: "a BIGINT" })
    }

    /// A TEXT that is not NULL.
    ///
    /// # Errors
    /// [`StoreError::Column`] if the column is missing, NULL or of another type.
    pub fn text(&self, index: usize) -> Result<String, StoreError> {
        self.opt_text(index)?.ok_or(StoreError::Column { index, expected: "a TEXT" })
    }

    /// A BLOB that is not NULL.
    ///
    /// # Errors
    /// [`StoreError::Column`] if the column is missing, NULL or of another type.
    pub fn blob(&self, index: usize) -> Result<Vec<u8>, StoreError> {
        self.opt_blob(index)?.ok_or(StoreError::Column { index, expected: "a BLOB" })
    }

    /// A BLOB of exactly `N` bytes.
    ///
    /// # Errors
    /// [`StoreError::Column`] if it is anything else.
    pub fn array<const N: usize>(&self, index: usize) -> Result<[u8; N], StoreError> {
        let found = match self.0.get(index) {
            Some(Value::Blob(value)) => value.as_ref().try_into().ok(),
            _ => None,
        };
        found.ok_or(StoreError::Column { index, expected: "a BLOB of the right length" })
    }

    /// A BIGINT or NULL.
    ///
    /// # Errors
    /// [`StoreError::Column`] if the column is missing or of another type.
    pub fn opt_int(&self, index: usize) -> Result<Option<i64>, StoreError> {
        match self.0.get(index) {
            Some(Value::Int(value)) => Ok(Some(*value)),
            Some(Value::Null) => Ok(None),
            _ => Err(StoreError::Column { index, expected: "a BIGINT or NULL" }),
        }
    }

    /// A TEXT or NULL.
    ///
    /// # Errors
    /// [`StoreError::Column`] if the column is missing or of another type.
    pub fn opt_text(&self, index: usize) -> Result<Option<String>, StoreError> {
        match self.0.get(index) {
            Some(Value::Text(value)) => Ok(Some(value.clone())),
            Some(Value::Null) => Ok(None),
            _ => Err(StoreError::Column { index, expected: "a TEXT or NULL" }),
        }
    }

    /// A BLOB or NULL.
    ///
    /// # Errors
    /// [`StoreError::Column`] if the column is missing or of another type.
    pub fn opt_blob(&self, index: usize) -> Result<Option<Vec<u8>>, StoreError> {
        match self.0.get(index) {
            Some(Value::Blob(value)) => Ok(Some(value.to_vec())),
            Some(Value::Null) => Ok(None),
            _ => Err(StoreError::Column { index, expected: "a BLOB or NULL" }),
        }
    }
}
