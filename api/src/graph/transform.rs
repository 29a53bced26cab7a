//! The steps of a dataflow.

use serde::{Deserialize, Serialize};

use super::{Expr, Field, Schema, SinkConnector, SourceConnector, SqlType, duration_text};
use crate::ids::{TransformId, TransformUid};

/// A step of the dataflow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Transform {
    pub id: TransformId,
    /// Statement label / kind / ordinal; a source's is its table. State is found by it.
    pub uid: TransformUid,
    /// For people: `explain`, status, metrics, logs.
    pub name: String,
    pub kind: TransformKind,
    /// Columns that leave the transform, without the row kind. Of a sink: the columns it writes.
    pub output: Schema,
    /// Whether updates can leave the transform: then its batches end with the row-kind column.
    pub changelog: ChangelogMode,
}

/// What kinds of rows can occur on a transform's output.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "camelCase")]
pub enum ChangelogMode {
    /// Only inserts: batches have no row-kind column.
    #[default]
    Append,
    /// -U right before its +U in one batch; where a filter lets only one of the two pass, it is a -D or a +I.
    /// `upsert_keys`: output columns that identify a row; none: a single row, or rows without a key.
    Retract { upsert_keys: Vec<usize> },
}

impl ChangelogMode {
    #[must_use]
    pub fn is_append(&self) -> bool {
        matches!(self, ChangelogMode::Append)
    }
}

/// Row kinds as they stand in the row-kind column; Flink's `RowKind.toByteValue`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum RowKind {
    Insert = 0,
    UpdateBefore = 1,
    UpdateAfter = 2,
    Delete = 3,
}

impl RowKind {
    /// The kind with this byte value.
    #[must_use]
    pub fn from_byte(byte: i8) -> Option<Self> {
        Some(match byte {
            0 => Self::Insert,
            1 => Self::UpdateBefore,
            2 => Self::UpdateAfter,
            3 => Self::Delete,
            _ => return None,
        })
    }

    /// `+I`, `-U`, `+U`, `-D`.
    #[must_use]
    pub fn short(self) -> &'static str {
        match self {
            Self::Insert => "+I",
            Self::UpdateBefore => "-U",
            Self::UpdateAfter => "+U",
            Self::Delete => "-D",
        }
    }
}

/// What a transform does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum TransformKind {
    Source(SourceTransform),
    /// Keeps the rows for which `filter` is true, then computes one column per expression. A row-kind column passes through.
    Calc {
        filter: Option<Expr>,
        projection: Vec<Expr>,
    },
    /// UNION ALL: forwards every input.
    Union,
    /// A window table function without an aggregate: appends window_start, window_end, window_time.
    WindowAssign {
        window: Window,
    },
    /// First phase of a window aggregate, before the hash edge. Output: keys, slice end (BIGINT, epoch ms), accumulator columns.
    LocalWindowAggregate {
        window: Window,
        keys: Vec<usize>,
        aggregates: Vec<AggregateCall>,
    },
    /// Second phase: merges accumulators by key and slice, emits a row per key when the watermark passes a window's end.
    /// Output: keys, aggregate results, then the window columns asked for, in that order.
    GlobalWindowAggregate {
        window: Window,
        keys: Vec<Field>,
        aggregates: Vec<AggregateCall>,
        window_columns: Vec<WindowColumn>,
    },
    /// First phase of an aggregate without window: combines within a batch (within a mini-batch, when set).
    /// Output: keys, accumulator columns.
    LocalGroupAggregate {
        keys: Vec<usize>,
        aggregates: Vec<AggregateCall>,
        mini_batch: Option<MiniBatch>,
    },
    /// Second phase: keyed state, an updating result. Output: keys, aggregate results, row kind.
    GlobalGroupAggregate {
        keys: Vec<Field>,
        aggregates: Vec<AggregateCall>,
        mini_batch: Option<MiniBatch>,
        state_ttl_ms: Option<u64>,
    },
    Sink(SinkTransform),
}

/// A table that is read: scan, then computed columns, then the watermark.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceTransform {
    pub table: String,
    pub connector: SourceConnector,
    /// Columns decoded from the record or taken from its metadata; only those that somebody reads.
    pub scan: Vec<ScanColumn>,
    /// The output columns as expressions over `scan`; columns pass through, computed columns are evaluated.
    pub projection: Vec<Expr>,
    pub watermark: Option<WatermarkSpec>,
}

