//! Order-preserving key bytes on arrow-row.

use std::sync::Arc;

use arrow_array::types::{Float32Type, Float64Type};
use arrow_array::{ArrayRef, BooleanArray, cast::AsArray, new_null_array};
use arrow_row::{RowConverter, Rows, SortField};
use arrow_schema::{ArrowError, DataType};
use millstream_api::graph::Field;
use thiserror::Error;

use super::hash::{canonical_float_bits, hash_columns, key_groups};

/// The keys of a batch: what `State` needs to find their rows.
#[derive(Debug)]
pub struct KeyBatch {
    /// The fixed hash of each key.
    pub hashes: Vec<u64>,
    /// `hash mod max_parallelism`.
    pub groups: Vec<u16>,
    /// Encoded keys, one per row.
    pub rows: Rows,
}

impl KeyBatch {
    /// Number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// The encoded key of a row.
    #[must_use]
    pub fn key(&self, row: usize) -> &[u8] {
        self.rows.row(row).data()
    }
}

/// Encodes key columns, and decodes them for output.
///
/// Two encoders of the same fields agree within a version of the program; the bytes are never stored durably.
#[derive(Debug)]
pub struct KeyEncoder {
    converter: RowConverter,
    types: Vec<DataType>,
    /// Names and types, for messages.
    columns: String,
    /// A key whose columns are all NULL.
    null_key: Vec<u8>,
    fixed_len: Option<usize>,
}

/// Key columns that cannot be encoded.
#[derive(Debug, Error)]
#[error("failed to {verb} keys ({columns}): {reason}")]
pub struct KeyError {
    pub verb: &'static str,
    /// Names and types of the key columns.
    pub columns: String,
    pub reason: String,
}

impl KeyEncoder {
    /// An encoder for keys of these columns (none: one key for all rows).
    pub fn new(fields: &[Field]) -> Result<Self, KeyError> {
        let columns = fields.iter().map(|f| format!("{} {}", f.name, f.ty)).collect::<Vec<_>>().join(", ");
        let error = |e: ArrowError| KeyError { verb: "encode", columns: columns.clone(), reason: e.to_string() };
        let types: Vec<DataType> = fields.iter().map(|f| f.ty.arrow()).collect();
        // arrow-row learns the number of rows from a column: a key without columns gets a constant one.
        let encoded: Vec<DataType> = if types.is_empty() { vec![DataType::Boolean] } else { types.clone() };
        let converter = RowConverter::new(encoded.iter().cloned().map(SortField::new).collect()).map_err(error)?;
        let nulls: Vec<ArrayRef> = encoded.iter().map(|ty| new_null_array(ty, 1)).collect();
        let null_key = converter.convert_columns(&nulls).map_err(error)?.row(0).data().to_vec();
        let variable = types.iter().any(|ty| matches!(ty, DataType::Utf8 | DataType::Binary));
        let fixed_len = (!variable).then_some(null_key.len());
        Ok(Self { converter, types, columns, null_key, fixed_len })
    }

    /// Encodes keys; `num_rows` counts when there are no columns. Floats are normalised as in the hash: -0.0 and 0.0
    /// are one key, every NaN is one key.
    pub fn encode(&self, columns: &[ArrayRef], num_rows: usize, max_parallelism: u32) -> Result<KeyBatch, KeyError> {
        let (hashes, rows) = self.hash_and_encode(columns, num_rows)?;
        let mut groups = Vec::with_capacity(hashes.len());
        key_groups(&hashes, max_parallelism, &mut groups);
        Ok(KeyBatch { hashes, groups, rows })
    }

    /// As `encode`, without groups: a restore knows them.
    pub(crate) fn hash_and_encode(&self, columns: &[ArrayRef], num_rows: usize) -> Result<(Vec<u64>, Rows), KeyError> {
        let mut hashes = Vec::with_capacity(num_rows);
        hash_columns(columns, num_rows, &mut hashes);
        let rows = if self.types.is_empty() {
            let constant: ArrayRef = Arc::new(BooleanArray::from(vec![false; num_rows]));
            self.converter.convert_columns(&[constant])
        } else if self.types.iter().any(DataType::is_floating) {
            let canonical: Vec<ArrayRef> = columns.iter().map(canonical_floats).collect();
            self.converter.convert_columns(&canonical)
        } else {
            self.converter.convert_columns(columns)
        };
        let rows = rows.map_err(|e| self.error("encode", &e))?;
        Ok((hashes, rows))
    }

