//! The reader for a connector.

use millstream_api::graph::{SourceConnector, SourceTransform};

use super::{SourceContext, SourceError, SourceReader, datagen, filesystem};

/// Opens the reader of one task of `source`. Called on an I/O thread: it may block, within a bounded time.
pub fn open(source: &SourceTransform, cx: SourceContext) -> Result<Box<dyn SourceReader>, SourceError> {
    match &source.connector {
        SourceConnector::Filesystem(files) => filesystem::open(files, source, &cx),
        SourceConnector::Datagen(datagen) => datagen::open(datagen, source, &cx),
        SourceConnector::Kafka(_) => Err(SourceError::User {
            reason: format!("table {} reads from Kafka, and this build has no Kafka connector", source.table),
        }),
    }
}
