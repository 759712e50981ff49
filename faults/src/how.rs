//! What every run with real processes is given besides its own wishes, and how its report is told.

use std::fmt::Display;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::Serialize;

/// With which chance and program a run is made, what it leaves, and how it tells what it saw.
#[derive(Clone, Debug, clap::Args)]
pub struct How {
    /// Where the randomness begins.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// The `hanse` binary; by default it is built.
    #[arg(long)]
    pub program: Option<PathBuf>,
    /// Folder that keeps the replicas' data and logs; by default a temporary one.
    #[arg(long)]
    pub keep: Option<PathBuf>,
    /// `json` prints the whole report as JSON.
    #[arg(short = 'o', long, default_value = "text", value_parser = ["text", "json"])]
    pub output: String,
}

impl How {
    /// A run of a test: this seed and program, words, and nothing left.
    pub fn of(seed: u64, program: &str) -> Self {
        Self { seed, program: Some(program.into()), keep: None, output: "text".into() }
    }

    /// Prints a report.
    ///
    /// # Errors
    /// It has no form in JSON.
    pub(crate) fn tell(&self, report: &(impl Serialize + Display)) -> Result<()> {
        match self.output.as_str() {
            "json" => println!("{}", serde_json::to_string_pretty(report).context("print the report")?),
            _ => println!("{report}"),
        }
        Ok(())
    }
}
