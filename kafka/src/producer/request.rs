//! Produce requests and their answers on the wire.
//!
//! Owns: the request's bytes around the batches, which are sent from where they were encoded. Written here and not by
//! the codec, which would copy every record.

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse, ResponseHeader};
use kafka_protocol::protocol::{Decodable, HeaderVersion, Request};

use super::settings::Settings;
use crate::record_batch::Batch;

/// Kafka 2.4, the first with error messages.
pub(super) const VERSION_LEAST: i16 = 8;
/// The last one before the broker adds partitions to transactions by itself, which goes with epochs that rise at every
/// commit (KIP-890).
pub(super) const VERSION_MOST: i16 = 11;
/// Compact lengths and tagged fields.
const FLEXIBLE_FROM: i16 = 9;
const NO_TAGS: u8 = 0;
/// Of the length before every request and answer.
const LENGTH_BYTES: usize = 4;
/// No answer comes near it; a longer one is not Kafka.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// A request as it is written: its own bytes and batches by turns.
pub(super) struct Frame {
    pub(super) segments: Vec<Segment>,
    /// False: the broker sends no answer.
    pub(super) answered: bool,
}

pub(super) enum Segment {
    Own(Vec<u8>),
    Batch(Arc<Batch>),
}

impl Segment {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Batch(batch) => batch.bytes(),
        }
    }
}

/// What the broker says about one batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answered {
    pub(super) partition: i32,
    pub(super) error_code: i16,
    pub(super) message: Option<String>,
}

/// One request with a batch for each partition.
pub(super) fn frame(settings: &Settings, version: i16, correlation_id: i32, batches: &[(i32, Arc<Batch>)]) -> Frame {
    let flexible = version >= FLEXIBLE_FROM;
    let mut out = Fields { bytes: vec![0; LENGTH_BYTES], flexible };
    out.int16(ProduceRequest::KEY);
    out.int16(version);
    out.int32(correlation_id);
    // The header's client id has its old form in every version.
    out.int16(settings.client_id.len() as i16);
    out.bytes.extend_from_slice(settings.client_id.as_bytes());
    out.tags();
    out.optional_text(settings.transactional_id.as_deref());
    out.int16(settings.acks);
    out.int32(i32::try_from(settings.request_timeout.as_millis()).unwrap_or(i32::MAX));
    out.count(1);
    out.optional_text(Some(&settings.topic));
    out.count(batches.len());
    let mut segments = Vec::with_capacity(2 * batches.len() + 1);
    for (partition, batch) in batches {
        out.int32(*partition);
        out.size(batch.bytes().len());
        segments.push(Segment::Own(std::mem::take(&mut out.bytes)));
        segments.push(Segment::Batch(batch.clone()));
        out.tags();
    }
    // Of the topic and of the request.
    out.tags();
    out.tags();
    segments.push(Segment::Own(out.bytes));
    let bytes: usize = segments.iter().map(|segment| segment.bytes().len()).sum();
    if let Some(Segment::Own(first)) = segments.first_mut() {
        first[..LENGTH_BYTES].copy_from_slice(&((bytes - LENGTH_BYTES) as u32).to_be_bytes());
    }
    Frame { segments, answered: settings.acks != 0 }
}

/// Takes the next whole answer off what was read.
///
/// # Errors
/// What was read is not Kafka.
pub(super) fn next_answer(input: &mut BytesMut) -> Result<Option<Bytes>, String> {
    let Some((length, rest)) = input.split_first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let length = u32::from_be_bytes(*length) as usize;
    if length > ANSWER_BYTES_MAX {
        return Err(format!("an answer of {length} bytes"));
    }
    if rest.len() < length {
        return Ok(None);
    }
    input.advance(LENGTH_BYTES);
    Ok(Some(input.split_to(length).freeze()))
}

/// What an answer says.
pub(super) struct Answer {
    pub(super) correlation_id: i32,
    pub(super) throttle_ms: u64,
    pub(super) partitions: Vec<Answered>,
}

pub(super) fn decode(mut bytes: Bytes, version: i16) -> Result<Answer, String> {
    let header = ResponseHeader::decode(&mut bytes, ProduceResponse::header_version(version));
    let correlation_id = header.map_err(|e| e.to_string())?.correlation_id;
    let response = ProduceResponse::decode(&mut bytes, version).map_err(|e| e.to_string())?;
    let partitions = response.responses.iter().flat_map(|topic| &topic.partition_responses);
    Ok(Answer {
        correlation_id,
        throttle_ms: response.throttle_time_ms.max(0).unsigned_abs().into(),
        partitions: partitions
            .map(|p| {
                let record = p.record_errors.iter().find_map(|r| r.batch_index_error_message.as_ref());
                let message = record.or(p.error_message.as_ref()).map(|m| m.to_string());
                Answered { partition: p.index, error_code: p.error_code, message }
            })
            .collect(),
    })
}

