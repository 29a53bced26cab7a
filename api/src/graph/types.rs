//! Flink's SQL types and the Arrow type that carries each; the mapping is fixed, snapshots depend on it.

use std::fmt;
use std::sync::Arc;

use arrow_schema::{DataType, TimeUnit};
use serde::{Deserialize, Serialize};

/// A Flink SQL type without its nullability. <https://nightlies.apache.org/flink/flink-docs-stable/docs/dev/table/types/>
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum SqlType {
    /// The type of a bare NULL, before coercion.
    Null,
    Boolean,
    TinyInt,
    SmallInt,
    Int,
    BigInt,
    Float,
    Double,
    /// 1 <= precision <= 38, scale <= precision.
    Decimal {
        precision: u8,
        scale: u8,
    },
    Char {
        length: u32,
    },
    /// STRING is VARCHAR(2147483647).
    VarChar {
        length: u32,
    },
    Binary {
        length: u32,
    },
    /// BYTES is VARBINARY(2147483647).
    VarBinary {
        length: u32,
    },
    Date,
    Time {
        precision: u8,
    },
    Timestamp {
        precision: u8,
    },
    TimestampLtz {
        precision: u8,
    },
    /// Milliseconds.
    IntervalDayTime,
    /// Months.
    IntervalYearMonth,
}

/// Length of STRING and BYTES.
pub const MAX_LENGTH: u32 = i32::MAX as u32;

impl SqlType {
    pub const STRING: SqlType = SqlType::VarChar { length: MAX_LENGTH };
    pub const BYTES: SqlType = SqlType::VarBinary { length: MAX_LENGTH };

    /// The Arrow type of a column of this type.
    #[must_use]
    pub fn arrow(&self) -> DataType {
        let unit = |p: u8| match p {
            0..=3 => TimeUnit::Millisecond,
            4..=6 => TimeUnit::Microsecond,
            _ => TimeUnit::Nanosecond,
        };
        match self {
            SqlType::Null => DataType::Null,
            SqlType::Boolean => DataType::Boolean,
            SqlType::TinyInt => DataType::Int8,
            SqlType::SmallInt => DataType::Int16,
            SqlType::Int => DataType::Int32,
            SqlType::BigInt => DataType::Int64,
            SqlType::Float => DataType::Float32,
            SqlType::Double => DataType::Float64,
            SqlType::Decimal { precision, scale } => {
                DataType::Decimal128(*precision, i8::try_from(*scale).expect("scale <= 38"))
            }
            SqlType::Char { .. } | SqlType::VarChar { .. } => DataType::Utf8,
            SqlType::Binary { .. } | SqlType::VarBinary { .. } => DataType::Binary,
            SqlType::Date => DataType::Date32,
            SqlType::Time { .. } => DataType::Time32(TimeUnit::Millisecond),
            SqlType::Timestamp { precision } => DataType::Timestamp(unit(*precision), None),
            SqlType::TimestampLtz { precision } => DataType::Timestamp(unit(*precision), Some(Arc::from("UTC"))),
            SqlType::IntervalDayTime => DataType::Duration(TimeUnit::Millisecond),
            SqlType::IntervalYearMonth => DataType::Int32,
        }
    }

    #[must_use]
    pub fn is_string(&self) -> bool {
        matches!(self, SqlType::Char { .. } | SqlType::VarChar { .. })
    }

    #[must_use]
    pub fn is_integer(&self) -> bool {
        matches!(self, SqlType::TinyInt | SqlType::SmallInt | SqlType::Int | SqlType::BigInt)
    }

    #[must_use]
    pub fn is_numeric(&self) -> bool {
        self.is_integer() || matches!(self, SqlType::Float | SqlType::Double | SqlType::Decimal { .. })
    }

    #[must_use]
    pub fn is_timestamp(&self) -> bool {
        matches!(self, SqlType::Timestamp { .. } | SqlType::TimestampLtz { .. })
    }
}

/// As Flink prints types in DESCRIBE and in errors.
impl fmt::Display for SqlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SqlType::Null => f.write_str("NULL"),
            SqlType::Boolean => f.write_str("BOOLEAN"),
            SqlType::TinyInt => f.write_str("TINYINT"),
            SqlType::SmallInt => f.write_str("SMALLINT"),
            SqlType::Int => f.write_str("INT"),
            SqlType::BigInt => f.write_str("BIGINT"),
            SqlType::Float => f.write_str("FLOAT"),
            SqlType::Double => f.write_str("DOUBLE"),
            SqlType::Decimal { precision, scale } => write!(f, "DECIMAL({precision}, {scale})"),
            SqlType::Char { length } => write!(f, "CHAR({length})"),
            SqlType::VarChar { length: MAX_LENGTH } => f.write_str("STRING"),
            SqlType::VarChar { length } => write!(f, "VARCHAR({length})"),
            SqlType::Binary { length } => write!(f, "BINARY({length})"),
            SqlType::VarBinary { length: MAX_LENGTH } => f.write_str("BYTES"),
            SqlType::VarBinary { length } => write!(f, "VARBINARY({length})"),
            SqlType::Date => f.write_str("DATE"),
            SqlType::Time { precision } => write!(f, "TIME({precision})"),
            SqlType::Timestamp { precision } => write!(f, "TIMESTAMP({precision})"),
            SqlType::TimestampLtz { precision } => write!(f, "TIMESTAMP_LTZ({precision})"),
            SqlType::IntervalDayTime => f.write_str("INTERVAL DAY TO SECOND"),
            SqlType::IntervalYearMonth => f.write_str("INTERVAL YEAR TO MONTH"),
        }
    }
}
