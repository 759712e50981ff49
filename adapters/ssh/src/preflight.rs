//! Looking at a host over SSH before nodes are placed there: each step that fails is a finding, and ends what can be known.

use hanse_adapters_core::AdapterError;
use hanse_adapters_core::preflight::{Asker, Finding, PreflightWish, judge};
use hanse_hostrun::{Act, now_ms};

use crate::SshAdapter;

impl SshAdapter {
    /// Connection, login, upload and execution of our program, then what that sees.
    pub(crate) async fn look_before(&self, wish: &PreflightWish) -> Vec<Finding> {
        let connection = match self.connection().await {
            Ok(connection) => connection,
            Err(error) => return vec![unreached(&error)],
        };
        let mut findings = vec![Finding::fine("connection", format!("logged in as {}", self.target.name))];
        if let Err(error) = self.place_program(&connection).await {
            findings.push(unplaced(&error));
            return findings;
        }
        findings.push(Finding::fine("program", "what is uploaded can be executed"));
        let asked_ms = now_ms();
        let report = match self.act(Act::Preflight { wish: wish.clone() }).await {
            Ok(reply) => reply.report(),
            Err(error) => Err(error),
        };
        match report {
            Ok(report) => {
                let asker = Asker { arch: std::env::consts::ARCH.into(), asked_ms, answered_ms: now_ms() };
                findings.extend(judge(&report, wish, &asker));
            }
            Err(error) => findings.push(Finding::error(
                "program",
                error.to_string(),
                "look at the account's shell, its quota and the host's log",
            )),
        }
        findings
    }
}

fn unreached(error: &AdapterError) -> Finding {
    let advice = match error {
        AdapterError::Denied { .. } | AdapterError::Invalid { .. } => {
            "nothing else can be looked at before the host lets the platform in"
        }
        AdapterError::Transient { .. } | AdapterError::Unknown { .. } => {
            "see that sshd runs there, that address and port are right, and that no firewall is between"
        }
    };
    Finding::error("connection", error.to_string(), advice)
}

fn unplaced(error: &AdapterError) -> Finding {
    Finding::error(
        "program",
        error.to_string(),
        "the account needs a POSIX shell, a root folder it may write to, on a file system that is not mounted noexec, and a \
         processor like the replica's",
    )
}
