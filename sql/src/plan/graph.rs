//! The graph as it grows: ids, uids, edges.

use std::collections::BTreeMap;

use millstream_api::graph::{
    ChangelogMode, Edge, EdgeKind, Field, GRAPH_VERSION, JobGraph, Schema, Transform, TransformKind,
};
use millstream_api::ids::{TransformId, TransformUid};

#[derive(Default)]
pub(super) struct GraphBuilder {
    transforms: Vec<Transform>,
    edges: Vec<Edge>,
    /// Label of the statement whose transforms are being made.
    label: String,
    /// Transforms of each kind in this statement so far.
    ordinals: BTreeMap<&'static str, usize>,
}

impl GraphBuilder {
    /// The transforms that follow belong to the INSERT of this label.
    pub fn begin_statement(&mut self, label: String) {
        self.label = label;
        self.ordinals.clear();
    }

    /// A transform of the current statement. Its uid: label, kind, ordinal of that kind.
    pub fn add(
        &mut self,
        uid_kind: &'static str,
        name: String,
        kind: TransformKind,
        fields: Vec<Field>,
        changelog: ChangelogMode,
    ) -> TransformId {
        let ordinal = self.ordinals.entry(uid_kind).or_default();
        let uid = format!("{}/{uid_kind}/{ordinal}", self.label);
        *ordinal += 1;
        self.push(uid, name, kind, fields, changelog)
    }

    /// The source of a table. Its uid is the table.
    pub fn add_source(&mut self, table: &str, kind: TransformKind, fields: Vec<Field>) -> TransformId {
        self.push(label(table), format!("Source: {table}"), kind, fields, ChangelogMode::Append)
    }

    fn push(
        &mut self,
        uid: String,
        name: String,
        kind: TransformKind,
        fields: Vec<Field>,
        changelog: ChangelogMode,
    ) -> TransformId {
        let id = TransformId(u32::try_from(self.transforms.len()).expect("plans are bounded"));
        let output = Schema::new(unique_names(fields));
        self.transforms.push(Transform { id, uid: TransformUid(uid), name, kind, output, changelog });
        id
    }

    pub fn connect(&mut self, from: TransformId, to: TransformId, input: usize, kind: EdgeKind) {
        let input = u32::try_from(input).expect("inputs of a union are bounded");
        self.edges.push(Edge { from, to, input, kind });
    }

    /// The columns that leave a transform.
    pub fn fields(&self, id: TransformId) -> &[Field] {
        &self.transforms[id.0 as usize].output.fields
    }

    pub fn finish(self) -> JobGraph {
        JobGraph { version: GRAPH_VERSION, transforms: self.transforms, edges: self.edges, compiled_from: None }
    }
}

/// A table's name as part of a uid: uids become parts of object names and transactional ids, and `/` and `#` separate.
pub(super) fn label(table: &str) -> String {
    let mut label = String::new();
    for c in table.chars() {
        if c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '$') {
            label.push(c);
        } else {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                label.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    label
}

/// A second column of one name gets a number.
fn unique_names(mut fields: Vec<Field>) -> Vec<Field> {
    let mut taken = std::collections::HashSet::new();
    for field in &mut fields {
        let base = field.name.clone();
        let mut number = 0;
        while !taken.insert(field.name.clone()) {
            field.name = format!("{base}{number}");
            number += 1;
        }
    }
    fields
}
