//! Bound INSERTs to the job graph.
//!
//! Owns: which columns are read, which steps become one Calc, the two phases of aggregates, edges, uids. Does not own:
//! names and types (`bind` has settled them).

mod aggregate;
mod graph;
mod needed;
mod sink;
mod source;
mod stream;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use millstream_api::flinkjob::options::JobOptions;
use millstream_api::graph::{
    ChangelogMode, EdgeKind, Expr, ExprKind, JobGraph, MiniBatch, NotNullEnforcer, SqlType, TransformKind,
};

use crate::bind::BoundInsert;
use crate::bind::relation::{Node, Relation, WindowShape, passed_through};
use crate::rewrite::replace_columns;
use graph::GraphBuilder;
use source::Sources;
use stream::{PendingWindow, Stream, is_trivial};

/// What the options say about the plan.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlanOptions {
    mini_batch: Option<MiniBatch>,
    state_ttl_ms: Option<u64>,
    idle_timeout_ms: Option<u64>,
    not_null_enforcer: NotNullEnforcer,
}

impl PlanOptions {
    pub fn new(options: &JobOptions) -> Self {
        let mini_batch = options.mini_batch_enabled.unwrap_or(false).then(|| MiniBatch {
            allow_latency_ms: options.mini_batch_allow_latency_ms.unwrap_or(0),
            size: options.mini_batch_size.unwrap_or(0),
        });
        Self {
            mini_batch,
            state_ttl_ms: options.state_ttl_ms.filter(|ms| *ms > 0),
            idle_timeout_ms: options.source_idle_timeout_ms.filter(|ms| *ms > 0),
            not_null_enforcer: options.not_null_enforcer.unwrap_or_default(),
        }
    }
}

/// Makes the graph of all INSERTs; they share their sources.
pub(crate) fn plan(inserts: &[BoundInsert], options: PlanOptions) -> JobGraph {
    let mut reads = needed::Reads::default();
    for insert in inserts {
        needed::collect(&insert.relation, &all_columns(&insert.relation), &mut reads);
    }
    let mut builder = GraphBuilder::default();
    let sources = Sources::build(reads, options, &mut builder);
    for (insert, label) in inserts.iter().zip(labels(inserts)) {
        builder.begin_statement(label);
        Planner { builder: &mut builder, sources: &sources, options }.insert(insert);
    }
    builder.finish()
}

/// The labels of the INSERTs, under which the state of each is kept: what the user calls it, or the target table and the
/// ordinal among the INSERTs into it that have no label of their own.
pub(crate) fn labels(inserts: &[BoundInsert]) -> Vec<String> {
    let mut ordinals: BTreeMap<&str, usize> = BTreeMap::new();
    let mut labels = Vec::with_capacity(inserts.len());
    for insert in inserts {
        labels.push(match &insert.label {
            Some(label) => label.text.clone(),
            None => {
                let ordinal = ordinals.entry(&insert.table.name).or_default();
                *ordinal += 1;
                let table = graph::label(&insert.table.name);
                if *ordinal == 1 { table } else { format!("{table}#{ordinal}") }
            }
        });
    }
    labels
}

fn all_columns(relation: &Relation) -> BTreeSet<usize> {
    (0..relation.columns.len()).collect()
}

/// Plans one INSERT.
struct Planner<'a> {
    builder: &'a mut GraphBuilder,
    sources: &'a Sources,
    options: PlanOptions,
}

