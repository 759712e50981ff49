//! Consensus: Malachite's core, and what it needs around it.
//!
//! `context` names our types to the core, `cert` verifies certificates, `wire` is the form on the
//! network and in the log, `host` answers the core's effects, `driver` is the thread that feeds it
//! and stores what it decides, `intake` sorts what peers say, `sync` fetches blocks that were missed, `trust` judges blocks that were not executed here, `evidence` keeps what proves a validator's fault.
//! `simulated` (tests) runs whole networks of these parts in virtual time.

pub(crate) mod cert;
pub(crate) mod context;
pub(crate) mod driver;
pub(crate) mod evidence;
#[cfg(test)]
mod frozen;
mod host;
mod intake;
#[cfg(test)]
mod simulated;
mod sync;
#[cfg(test)]
mod tests;
pub(crate) mod trust;
pub(crate) mod wire;
