//! The reader for a connector.

use millstream_api::graph::{SourceConnector, SourceTransform};

use super::{SourceContext, SourceError, SourceReader, datagen, filesystem, kafka};

/// Opens the reader of one task of `source`. Called on an I/O thread: it may block, within a bounded time.
pub fn open(source: &SourceTransform, cx: SourceContext) -> Result<Box<dyn SourceReader>, SourceError> {
    match &source.connector {
        SourceConnector::Filesystem(files) => filesystem::open(files, source, &cx),
        SourceConnector::Datagen(datagen) => datagen::open(datagen, source, &cx),
        SourceConnector::Kafka(kafka) => kafka::open(kafka, source, cx),
    }
}
