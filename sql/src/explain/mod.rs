//! A graph for people and for tools.

pub(crate) mod describe;
mod json;
mod mermaid;
mod text;

pub use json::json;
pub use mermaid::mermaid;
pub use text::text;
