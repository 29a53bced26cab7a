//! The print connector.

use millstream_api::graph::PrintSink;

use super::options::Options;
use crate::error::Result;

pub(super) fn parse(options: &mut Options<'_>) -> Result<PrintSink> {
    Ok(PrintSink {
        identifier: options.text("print-identifier").filter(|text| !text.is_empty()),
        standard_error: options.flag("standard-error")?.unwrap_or(false),
    })
}
