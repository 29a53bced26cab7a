//! Savepoints for tests, written by the worker's own segment writer.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int8Array, Int64Array, RecordBatch, StringArray, UInt16Array};
use millstream_api::graph::{Field, Schema, SqlType};
use millstream_api::ids::{Epoch, Generation, TaskId, TransformUid, VertexId};
use millstream_api::log::{Manifest, SAVEPOINT_OBJECT, Savepoint, Segment, TableManifest};
use millstream_coordinator::savepoint::Places;
use millstream_store::{LocalStore, ObjectStore};
use millstream_worker::keys::KeyEncoder;
use millstream_worker::snapshot::{SegmentWriter, Segments};
use millstream_worker::state::{ChangeOp, TableSpec, change_schema};

use crate::Stored;

pub const KEY_GROUPS: u32 = 8;

/// A change of the key: its text, or `None` for a deletion.
pub type Change<'a> = (i64, Option<&'a str>);

/// A savepoint with one table, and the folder that it is in.
pub struct Fixture {
    pub folder: tempfile::TempDir,
    pub stored: Stored,
}

pub fn spec() -> TableSpec {
    let field = |name: &str, ty| Field::new(name, ty, false);
    TableSpec {
        name: "groups".to_owned(),
        key: Schema::new(vec![field("k", SqlType::BigInt)]),
        // A name that the key has, too.
        value: Schema::new(vec![field("text", SqlType::STRING), field("K", SqlType::BigInt)]),
        ttl_ms: None,
    }
}

impl Fixture {
    /// `segments`: oldest first, each an object.
    pub async fn new(segments: &[Vec<Change<'_>>]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn ObjectStore> = Arc::new(LocalStore::open(folder.path()).unwrap());
        let (uid, spec) = (TransformUid("totals/aggregate/0".to_owned()), spec());
        let writer = Segments::new(Arc::clone(&store), "");
        let mut written: Vec<Segment> = Vec::new();
        for (epoch, changes) in segments.iter().enumerate() {
            let epoch = Epoch(epoch as u64);
            let at = SegmentWriter { generation: Generation(0), epoch, task: TaskId { vertex: VertexId(1), index: 0 } };
            let table = writer.write(&at, &uid, &spec, vec![batch(&spec, changes)], &mut 0).await.unwrap();
            written.extend(table.added);
        }
        let table =
            TableManifest { uid, table: spec.name.clone(), key: spec.key, value: spec.value, segments: written };
        let savepoint = Savepoint::of("id".to_owned(), "default/job".to_owned(), 5, &manifest(vec![table]));
        let bytes = serde_json::to_vec(&savepoint).unwrap();
        store.put(SAVEPOINT_OBJECT, bytes.into()).await.unwrap();
        let uri = folder.path().to_string_lossy().into_owned();
        let stored = Stored::savepoint(&Places::default(), &uri).await.unwrap();
        Self { folder, stored }
    }
}

fn manifest(tables: Vec<TableManifest>) -> Manifest {
    let json = serde_json::json!({
        "epoch": 1, "parallelism": 2, "max_parallelism": KEY_GROUPS, "graph_hash": 0,
        "graph": { "version": 1, "transforms": [], "edges": [] },
        "tables": tables, "operator_state": {}, "splits": {}, "watermarks": {}, "processing_time_max_ms": 0,
        "finished_tasks": [], "transactions": [], "committed_through": null, "transactional_ids": {},
    });
    serde_json::from_value(json).unwrap()
}

fn batch(spec: &TableSpec, changes: &[Change<'_>]) -> RecordBatch {
    let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(changes.iter().map(|(key, _)| *key)));
    let encoder = KeyEncoder::new(&spec.key.fields).unwrap();
    let groups = encoder.encode(&[Arc::clone(&keys)], changes.len(), KEY_GROUPS).unwrap().groups;
    let op = |text: &Option<&str>| if text.is_some() { ChangeOp::Put } else { ChangeOp::Delete };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(UInt16Array::from(groups)),
        Arc::new(Int64Array::from(vec![0; changes.len()])),
        Arc::new(Int8Array::from_iter_values(changes.iter().map(|(_, text)| op(text) as i8))),
        keys,
        Arc::new(StringArray::from_iter(changes.iter().map(|(_, text)| *text))),
        Arc::new(Int64Array::from_iter(changes.iter().map(|(key, text)| text.map(|_| key * 10)))),
    ];
    RecordBatch::try_new(change_schema(spec), columns).unwrap()
}
