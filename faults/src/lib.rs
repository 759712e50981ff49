//! Faults on purpose: the harness that cuts the power, damages disks and plagues processes, and looks at what is left.
//!
//! How it works. Each module is one kind of fault with a `run` that does rounds of it from a seed and gives figures;
//! `cargo xtask faults <kind>` starts them, and this crate's tests run a short version of each.
//!
//! What it never does. It is a tool for developers and CI: nothing of it is linked into the product, and it leaves no
//! mount, loop device, network namespace or process behind, whatever happened.

mod canary;
pub mod damage;
pub mod how;
pub mod membership;
pub mod power_cut;
pub mod processes;
pub mod rejoin;
pub mod rng;
pub mod store;
pub mod trace;
pub mod upgrade;
