//! Real processes under faults (being built).

use anyhow::{Result, bail};

/// What a run is given.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Where the randomness begins.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// Runs it; says whether every invariant held.
///
/// # Errors
/// If this machine cannot.
pub fn run(_options: &Options) -> Result<bool> {
    bail!("not built yet")
}