    /// The key columns of encoded keys, in the order given.
    pub fn decode<'a>(&self, keys: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>, KeyError> {
        if self.types.is_empty() {
            return Ok(Vec::new());
        }
        let parser = self.converter.parser();
        let keys: Vec<&[u8]> = keys.into_iter().collect();
        self.converter.convert_rows(keys.into_iter().map(|key| parser.parse(key))).map_err(|e| self.error("decode", &e))
    }

    /// Length of every key, where all columns have a fixed width.
    pub(crate) fn fixed_len(&self) -> Option<usize> {
        self.fixed_len
    }

    /// A key of NULLs: stands where a change has no key.
    pub(crate) fn null_key(&self) -> &[u8] {
        &self.null_key
    }

    fn error(&self, verb: &'static str, source: &ArrowError) -> KeyError {
        KeyError { verb, columns: self.columns.clone(), reason: source.to_string() }
    }
}

/// The column with -0.0 as 0.0 and one NaN.
fn canonical_floats(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Float64 => {
            let values = column.as_primitive::<Float64Type>();
            Arc::new(values.unary::<_, Float64Type>(|v| f64::from_bits(canonical_float_bits(v))))
        }
        DataType::Float32 => {
            let values = column.as_primitive::<Float32Type>();
            Arc::new(values.unary::<_, Float32Type>(|v| {
                if v.is_nan() {
                    f32::NAN
                } else if v == 0.0 {
                    0.0
                } else {
                    v
                }
            }))
        }
        _ => Arc::clone(column),
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::{Array, Float32Array, Float64Array, Int64Array, StringArray};
    use millstream_api::graph::SqlType;

    use super::*;

    fn encoder(types: &[SqlType]) -> KeyEncoder {
        let fields: Vec<Field> =
            types.iter().enumerate().map(|(i, ty)| Field::new(format!("k{i}"), ty.clone(), true)).collect();
        KeyEncoder::new(&fields).unwrap()
    }

    #[test]
    fn keys_round_trip_and_keep_their_order() {
        let encoder = encoder(&[SqlType::BigInt, SqlType::STRING]);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![None, Some(-5), Some(3), Some(3)])),
            Arc::new(StringArray::from(vec![Some("x"), Some(""), None, Some("a long string of more than a block")])),
        ];
        let batch = encoder.encode(&columns, 4, 720).unwrap();
        assert_eq!(batch.len(), 4);
        assert!((1..4).all(|i| batch.key(i - 1) < batch.key(i)));
        let decoded = encoder.decode((0..4).map(|i| batch.key(i))).unwrap();
        assert_eq!(decoded, columns);
        assert_eq!(encoder.fixed_len(), None);
    }

    #[test]
    fn zeros_and_nans_of_either_sign_are_one_key() {
        let encoder = encoder(&[SqlType::Double, SqlType::Float]);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Float64Array::from(vec![0.0, -0.0, f64::NAN, -f64::NAN])),
            Arc::new(Float32Array::from(vec![-0.0, 0.0, -f32::NAN, f32::NAN])),
        ];
        let batch = encoder.encode(&columns, 4, 720).unwrap();
        assert_eq!(batch.key(0), batch.key(1));
        assert_eq!(batch.key(2), batch.key(3));
        assert_eq!(batch.hashes[0], batch.hashes[1]);
        assert_eq!(batch.hashes[2], batch.hashes[3]);
        assert_eq!(encoder.fixed_len(), Some(batch.key(0).len()));
    }

    #[test]
    fn a_key_without_columns_is_one_key() {
        let encoder = encoder(&[]);
        let batch = encoder.encode(&[], 3, 720).unwrap();
        assert_eq!(batch.len(), 3);
        assert_eq!(batch.key(0), batch.key(2));
        assert_eq!(batch.groups[0], batch.groups[2]);
        assert!(encoder.decode([batch.key(0)]).unwrap().is_empty());
    }

    #[test]
    fn a_column_of_another_type_is_an_error_that_names_the_key() {
        let wrong: ArrayRef = Arc::new(StringArray::from(vec!["a"]));
        assert_eq!(wrong.len(), 1);
        let error = encoder(&[SqlType::BigInt]).encode(&[wrong], 1, 720).unwrap_err();
        assert!(error.to_string().starts_with("failed to encode keys (k0 BIGINT):"), "{error}");
    }
}
