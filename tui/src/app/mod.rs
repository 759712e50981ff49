//! The pure core: `update` changes the `Model` by a `Msg` and answers with `Effect`s; `view` draws a `Model`.
//!
//! Nothing below here reads a clock, a file, a terminal or the network, so every behaviour is a test without any of
//! them. Time comes in as `Msg::Tick`.

pub mod effect;
pub mod input;
pub mod model;
pub mod msg;
pub mod update;
pub mod view;
