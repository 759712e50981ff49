//! The contract against its frozen form and against the style rules of API.md.
#![allow(clippy::unwrap_used)]

mod contract;
mod style;
