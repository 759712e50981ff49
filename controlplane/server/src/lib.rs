//! The API of a replica, the leader's reconcilers, and the certificates and configuration of both.
//!
//! [`serve`] answers `hanse.v1` over TLS: `proxy` decides whether this replica answers or the leader does, `auth` finds
//! the caller, `api` has one file a service, `propose` takes an order to the log, `error` turns every failure into one
//! form. `reconcile` is the leader's hands; it and the API share nothing but the log and [`observed::Observed`].
//!
//! What this crate never does: decide what `hanse_state` decides, name an adapter or an engine, or read the clock in
//! more than one place of the API.

mod api;
pub mod artifacts;
pub mod auth;
pub mod ca;
pub mod config;
pub mod context;
pub mod error;
pub mod listen;
mod log_clock;
pub mod metrics;
pub mod observed;
pub mod orphans;
mod places;
pub mod programs;
pub mod propose;
pub mod proxy;
pub mod reconcile;
pub mod series;
mod serve;
pub mod trail;
mod watched;

pub use context::{Context, Limits, Member, Parts};
pub use error::ApiError;
pub use listen::{ApiTls, ListenError};
pub use serve::{LEADER_HEALTH, serve};
pub use trail::{Trail, TrailError};
