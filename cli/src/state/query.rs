//! stub
use super::args::QueryArguments;
use super::source::Stop;
use crate::exit::Exit;
pub async fn query(_: &QueryArguments) -> Result<Exit, Stop> {
    Ok(Exit::Success)
}
