//! The tree against others' vectors and its own laws; notes and witness files against frozen ones.
#![allow(clippy::unwrap_used)]

mod laws;
mod notes;
mod vectors;
mod witness;
