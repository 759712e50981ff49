//! The operators' console.
//!
//! It is an `update` and a `view` over a model (`app`), screens that are pure functions from the model to lines
//! (`screens`), and one file that does IO (`runtime`). It speaks to the cluster through the same client as the command
//! line and depends on neither the domain nor the log, so that it may be older or newer than the replicas.
//!
//! It never acts by itself: whatever changes the cluster went through a dialog and the key `y`.

pub mod app;
mod convert;
pub mod format;
pub mod i18n;
pub mod keymap;
mod runtime;
pub mod screens;
pub mod theme;
pub mod widgets;

pub use runtime::{ConsoleOptions, TuiError, run};
