//! Rows of every type, through cells and back.

use arrow_array::new_null_array;
use millstream_api::graph::{Field, Schema, SqlType};

use super::*;
use crate::state::tests::every_type;

#[test]
fn every_type_survives_cells_packing_and_unpacking() {
    let (schema, arrays) = every_type(&[Some(1), Some(0), Some(-100), None]);
    let layout = RowLayout::new(&schema, true);
    let mut heap = Heap::default();
    let mut out = RowArrays::new(&schema);
    for row in 0..arrays[0].len() {
        let mut cells = layout.blank.clone();
        let mut view = RowMut { layout: &layout, cells: &mut cells, heap: &mut heap, existed: false };
        for (column, array) in arrays.iter().enumerate() {
            view.set_from(column, array.as_ref(), row);
        }
        let mut packed = Vec::new();
        layout.pack(&cells, &heap.bytes, &mut packed);
        assert_eq!(layout.packed_len(&packed), packed.len());
        out.push(&layout.packed(&packed));
        let (mut cells_2, mut heap_2) = (layout.blank.clone(), Heap::default());
        layout.unpack(&packed, &mut cells_2, &mut heap_2);
        let mut packed_2 = Vec::new();
        layout.pack(&cells_2, &heap_2.bytes, &mut packed_2);
        assert_eq!(packed, packed_2);
    }
    assert_eq!(out.finish(), arrays);
    assert!(out.finish().iter().all(|a| a.is_empty()));
}

#[test]
fn a_new_row_is_null_where_it_may_be_and_zero_elsewhere() {
    let schema = Schema::new(vec![
        Field::new("n", SqlType::BigInt, false),
        Field::new("v", SqlType::BigInt, true),
        Field::new("s", SqlType::STRING, false),
    ]);
    let layout = RowLayout::new(&schema, false);
    assert_eq!(layout.len(), 1 + 24);
    let row = RowRef { layout: &layout, cells: &layout.blank, heap: &[] };
    assert_eq!((row.is_null(0), row.i64(0)), (false, 0));
    assert!(row.is_null(1));
    assert_eq!((row.is_null(2), row.bytes(2)), (false, &b""[..]));
}

#[test]
fn longer_values_move_shorter_ones_stay_and_garbage_is_counted() {
    let schema = Schema::new(vec![Field::new("s", SqlType::STRING, true)]);
    let layout = RowLayout::new(&schema, false);
    let (mut cells, mut heap) = (layout.blank.clone(), Heap::default());
    let mut row = RowMut { layout: &layout, cells: &mut cells, heap: &mut heap, existed: false };
    row.set_bytes(0, b"four");
    row.set_bytes(0, b"two");
    assert_eq!((row.bytes(0), row.heap.garbage, row.heap.bytes.len()), (&b"two"[..], 1, 4));
    row.set_bytes(0, b"longer");
    assert_eq!((row.bytes(0), row.heap.garbage, row.heap.bytes.len()), (&b"longer"[..], 4, 10));
    row.set_from(0, new_null_array(&arrow_schema::DataType::Utf8, 1).as_ref(), 0);
    assert!(row.is_null(0));
    assert_eq!((row.bytes(0), row.heap.garbage), (&b""[..], 10));
}
