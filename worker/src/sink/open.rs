//! The sink for a connector.

use millstream_api::graph::{SinkConnector, SinkTransform};

use super::blackhole::Blackhole;
use super::print::PrintSink;
use super::{Sink, SinkContext, SinkError, kafka};

/// Opens the sink of one task. Called on an I/O thread: it may block, within a bounded time.
pub fn open(sink: &SinkTransform, cx: SinkContext) -> Result<Box<dyn Sink>, SinkError> {
    Ok(match &sink.connector {
        SinkConnector::Print(print) => Box::new(PrintSink::open(print, &cx)?),
        SinkConnector::Blackhole => Box::new(Blackhole::default()),
        SinkConnector::Kafka(options) => return kafka::open(options, sink, cx),
        SinkConnector::UpsertKafka(options) => return kafka::open_upsert(options, sink, cx),
    })
}
