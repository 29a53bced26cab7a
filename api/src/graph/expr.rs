//! Typed scalar expressions: a small tree that does not depend on any engine's version.

use serde::{Deserialize, Serialize};

use super::SqlType;

/// An expression over the columns of one input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Expr {
    pub ty: SqlType,
    pub nullable: bool,
    pub kind: ExprKind,
}

/// The forms of an expression.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "expr", rename_all = "camelCase")]
pub enum ExprKind {
    /// Column of the input by position.
    Column {
        index: usize,
    },
    Literal {
        value: Literal,
    },
    /// A built-in function or operator by its upper-case Flink name (`UPPER`, `+`, `=`, `AND`, `IS NULL`, ...).
    /// The planner has already cast the arguments to the types that the function wants.
    Call {
        function: String,
        args: Vec<Expr>,
    },
    /// `CAST`, or `TRY_CAST` (NULL instead of an error) when `try_cast`.
    Cast {
        arg: Box<Expr>,
        try_cast: bool,
    },
    /// Searched CASE. A simple CASE is rewritten to it.
    Case {
        branches: Vec<(Expr, Expr)>,
        otherwise: Option<Box<Expr>>,
    },
}

/// A constant. Its SQL type stands in the expression.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "literal", content = "value", rename_all = "camelCase")]
pub enum Literal {
    Null,
    Boolean(bool),
    /// All integer types.
    Int(i64),
    /// FLOAT and DOUBLE, by their bits, so that equality and hashing are exact.
    FloatBits(u64),
    /// Unscaled value as decimal text (an i128).
    Decimal(String),
    String(String),
    Bytes(Vec<u8>),
    /// Days since the epoch.
    Date(i32),
    /// Milliseconds of the day.
    Time(i32),
    /// In the unit of the Arrow type.
    Timestamp(i64),
    IntervalMillis(i64),
    IntervalMonths(i32),
}

impl Expr {
    #[must_use]
    pub fn column(index: usize, ty: SqlType, nullable: bool) -> Self {
        Self { ty, nullable, kind: ExprKind::Column { index } }
    }

    /// Calls `visit` with the index of every column that the expression reads.
    pub fn visit_columns(&self, visit: &mut impl FnMut(usize)) {
        match &self.kind {
            ExprKind::Column { index } => visit(*index),
            ExprKind::Literal { .. } => {}
            ExprKind::Call { args, .. } => args.iter().for_each(|a| a.visit_columns(visit)),
            ExprKind::Cast { arg, .. } => arg.visit_columns(visit),
            ExprKind::Case { branches, otherwise } => {
                for (when, then) in branches {
                    when.visit_columns(visit);
                    then.visit_columns(visit);
                }
                if let Some(e) = otherwise {
                    e.visit_columns(visit);
                }
            }
        }
    }
}
