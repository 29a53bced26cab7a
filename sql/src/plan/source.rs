//! One source per table, for all who read it.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use millstream_api::graph::{
    ChangelogMode, Expr, Field, ScanColumn, SourceTransform, SqlType, TransformKind, WatermarkSpec,
};
use millstream_api::ids::TransformId;

use super::PlanOptions;
use super::graph::GraphBuilder;
use super::needed::Reads;
use super::stream::Stream;
use crate::bind::{ColumnSource, Table, TableColumn};
use crate::rewrite::{move_columns, replace_columns};

pub(super) struct Sources {
    tables: BTreeMap<String, Source>,
}

struct Source {
    id: TransformId,
    /// Columns of the table that leave the source, ascending.
    columns: Vec<usize>,
}

impl Sources {
    pub fn build(reads: Reads, options: PlanOptions, builder: &mut GraphBuilder) -> Self {
        let mut tables = BTreeMap::new();
        for (name, (table, read)) in reads.tables {
            tables.insert(name, source(&table, read, options, builder));
        }
        Self { tables }
    }

    /// The table as a stream with these of its columns.
    pub fn stream(&self, table: &Rc<Table>, needed: &BTreeSet<usize>) -> Stream {
        let source = &self.tables[&table.name];
        let column = |i: usize| {
            let place = source.columns.binary_search(&i).expect("the source has every column that is read");
            Expr::column(place, table.columns[i].ty.clone(), table.columns[i].nullable)
        };
        let columns = (0..table.columns.len()).map(|i| needed.contains(&i).then(|| column(i))).collect();
        Stream::settled(source.id, source.columns.len(), columns, ChangelogMode::Append)
    }
}

fn source(table: &Table, mut read: BTreeSet<usize>, options: PlanOptions, builder: &mut GraphBuilder) -> Source {
    if let Some(watermark) = &table.watermark {
        read.insert(watermark.column);
        watermark.expr.visit_columns(&mut |i| {
            read.insert(i);
        });
    }
    if read.is_empty() {
        read.insert(cheapest_column(table));
    }
    let columns: Vec<usize> = read.into_iter().collect();
    let scanned = scanned_columns(table, &columns);
    let place_in_scan = |i: usize| scanned.iter().position(|s| *s == i).expect("scanned");
    let from_scan = |i: usize| {
        let column = &table.columns[i];
        let Some((ty, nullable)) = delivered(column) else {
            unreachable!("computed columns refer to stored ones only")
        };
        let scan = Expr::column(place_in_scan(i), ty.clone(), nullable);
        if ty == column.ty { scan } else { crate::bind::fold_cast(scan, column.ty.clone(), nullable, false) }
    };
    let projection = columns
        .iter()
        .map(|i| match &table.columns[*i].source {
            ColumnSource::Computed(expr) => replace_columns(expr, &mut |stored| from_scan(stored)),
            ColumnSource::Physical | ColumnSource::Metadata { .. } => from_scan(*i),
        })
        .collect();
    let place_in_output = |i: usize| columns.binary_search(&i).expect("the watermark's columns are read");
    let watermark = table.watermark.as_ref().map(|w| WatermarkSpec {
        column: place_in_output(w.column),
        expr: move_columns(&w.expr, &place_in_output),
        idle_timeout_ms: table.idle_timeout_ms.or(options.idle_timeout_ms).filter(|ms| *ms > 0),
    });
    let fields = columns.iter().map(|i| field(&table.columns[*i])).collect();
    let transform = SourceTransform {
        table: table.name.clone(),
        connector: table.connector.source().expect("the binder let only readable tables through"),
        scan: scanned.iter().map(|i| scan_column(&table.columns[*i])).collect(),
        projection,
        watermark,
    };
    Source { id: builder.add_source(&table.name, TransformKind::Source(transform), fields), columns }
}

fn field(column: &TableColumn) -> Field {
    Field::new(column.name.clone(), column.ty.clone(), column.nullable)
}

/// Type and nullability in which the connector has the column; `None`: it is computed.
fn delivered(column: &TableColumn) -> Option<(SqlType, bool)> {
    match &column.source {
        ColumnSource::Physical => Some((column.ty.clone(), column.nullable)),
        ColumnSource::Metadata { ty, nullable, .. } => Some((ty.clone(), *nullable)),
        ColumnSource::Computed(_) => None,
    }
}

/// The stored columns among `columns`, and those that computed ones are made of, in the table's order.
fn scanned_columns(table: &Table, columns: &[usize]) -> Vec<usize> {
    let mut scanned = BTreeSet::new();
    for i in columns {
        match &table.columns[*i].source {
            ColumnSource::Computed(expr) => expr.visit_columns(&mut |stored| {
                scanned.insert(stored);
            }),
            ColumnSource::Physical | ColumnSource::Metadata { .. } => {
                scanned.insert(*i);
            }
        }
    }
    if scanned.is_empty() {
        // Rows are counted by a column, even where PROCTIME() is all that is read.
        scanned.insert(cheapest_column(table));
    }
    scanned.into_iter().collect()
}

/// The physical column that costs least to read, where only the number of rows counts.
fn cheapest_column(table: &Table) -> usize {
    let cost = |ty: &SqlType| match ty {
        SqlType::Boolean | SqlType::TinyInt | SqlType::SmallInt | SqlType::Int | SqlType::BigInt => 0,
        SqlType::Float | SqlType::Double => 1,
        SqlType::Date | SqlType::Time { .. } | SqlType::Timestamp { .. } | SqlType::TimestampLtz { .. } => 2,
        _ => 3,
    };
    let physical = table.columns.iter().enumerate().filter(|(_, c)| c.source == ColumnSource::Physical);
    physical.min_by_key(|(_, c)| cost(&c.ty)).map_or(0, |(i, _)| i)
}

fn scan_column(column: &TableColumn) -> ScanColumn {
    match &column.source {
        ColumnSource::Metadata { key, ty, nullable, .. } => {
            ScanColumn { field: Field::new(column.name.clone(), ty.clone(), *nullable), metadata: Some(key.clone()) }
        }
        ColumnSource::Physical | ColumnSource::Computed(_) => ScanColumn { field: field(column), metadata: None },
    }
}