impl Planner<'_> {
    /// The relation as a stream that has at least the needed columns; steps that a Calc can do are left pending on it.
    fn lower(&mut self, relation: &Relation, needed: &BTreeSet<usize>) -> Stream {
        match &relation.node {
            Node::Scan(table) => self.sources.stream(table, needed),
            Node::Project { input, exprs } => {
                let below = self.lower(input, &needed::of_input(relation, needed));
                let used = needed.iter().map(|i| &exprs[*i]);
                let below = self.settle_shared(below, input, used);
                let columns = (0..exprs.len()).map(|i| needed.contains(&i).then(|| below.replace(&exprs[i]))).collect();
                Stream { columns, ..below }
            }
            Node::Filter { input, predicate } => {
                let below = self.lower(input, &needed::of_input(relation, needed));
                let passed: Vec<Expr> = needed.iter().map(|i| relation.columns[*i].expr(*i)).collect();
                let mut below = self.settle_shared(below, input, passed.iter().chain([predicate]));
                let conditions: Vec<Expr> = conjuncts(predicate).iter().map(|c| below.replace(c)).collect();
                below.filters.extend(conditions);
                below
            }
            Node::Union { inputs } => self.union(relation, inputs, needed),
            Node::Window { input, time_column, shape } => {
                let below = self.lower(input, &needed::of_input(relation, needed));
                let below = if below.window.is_some() { self.settle(below, &names(input)) } else { below };
                self.pend_window(below, input, *time_column, shape)
            }
            Node::Aggregate(aggregate) => self.aggregate(relation, aggregate, needed),
        }
    }

    fn pend_window(&mut self, below: Stream, input: &Relation, time_column: usize, shape: &Rc<WindowShape>) -> Stream {
        let time_of = |stream: &Stream| stream.columns[time_column].as_ref().and_then(passed_through);
        let below = if time_of(&below).is_some() { below } else { self.settle(below, &names(input)) };
        let time = time_of(&below).expect("a settled stream has plain columns, and the time column is needed");
        let width = below.width;
        let mut columns = below.columns.clone();
        let window_types =
            [SqlType::Timestamp { precision: 3 }, SqlType::Timestamp { precision: 3 }, stream::window_time_type(shape)];
        columns.extend(window_types.into_iter().enumerate().map(|(i, ty)| Some(Expr::column(width + i, ty, false))));
        Stream { columns, window: Some(PendingWindow { shape: Rc::clone(shape), time }), ..below }
    }

    fn union(&mut self, relation: &Relation, inputs: &[Relation], needed: &BTreeSet<usize>) -> Stream {
        let needed = &needed::of_input(relation, needed);
        let fields: Vec<_> = needed.iter().map(|i| relation.columns[*i].field()).collect();
        let mut from = Vec::new();
        let mut changelog = ChangelogMode::Append;
        for input in inputs {
            let below = self.lower(input, needed);
            let exprs = needed.iter().map(|i| below.column(*i)).collect();
            let settled = self.calc_unless_same(below, exprs, fields.clone());
            if !settled.changelog.is_append() {
                // Rows of insert-only inputs are marked as inserts; keys of one input say nothing about the others.
                changelog = ChangelogMode::Retract { upsert_keys: Vec::new() };
            }
            from.push(settled.id);
        }
        let id = self.builder.add("union", "Union".to_owned(), TransformKind::Union, fields, changelog.clone());
        for (input, from) in from.into_iter().enumerate() {
            self.builder.connect(from, id, input, EdgeKind::Forward);
        }
        let mut columns = vec![None; relation.columns.len()];
        for (place, i) in needed.iter().enumerate() {
            columns[*i] = Some(relation.columns[*i].expr(place));
        }
        Stream::settled(id, needed.len(), columns, changelog)
    }

    /// The stream, settled first where these expressions would compute one of its pending columns more than once.
    fn settle_shared<'e>(&mut self, below: Stream, input: &Relation, exprs: impl Iterator<Item = &'e Expr>) -> Stream {
        let mut uses = vec![0u32; below.columns.len()];
        exprs.for_each(|e| e.visit_columns(&mut |i| uses[i] += 1));
        let costs = |column: &Option<Expr>| column.as_ref().is_some_and(|c| !is_trivial(c));
        let twice = below.columns.iter().zip(&uses).any(|(column, uses)| *uses > 1 && costs(column));
        if twice { self.settle(below, &names(input)) } else { below }
    }
}

/// The conditions that an AND holds together; an expression that is no AND is one condition.
fn conjuncts(predicate: &Expr) -> &[Expr] {
    match &predicate.kind {
        ExprKind::Call { function, args } if function == "AND" => args,
        _ => std::slice::from_ref(predicate),
    }
}

fn names(relation: &Relation) -> Vec<String> {
    relation.columns.iter().map(|c| c.name.clone()).collect()
}

impl Stream {
    /// The expression over the relation's columns as one over the transform's.
    fn replace(&self, expr: &Expr) -> Expr {
        replace_columns(expr, &mut |i| self.column(i))
    }
}
