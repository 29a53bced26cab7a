//! The tree that the parser makes: only what the planner knows, every node with its place.

use millstream_api::graph::SqlType;

use crate::error::Position;

/// A name as written. Names are case-sensitive, as in Flink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ident {
    pub text: String,
    pub position: Position,
}

#[derive(Clone, Debug)]
pub(crate) struct Statement {
    pub position: Position,
    pub kind: StatementKind,
}

#[derive(Clone, Debug)]
pub(crate) enum StatementKind {
    CreateTable(CreateTable),
    CreateView(CreateView),
    Insert(Insert),
    Set { key: String, key_position: Position, value: String, value_position: Position },
}

#[derive(Clone, Debug)]
pub(crate) struct CreateTable {
    pub name: Ident,
    pub if_not_exists: bool,
    pub columns: Vec<ColumnDef>,
    pub watermark: Option<WatermarkDef>,
    pub primary_key: Option<PrimaryKeyDef>,
    pub options: Vec<OptionDef>,
    /// Of the WITH keyword, or of the name where there is none: errors about missing options point here.
    pub options_position: Position,
}

#[derive(Clone, Debug)]
pub(crate) struct ColumnDef {
    pub name: Ident,
    pub kind: ColumnKind,
}

#[derive(Clone, Debug)]
pub(crate) enum ColumnKind {
    Physical(TypeDef),
    Metadata { ty: TypeDef, key: Option<Ident>, is_virtual: bool },
    Computed(Expr),
}

/// A type with its nullability, as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TypeDef {
    pub ty: SqlType,
    pub nullable: bool,
    pub position: Position,
}

#[derive(Clone, Debug)]
pub(crate) struct WatermarkDef {
    pub column: Ident,
    pub expr: Expr,
}

#[derive(Clone, Debug)]
pub(crate) struct PrimaryKeyDef {
    pub position: Position,
    pub columns: Vec<Ident>,
}

/// `'key' = 'value'`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OptionDef {
    pub key: String,
    pub position: Position,
    pub value: String,
    pub value_position: Position,
}

#[derive(Clone, Debug)]
pub(crate) struct CreateView {
    pub name: Ident,
    pub if_not_exists: bool,
    pub columns: Vec<Ident>,
    pub query: Query,
}

#[derive(Clone, Debug)]
pub(crate) struct Insert {
    pub table: Ident,
    /// What the user calls the statement.
    pub label: Option<Ident>,
    pub columns: Option<Vec<Ident>>,
    pub query: Query,
}

/// `[WITH name AS (query), ..] body`
#[derive(Clone, Debug)]
pub(crate) struct Query {
    pub position: Position,
    pub with: Vec<(Ident, Vec<Ident>, Query)>,
    pub body: QueryBody,
}

#[derive(Clone, Debug)]
pub(crate) enum QueryBody {
    Select(Box<Select>),
    UnionAll(Vec<Query>),
}

#[derive(Clone, Debug)]
pub(crate) struct Select {
    pub distinct: bool,
    pub items: Vec<SelectItem>,
    pub from: TableRef,
    pub filter: Option<Expr>,
    /// `None`: no GROUP BY. `Some(empty)`: `GROUP BY ()`.
    pub group_by: Option<Vec<Expr>>,
    pub having: Option<Expr>,
}

