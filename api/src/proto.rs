//! What processes say to each other, generated from `proto/`. Only the messages: who speaks them generates the calls.

use std::marker::PhantomData;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Between a coordinator and its workers.
pub mod control {
    #[allow(clippy::all, missing_docs)]
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/millstream.control.v1.rs"));
    }
}

/// What people, tools and controllers ask of a coordinator. Append-only.
pub mod operations {
    #[allow(clippy::all, missing_docs)]
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/millstream.operations.v1.rs"));
    }
}

/// How the number of an enum stands in JSON: as the name of its value. A number that this version does not know is
/// `UNSPECIFIED`, as it would be to a reader of protobuf.
pub(crate) struct EnumText<E>(PhantomData<E>);

impl<E: Serialize + TryFrom<i32> + Default> EnumText<E> {
    pub(crate) fn serialize<S: Serializer>(number: &i32, serializer: S) -> Result<S::Ok, S::Error> {
        E::try_from(*number).unwrap_or_default().serialize(serializer)
    }
}

impl<'de, E: Deserialize<'de> + Into<i32>> EnumText<E> {
    pub(crate) fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
        E::deserialize(deserializer).map(Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::operations::v1::{JobState, JobStatus, StopRequest};

    #[test]
    fn json_has_names_of_values_and_no_absent_fields() {
        let status = JobStatus { state: JobState::AwaitingSlots.into(), generation: Some(3), ..JobStatus::default() };
        let json = serde_json::to_value(&status).unwrap();
        assert_eq!((&json["state"], &json["generation"]), (&"AWAITING_SLOTS".into(), &3.into()));
        assert!(json.get("watermarkMs").is_none());
        assert_eq!(serde_json::from_value::<JobStatus>(json).unwrap(), status);
        let newer = JobStatus { state: 1_000, ..JobStatus::default() };
        assert_eq!(serde_json::to_value(&newer).unwrap()["state"], "UNSPECIFIED");
    }

    #[test]
    fn a_request_with_an_unknown_field_is_refused_and_an_answer_is_not() {
        let error = serde_json::from_str::<StopRequest>(r#"{"operationId": "a", "drained": true}"#).unwrap_err();
        assert!(error.to_string().contains("drained"), "{error}");
        serde_json::from_str::<JobStatus>(r#"{"new": 1}"#).unwrap();
    }
}