/// Writes fields as the version wants them.
struct Fields {
    bytes: Vec<u8>,
    flexible: bool,
}

impl Fields {
    fn int16(&mut self, value: i16) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    fn int32(&mut self, value: i32) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    fn tags(&mut self) {
        if self.flexible {
            self.bytes.push(NO_TAGS);
        }
    }

    /// Elements of an array.
    fn count(&mut self, count: usize) {
        self.size(count);
    }

    /// A size or count: of four bytes, or a varint of one more.
    fn size(&mut self, size: usize) {
        if self.flexible {
            self.varint(size as u32 + 1);
        } else {
            self.int32(size as i32);
        }
    }

    fn optional_text(&mut self, text: Option<&str>) {
        match (text, self.flexible) {
            (None, true) => self.varint(0),
            (None, false) => self.int16(-1),
            (Some(text), true) => self.varint(text.len() as u32 + 1),
            (Some(text), false) => self.int16(text.len() as i16),
        }
        self.bytes.extend_from_slice(text.unwrap_or_default().as_bytes());
    }

    fn varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use kafka_protocol::messages::RequestHeader;

    use super::*;
    use crate::compression::Compressor;
    use crate::config::ClientConfig;
    use crate::producer::{ProducerOptions, Throttle};

    fn batch(value: &str) -> Arc<Batch> {
        let mut batch = Batch::default();
        batch.append(None, Some(|out: &mut Vec<u8>| out.extend_from_slice(value.as_bytes())));
        batch.close(1, &mut Compressor::None, &mut Vec::new()).unwrap();
        batch.stamp(None);
        Arc::new(batch)
    }

    #[test]
    fn another_codec_reads_every_version() {
        let config = ClientConfig { client_id: "me".to_owned(), ..ClientConfig::default() };
        for id in [None, Some("transactional".to_owned())] {
            let options = ProducerOptions {
                topic: "topic".to_owned(),
                transactional_id: id.clone(),
                transaction_timeout_ms: 60_000,
                throttle: Throttle::default(),
                waker: Arc::new(|| {}),
            };
            let settings = Settings::read(&config, &options).unwrap();
            for version in VERSION_LEAST..=VERSION_MOST {
                let batches = [(3, batch("a")), (200, batch(&"b".repeat(300)))];
                let frame = frame(&settings, version, 77, &batches);
                let bytes: Vec<u8> = frame.segments.iter().flat_map(|s| s.bytes().to_vec()).collect();
                assert!(frame.answered);
                let mut input = BytesMut::from(bytes.as_slice());
                let mut body = next_answer(&mut input).unwrap().unwrap();
                assert!(input.is_empty());
                let header = RequestHeader::decode(&mut body, ProduceRequest::header_version(version)).unwrap();
                assert_eq!((header.request_api_key, header.request_api_version), (0, version));
                assert_eq!((header.correlation_id, header.client_id.unwrap().as_str()), (77, "me"));
                let request = ProduceRequest::decode(&mut body, version).unwrap();
                assert!(body.is_empty());
                assert_eq!(request.transactional_id.map(|i| i.0.to_string()), id);
                assert_eq!((request.acks, request.timeout_ms), (-1, 30_000));
                assert_eq!(request.topic_data[0].name.as_str(), "topic");
                for (data, (partition, batch)) in request.topic_data[0].partition_data.iter().zip(&batches) {
                    assert_eq!((data.index, data.records.as_deref().unwrap()), (*partition, batch.bytes()));
                }
            }
        }
    }

    #[test]
    fn an_answer_is_taken_when_it_is_whole() {
        let mut input = BytesMut::from(&[0, 0, 0, 3, 1, 2][..]);
        assert_eq!(next_answer(&mut input), Ok(None));
        input.extend_from_slice(&[3, 0, 0, 0]);
        assert_eq!(next_answer(&mut input).unwrap().unwrap(), [1, 2, 3].as_slice());
        assert_eq!(next_answer(&mut input), Ok(None));
        assert!(next_answer(&mut BytesMut::from(&b"HTTP/1.1"[..])).is_err());
    }
}