#[derive(Clone, Debug)]
pub(crate) enum SelectItem {
    /// `*` or `t.*`
    Wildcard {
        qualifier: Option<Ident>,
        position: Position,
    },
    Expr {
        expr: Expr,
        alias: Option<Ident>,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct TableRef {
    pub position: Position,
    pub kind: TableRefKind,
    pub alias: Option<Ident>,
    pub column_aliases: Vec<Ident>,
}

#[derive(Clone, Debug)]
pub(crate) enum TableRefKind {
    Named(Ident),
    Query(Box<Query>),
    Window(Box<WindowCall>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WindowKind {
    Tumble,
    Hop,
}

/// `TUMBLE(TABLE t, DESCRIPTOR(c), size[, offset])`, `HOP(TABLE t, DESCRIPTOR(c), slide, size[, offset])`
#[derive(Clone, Debug)]
pub(crate) struct WindowCall {
    pub kind: WindowKind,
    pub position: Position,
    pub input: TableRef,
    pub time_column: Ident,
    pub size: Expr,
    pub slide: Option<Expr>,
    pub offset: Option<Expr>,
}

#[derive(Clone, Debug)]
pub(crate) struct Expr {
    pub position: Position,
    /// Height of the tree below and including this node; the parser bounds it.
    pub depth: usize,
    pub kind: ExprKind,
}

#[derive(Clone, Debug)]
pub(crate) enum ExprKind {
    /// `c`, `t.c`
    Column {
        qualifier: Option<Ident>,
        name: Ident,
    },
    Literal(Literal),
    /// Operators and functions by their name in the function list or an upper-case function name.
    Call(Call),
    Cast {
        arg: Box<Expr>,
        ty: TypeDef,
        try_cast: bool,
    },
    Case {
        operand: Option<Box<Expr>>,
        branches: Vec<(Expr, Expr)>,
        otherwise: Option<Box<Expr>>,
    },
    Between {
        value: Box<Expr>,
        low: Box<Expr>,
        high: Box<Expr>,
        negated: bool,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// Upper case.
    pub name: String,
    pub args: Vec<Expr>,
    /// `COUNT(*)`
    pub star: bool,
    /// `COUNT(DISTINCT x)`
    pub distinct: bool,
    pub filter: Option<Box<Expr>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Literal {
    Null,
    Boolean(bool),
    /// As written, without sign.
    Number(String),
    String(String),
    Bytes(Vec<u8>),
    Date(String),
    Time(String),
    Timestamp(String),
    Interval {
        value: String,
        from: TimeUnit,
        to: Option<TimeUnit>,
        negative: bool,
    },
    /// The unit of EXTRACT, FLOOR, TIMESTAMPADD.
    Unit(TimeUnit),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TimeUnit {
    Millennium,
    Century,
    Decade,
    Year,
    IsoYear,
    Quarter,
    Month,
    Week,
    Day,
    DayOfWeek,
    IsoDayOfWeek,
    DayOfYear,
    Hour,
    Minute,
    Second,
    Millisecond,
    Microsecond,
    Nanosecond,
    Epoch,
}

impl TimeUnit {
    /// By its name in upper case; plurals and the SQL_TSI_ names of TIMESTAMPADD too.
    pub fn parse(word: &str) -> Option<Self> {
        let word = word.strip_prefix("SQL_TSI_").unwrap_or(word);
        let singular = word.strip_suffix('S').filter(|w| Self::NAMES.iter().any(|(n, _)| n == w)).unwrap_or(word);
        Self::NAMES.iter().find(|(name, _)| *name == singular).map(|(_, unit)| *unit)
    }

    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, unit)| *unit == self).map_or("EPOCH", |(name, _)| name)
    }

    const NAMES: &'static [(&'static str, TimeUnit)] = &[
        ("MILLENNIUM", TimeUnit::Millennium),
        ("CENTURY", TimeUnit::Century),
        ("DECADE", TimeUnit::Decade),
        ("YEAR", TimeUnit::Year),
        ("ISOYEAR", TimeUnit::IsoYear),
        ("QUARTER", TimeUnit::Quarter),
        ("MONTH", TimeUnit::Month),
        ("WEEK", TimeUnit::Week),
        ("DAY", TimeUnit::Day),
        ("DOW", TimeUnit::DayOfWeek),
        ("ISODOW", TimeUnit::IsoDayOfWeek),
        ("DOY", TimeUnit::DayOfYear),
        ("HOUR", TimeUnit::Hour),
        ("MINUTE", TimeUnit::Minute),
        ("SECOND", TimeUnit::Second),
        ("MILLISECOND", TimeUnit::Millisecond),
        ("MICROSECOND", TimeUnit::Microsecond),
        ("NANOSECOND", TimeUnit::Nanosecond),
        ("EPOCH", TimeUnit::Epoch),
    ];

    /// Milliseconds, for units of fixed length from a millisecond up to a week.
    pub fn fixed_millis(self) -> Option<i64> {
        Some(match self {
            TimeUnit::Week => 7 * 86_400_000,
            TimeUnit::Day => 86_400_000,
            TimeUnit::Hour => 3_600_000,
            TimeUnit::Minute => 60_000,
            TimeUnit::Second => 1000,
            TimeUnit::Millisecond => 1,
            _ => return None,
        })
    }
}
