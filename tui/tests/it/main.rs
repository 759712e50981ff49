//! Tests of the console: scripts of keys, golden screens, the whole thing on a PTY.
#![allow(clippy::unwrap_used, missing_docs)]

mod fake;
mod golden;
mod pty;
mod scripts;
mod seed;
mod seed_cloud;
mod seed_watch;
mod styles;
mod updates;
mod world;