/// A column as the source finds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanColumn {
    pub field: Field,
    /// `None`: a field of the record's value (or key, as the format options say). `Some`: this metadata key of the connector.
    pub metadata: Option<String>,
}

/// `WATERMARK FOR column AS expr`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WatermarkSpec {
    /// Position of the event-time column in the source's output: a TIMESTAMP or TIMESTAMP_LTZ of precision 3 at most.
    pub column: usize,
    /// Over the source's output, same type as the column. The watermark of a split is the largest value so far.
    pub expr: Expr,
    /// `table.exec.source.idle-timeout` or the table's own; `None`: never idle.
    pub idle_timeout_ms: Option<u64>,
}

/// A table that is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SinkTransform {
    pub table: String,
    pub connector: SinkConnector,
    /// PRIMARY KEY columns, by position.
    pub primary_key: Vec<usize>,
    /// `table.exec.sink.not-null-enforcer`: a NULL in a NOT NULL column fails the job, or the row is dropped and counted.
    pub not_null_enforcer: NotNullEnforcer,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NotNullEnforcer {
    #[default]
    Error,
    Drop,
}

/// A window over an event-time column; all durations in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Event-time column of the input (of the local phase's input).
    pub time_column: usize,
    pub time_type: SqlType,
    pub size_ms: i64,
    /// Equal to `size_ms` for TUMBLE. A HOP is computed in slices of gcd(size, slide), shared by its windows.
    pub slide_ms: i64,
    pub offset_ms: i64,
}

impl Window {
    /// `HOP(size=1 h, slide=5 min)`
    #[must_use]
    pub fn shape_text(&self) -> String {
        let offset = match self.offset_ms {
            0 => String::new(),
            offset_ms => format!(", offset={}", duration_text(offset_ms)),
        };
        if self.slide_ms == self.size_ms {
            format!("TUMBLE(size={}{offset})", duration_text(self.size_ms))
        } else {
            let (size, slide) = (duration_text(self.size_ms), duration_text(self.slide_ms));
            format!("HOP(size={size}, slide={slide}{offset})")
        }
    }
}

/// A column that a window function adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum WindowColumn {
    Start,
    End,
    /// End - 1 ms, an event-time attribute.
    Time,
}

impl WindowColumn {
    /// As SQL calls it.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Start => "window_start",
            Self::End => "window_end",
            Self::Time => "window_time",
        }
    }
}

/// An aggregate function over an input column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AggregateCall {
    pub function: AggregateFunction,
    /// Input column of the local phase; `None` for COUNT(*).
    pub arg: Option<usize>,
    pub arg_type: Option<SqlType>,
    /// A BOOLEAN input column of the local phase: FILTER (WHERE ...).
    pub filter: Option<usize>,
    /// The result.
    pub output: Field,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AggregateFunction {
    Count,
    Sum,
    Avg,
    Min,
    Max,
}

impl AggregateFunction {
    /// As SQL calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Count => "COUNT",
            Self::Sum => "SUM",
            Self::Avg => "AVG",
            Self::Min => "MIN",
            Self::Max => "MAX",
        }
    }
}

impl AggregateCall {
    /// The accumulator's columns, as they travel between the two phases and as they are kept in state.
    ///
    /// COUNT: count BIGINT. SUM: sum in the result's type, nullable (NULL while no value was seen).
    /// MIN and MAX: the value, nullable. AVG: sum (BIGINT for integers, DOUBLE, or DECIMAL(38, s)) and count BIGINT.
    #[must_use]
    pub fn accumulator(&self) -> Vec<Field> {
        let name = &self.output.name;
        match self.function {
            AggregateFunction::Count => vec![Field::new(format!("{name}$count"), SqlType::BigInt, false)],
            AggregateFunction::Sum | AggregateFunction::Min | AggregateFunction::Max => {
                vec![Field::new(format!("{name}$value"), self.output.ty.clone(), true)]
            }
            AggregateFunction::Avg => {
                let sum = match self.arg_type.as_ref() {
                    Some(SqlType::Decimal { scale, .. }) => SqlType::Decimal { precision: 38, scale: *scale },
                    Some(SqlType::Float | SqlType::Double) => SqlType::Double,
                    _ => SqlType::BigInt,
                };
                vec![
                    Field::new(format!("{name}$sum"), sum, true),
                    Field::new(format!("{name}$count"), SqlType::BigInt, false),
                ]
            }
        }
    }
}

/// `table.exec.mini-batch.*`: how long and how many input rows may be combined before results are emitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MiniBatch {
    pub allow_latency_ms: u64,
    pub size: u64,
}
