//! `hanse doctor`: what an operator should know before it hurts, each finding with what to do.
//!
//! With `--config` it looks at this machine: configuration, rights, certificates, free space, the time an fsync takes. With
//! an endpoint it asks the cluster: leader, majority, digests, versions, the last backup. What could not be looked at is a
//! finding too.
//!
//! What this never does: change anything but a small file of its own in the data folder, which it removes, or show a secret.

mod cluster;
mod local;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

use crate::cli::Global;
use crate::output::{self, Format, Table};

/// What `hanse doctor` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct DoctorArgs {
    /// Configuration of the replica on this machine; without it only the cluster is asked.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// A certificate that ends within so many days is a warning.
const EXPIRY_WARNING_DAYS: i64 = 30;
/// And within so many an error.
const EXPIRY_ERROR_DAYS: i64 = 7;
const DAY_MS: i64 = 24 * 3_600 * 1_000;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    /// All is well.
    Ok,
    /// It will hurt later.
    Warning,
    /// It hurts.
    Error,
}

impl Severity {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// How bad it is.
    pub(crate) severity: Severity,
    /// What was looked at, a short fixed name for scripts.
    pub(crate) check: &'static str,
    /// What was found.
    pub(crate) what: String,
    /// What to do; empty if nothing.
    pub(crate) advice: String,
}

impl Finding {
    fn ok(check: &'static str, what: impl Into<String>) -> Self {
        Self { severity: Severity::Ok, check, what: what.into(), advice: String::new() }
    }

    fn warning(check: &'static str, what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, check, what: what.into(), advice: advice.into() }
    }

    fn error(check: &'static str, what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { severity: Severity::Error, check, what: what.into(), advice: advice.into() }
    }
}

/// Looks, tells, and gives 0, or 1 if anything is an error.
pub(crate) async fn run(args: DoctorArgs, global: &Global) -> ExitCode {
    let findings = findings(args.config.as_deref(), global).await;
    let worst = worst(&findings);
    if let Err(error) = tell(&findings, global.format()) {
        eprintln!("hanse doctor: cannot write: {error}");
        return ExitCode::FAILURE;
    }
    if worst == Severity::Error { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn worst(findings: &[Finding]) -> Severity {
    findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Ok)
}

/// Looks at this machine, if a configuration is given, and at the cluster.
pub(crate) async fn findings(config: Option<&Path>, global: &Global) -> Vec<Finding> {
    let mut findings = Vec::new();
    match config {
        Some(path) => {
            // Blocks on the disk; nothing else runs in this program.
            findings.extend(local::look(path));
        }
        None => findings.push(Finding::warning(
            "config",
            "this machine was not looked at",
            "give --config FILE where a replica runs",
        )),
    }
    findings.extend(cluster::look(global).await);
    findings
}

/// Gives the findings and the worst of them as JSON.
pub(crate) fn to_json(findings: &[Finding]) -> serde_json::Value {
    let list = findings.iter().map(|finding| {
        json!({
            "severity": finding.severity.word(),
            "check": finding.check,
            "what": finding.what,
            "advice": finding.advice,
        })
    });
    json!({ "worst": worst(findings).word(), "findings": list.collect::<Vec<_>>() })
}

fn tell(findings: &[Finding], format: Format) -> std::io::Result<()> {
    match format {
        Format::Json => output::print_json(&to_json(findings)),
        Format::Name => {
            let bad = findings.iter().filter(|finding| finding.severity > Severity::Ok);
            output::print(&bad.map(|finding| format!("{}\n", finding.check)).collect::<String>())
        }
        Format::Table => {
            let row = |finding: &Finding| {
                vec![finding.severity.word().into(), finding.check.into(), finding.what.clone(), finding.advice.clone()]
            };
            let headings = ["SEVERITY", "CHECK", "FOUND", "WHAT TO DO"].map(String::from).to_vec();
            output::print(&Table { headings, rows: findings.iter().map(row).collect() }.render())
        }
    }
}
