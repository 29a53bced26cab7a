//! The reader for a connector.

use millstream_api::graph::{FilesystemSource, SourceConnector, SourceTransform};

use super::{SourceContext, SourceError, SourceReader, datagen, filesystem, kafka};
use crate::secrets;

/// Opens the reader of one task of `source`. Called on an I/O thread: it may block, within a bounded time.
pub fn open(source: &SourceTransform, cx: SourceContext) -> Result<Box<dyn SourceReader>, SourceError> {
    match &source.connector {
        SourceConnector::Filesystem(files) => {
            let path = secrets::resolve_value("path", &files.path)
                .map_err(|error| SourceError::User { reason: error.to_string() })?;
            filesystem::open(&FilesystemSource { path, ..files.clone() }, source, &cx)
        }
        SourceConnector::Datagen(datagen) => datagen::open(datagen, source, &cx),
        SourceConnector::Kafka(kafka) => kafka::open(&kafka::connection::with_topics(kafka)?, source, cx),
    }
}
