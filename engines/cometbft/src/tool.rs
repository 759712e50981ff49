//! The application's program, run for a moment on a host: its keys, its claims, its questions and transactions.
//!
//! The program makes and keeps every private key itself; what comes back is the public half. A mnemonic is never asked
//! for (`--no-backup`).

use std::collections::BTreeMap;
use std::time::Duration;

use hanse_adapters_core::{Bundle, RunSpec};
use hanse_engines_core::{EngineError, NodePlan, Result, Seat};
use hanse_engines_evm::refused;
use serde_json::Value;

use crate::contribution::OPERATOR;
use crate::profile::Profile;

/// How long a run may take on a slow host.
const RUN_LIMIT: Duration = Duration::from_secs(60);
/// Gas that a transaction of the driver may use; each of them needs a fraction.
const GAS: u64 = 500_000;
/// What a node answers to a transaction that it has already (cosmos-sdk, types/errors: ErrTxInMempoolCache).
const IN_MEMPOOL: u64 = 19;
/// Most of what a program said that goes into an error.
const SAID_MAX: usize = 400;

/// The program on the host of one node.
pub(crate) struct Tool<'a> {
    pub(crate) bundle: &'a Bundle,
    pub(crate) profile: &'a Profile,
    pub(crate) host: &'a dyn hanse_adapters_core::Adapter,
    pub(crate) node: &'a NodePlan,
}

/// The environment of every process of the application: the libraries of its bundle.
pub(crate) fn environment() -> BTreeMap<String, String> {
    [("LD_LIBRARY_PATH".to_owned(), "{artifact}".to_owned())].into()
}

impl<'a> Tool<'a> {
    pub(crate) fn at(bundle: &'a Bundle, profile: &'a Profile, seat: &Seat<'a>) -> Self {
        Self { bundle, profile, host: seat.host, node: seat.node }
    }

    /// Runs a command in the node's home and returns what it printed; anything but success is an error with what the
    /// program said.
    pub(crate) async fn run(&self, words: &[&str]) -> Result<String> {
        self.attempt(words).await?.map_err(|said| {
            let command: Vec<&str> = words.iter().copied().take(3).collect();
            refused(self.node, format!("`{}` failed: {}", command.join(" "), cut(&said)))
        })
    }

    /// Runs a command; the inner error is what a program said that did not end with success.
    pub(crate) async fn attempt(&self, words: &[&str]) -> Result<std::result::Result<String, String>> {
        let args = words.iter().chain(&["--home", "{home}"]).map(|word| (*word).to_owned()).collect();
        let spec = RunSpec {
            artifact_sha256: self.bundle.manifest.sha256.clone(),
            program: Some(self.bundle.program.clone()),
            args,
            env: environment(),
            timeout: RUN_LIMIT,
        };
        let output = self.host.run(&self.node.key, &spec).await.map_err(EngineError::Host)?;
        Ok(match output.code {
            Some(0) => Ok(output.stdout),
            Some(_) => Err(format!("{}{}", output.stderr, output.stdout)),
            None => Err(format!("ended by a signal or after {} s: {}", RUN_LIMIT.as_secs(), output.stderr)),
        })
    }

    /// Asks the running node at its RPC for the consensus; `None` if it says that there is no such thing.
    pub(crate) async fn query(&self, chain: &str, words: &[&str]) -> Result<Option<Value>> {
        let node = self.rpc()?;
        let all = [&["query"], words, &["--node", &node, "--chain-id", chain, "--output", "json"]].concat();
        match self.attempt(&all).await? {
            Ok(printed) => serde_json::from_str(&printed)
                .map(Some)
                .map_err(|e| refused(self.node, format!("`query {}` printed no JSON: {e}", words.join(" ")))),
            Err(said) if said.contains("NotFound") || said.contains("not found") => Ok(None),
            Err(said) => Err(refused(self.node, format!("`query {}` failed: {}", words.join(" "), cut(&said)))),
        }
    }

    /// Signs a transaction with the operator's key and hands it to the node. A second one before the first is in a block
    /// is refused by its sequence number, as `NotNow`, so that nothing is ever done twice.
    pub(crate) async fn send(&self, chain: &str, words: &[&str]) -> Result<()> {
        let (node, gas) = (self.rpc()?, GAS.to_string());
        let fees = format!("{}{}", u128::from(GAS) * u128::from(self.profile.gas_price), self.profile.gas_denom);
        let signed = ["--from", OPERATOR, "--keyring-backend", "test", "--chain-id", chain, "--node", &node];
        let paid = ["--gas", &gas, "--fees", &fees, "--broadcast-mode", "sync", "-y", "--output", "json"];
        let all = [&["tx"], words, &signed, &paid].concat();
        let said = match self.attempt(&all).await? {
            Ok(printed) => {
                let answer: Value = serde_json::from_str(&printed)
                    .map_err(|e| refused(self.node, format!("`tx {}` printed no JSON: {e}", words.join(" "))))?;
                if answer["code"].as_u64() == Some(0) {
                    return Ok(());
                }
                match (answer["code"].as_u64(), answer["raw_log"].as_str().unwrap_or_default()) {
                    // The SDK gives this one without words (cosmos-sdk, client/broadcast.go, CheckCometError).
                    (Some(IN_MEMPOOL), "") => "tx already in mempool".to_owned(),
                    (_, words) => words.to_owned(),
                }
            }
            Err(said) => said,
        };
        let reason = format!("`tx {}`: {}", words.iter().copied().take(2).collect::<Vec<_>>().join(" "), cut(&said));
        if said.contains("account sequence mismatch") || said.contains("already in mempool") {
            return Err(EngineError::NotNow { node: self.node.key.to_string(), reason });
        }
        Err(refused(self.node, reason))
    }

    fn rpc(&self) -> Result<String> {
        Ok(format!("tcp://127.0.0.1:{}", crate::port(self.node, crate::CONSENSUS_RPC)?))
    }
}

/// The end of what a program said, where it says why.
fn cut(said: &str) -> String {
    let said = said.trim();
    let skip = said.chars().count().saturating_sub(SAID_MAX);
    said.chars().skip(skip).collect()
}
