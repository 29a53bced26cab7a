//! The end of an INSERT.

use millstream_api::graph::{EdgeKind, Field, SinkTransform, TransformKind};

use super::{Planner, all_columns};
use crate::bind::BoundInsert;

impl Planner<'_> {
    pub(super) fn insert(&mut self, insert: &BoundInsert) {
        let relation = &insert.relation;
        let below = self.lower(relation, &all_columns(relation));
        let exprs: Vec<_> = (0..relation.columns.len()).map(|i| below.column(i)).collect();
        let fields = exprs
            .iter()
            .zip(&relation.columns)
            .map(|(e, c)| Field::new(c.name.clone(), e.ty.clone(), e.nullable))
            .collect();
        let input = self.calc_unless_same(below, exprs, fields);
        let table = &insert.table;
        let written = relation.columns.iter().map(|c| {
            let column = table.columns.iter().find(|t| t.name == c.name).expect("named after the table's columns");
            Field::new(column.name.clone(), column.ty.clone(), column.nullable)
        });
        let sink = SinkTransform {
            table: table.name.clone(),
            connector: table.connector.sink().expect("the binder let only writable tables through"),
            primary_key: insert.key.clone(),
            not_null_enforcer: self.options.not_null_enforcer,
        };
        // All changes of a key must go through one task, in order: rows with one key agree in the columns by which they
        // are already spread, or they are spread by the key.
        let in_order = input.partitioned_by.as_ref().is_some_and(|by| by.iter().all(|c| insert.key.contains(c)));
        let edge = if table.connector.needs_key() && !in_order {
            EdgeKind::Hash { keys: insert.key.clone() }
        } else {
            EdgeKind::Forward
        };
        let fields = written.collect();
        let id = self.builder.add(
            "sink",
            format!("Sink: {}", table.name),
            TransformKind::Sink(sink),
            fields,
            input.changelog.clone(),
        );
        self.builder.connect(input.id, id, 0, edge);
    }
}
