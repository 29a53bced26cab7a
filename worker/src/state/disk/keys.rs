//! Keys of the trees: everything big-endian, so that bytes sort like (table, key group, namespace, key).

use super::super::versions::Version;

/// Table (u16), key group (u16), namespace (i64, sign flipped).
pub(super) const PLACE_BYTES: usize = 12;

/// An entry of the undo tree: what a row was.
const ENTRY: u8 = 1;
/// An entry of the undo tree: a namespace was dropped.
const DROP: u8 = 0;
/// Version (u32), table (u16), kind (u8).
const UNDO_PREFIX_BYTES: usize = 7;

/// `(group, namespace)` with the table before it.
pub(super) fn place(table: u16, group: u16, namespace: i64) -> [u8; PLACE_BYTES] {
    let mut out = [0; PLACE_BYTES];
    out[..2].copy_from_slice(&table.to_be_bytes());
    out[2..4].copy_from_slice(&group.to_be_bytes());
    out[4..].copy_from_slice(&(namespace as u64 ^ (1 << 63)).to_be_bytes());
    out
}

/// The key group and the namespace of a place.
pub(super) fn group_and_namespace(place: &[u8]) -> (u16, i64) {
    let group = u16::from_be_bytes(place[2..4].try_into().expect("2 bytes"));
    let namespace = u64::from_be_bytes(place[4..PLACE_BYTES].try_into().expect("8 bytes"));
    (group, (namespace ^ (1 << 63)) as i64)
}

/// The first key after all that start with `place`.
pub(super) fn after(place: &[u8; PLACE_BYTES]) -> Vec<u8> {
    let mut end = place.to_vec();
    // A longer key with the prefix sorts before the next prefix; the table number stays below u16::MAX.
    for byte in end.iter_mut().rev() {
        let (next, carried) = byte.overflowing_add(1);
        *byte = next;
        if !carried {
            break;
        }
    }
    end
}

/// The undo key of a row.
pub(super) fn undo_entry(version: Version, row_key: &[u8], out: &mut Vec<u8>) {
    undo_prefix(version, row_key, ENTRY, out);
    out.extend_from_slice(&row_key[2..]);
}

/// The undo key of a dropped namespace.
pub(super) fn undo_drop(version: Version, place: &[u8; PLACE_BYTES], out: &mut Vec<u8>) {
    undo_prefix(version, place, DROP, out);
    out.extend_from_slice(&place[2..]);
}

fn undo_prefix(version: Version, row_key: &[u8], kind: u8, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&version.to_be_bytes());
    out.extend_from_slice(&row_key[..2]);
    out.push(kind);
}

/// Bounds of the undo entries of a table's rows in a version.
pub(super) fn undo_entries(version: Version, table: u16) -> (Vec<u8>, Vec<u8>) {
    undo_bounds(version, table, ENTRY)
}

/// Bounds of the dropped namespaces of a table in a version.
pub(super) fn undo_drops(version: Version, table: u16) -> (Vec<u8>, Vec<u8>) {
    undo_bounds(version, table, DROP)
}

fn undo_bounds(version: Version, table: u16, kind: u8) -> (Vec<u8>, Vec<u8>) {
    let (mut from, mut to) = (Vec::new(), Vec::new());
    undo_prefix(version, &table.to_be_bytes(), kind, &mut from);
    undo_prefix(version, &table.to_be_bytes(), kind + 1, &mut to);
    (from, to)
}

/// The row key of an undo key (of either kind).
pub(super) fn row_key_of(undo_key: &[u8]) -> Vec<u8> {
    let mut out = undo_key[4..6].to_vec();
    out.extend_from_slice(&undo_key[UNDO_PREFIX_BYTES..]);
    out
}
