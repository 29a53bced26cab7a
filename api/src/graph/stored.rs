//! How values are stored that serde cannot read back inside a tagged enum.
//!
//! A tagged enum is buffered before its variant is known, and the buffer keeps neither integer map keys nor (with
//! serde_json's `arbitrary_precision`) floats: both would be written to a manifest and refused when it is read.

/// A map as a list of pairs.
pub mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(map: &BTreeMap<i32, i64>, to: S) -> Result<S::Ok, S::Error> {
        map.iter().collect::<Vec<_>>().serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<i32, i64>, D::Error> {
        Ok(Vec::<(i32, i64)>::deserialize(from)?.into_iter().collect())
    }
}

/// A float as its shortest exact text.
pub mod float_text {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
        value.to_string().serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use crate::graph::{DatagenField, KafkaStart};

    #[test]
    fn what_is_stored_is_read_back() {
        let start = KafkaStart::SpecificOffsets { offsets: [(0, 5), (3, i64::MAX)].into() };
        let text = serde_json::to_string(&start).expect("serialises");
        assert_eq!(serde_json::from_str::<KafkaStart>(&text).expect("reads back"), start);

        let field = DatagenField::Random { min: None, max: None, length: Some(3), max_past_ms: None, null_rate: 0.1 };
        let text = serde_json::to_string(&field).expect("serialises");
        assert_eq!(serde_json::from_str::<DatagenField>(&text).expect("reads back"), field);
    }
}
