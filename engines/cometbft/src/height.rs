//! A change of program at one height: whether a node stands there, how it goes on, and whether it can still go back.
//!
//! The application stops before it executes the block of its `halt-height`: consensus has decided that block, the application has
//! not seen it. A process that comes there with the others lives on and answers; one that catches up, or is started again, ends
//! with the same words in its log. What the application has executed is in its database, whose `CURRENT` names another file
//! after every opening (goleveldb makes a new manifest each time): as long as it is what it was when the node stood there, no
//! other program has even opened it.

use hanse_adapters_core::RunState;
use hanse_engines_core::{EngineError, Result, WayBack};
use hanse_engines_evm::nonsense;
use hanse_engines_evm::rpc::Rpc;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::health::number;
use crate::keys;
use crate::tool::Tool;

/// What is kept of a node that stood at a height, for the way back.
const MARK_FILE: &str = "hanse/exchange.json";
/// Names the newest file of the application's database.
const CURRENT_FILE: &str = "data/application.db/CURRENT";
/// Last lines of a log in which an ended process says why.
const LAST_WORDS: u32 = 60;

/// How a home stood when its program was exchanged.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    /// The first block of the next program.
    height: u64,
    /// What [`CURRENT_FILE`] held.
    current: String,
}

/// Whether the node stands before it executes block `height`.
pub(crate) async fn stands_at(tool: &Tool<'_>, height: u64) -> Result<bool> {
    let Some(status) = tool.host.look(&tool.node.key).await.map_err(EngineError::Host)? else { return Ok(false) };
    match status.run {
        RunState::Running { .. } => {
            let (decided, executed) = heights(tool).await?;
            Ok(decided == height && executed + 1 == height)
        }
        RunState::Exited { .. } => {
            let log = tool.host.tail(&tool.node.key, LAST_WORDS).await.map_err(EngineError::Host)?;
            Ok(says_so(&log, height))
        }
        RunState::Prepared => Ok(false),
    }
}

/// Whether the words of a process that has ended are those of one that stopped before block `height` (cosmos-sdk,
/// `baseapp.checkHalt`).
fn says_so(log: &str, height: u64) -> bool {
    log.contains(&format!("halt per configuration height {height} "))
}

/// The last block that was decided, and the last that the application has executed.
async fn heights(tool: &Tool<'_>) -> Result<(u64, u64)> {
    let rpc = Rpc::new(tool.host, tool.node).at(crate::port(tool.node, crate::CONSENSUS_RPC)?);
    let answers = rpc.all(&[("status", json!({})), ("abci_info", json!({}))]).await?;
    let [status, app] = answers.as_slice() else { return Err(nonsense(tool.node, "a batch", &json!(answers))) };
    let decided = number(&status["sync_info"]["latest_block_height"]);
    // An application that has executed nothing leaves it out.
    let executed = match &app["response"]["last_block_height"] {
        serde_json::Value::Null => Some(0),
        told => number(told),
    };
    decided.zip(executed).ok_or_else(|| nonsense(tool.node, "status", status))
}

/// Takes the halt back, and keeps how the home stood; doing it again keeps the first.
pub(crate) async fn go_on(tool: &Tool<'_>, height: u64) -> Result<()> {
    if mark(tool).await?.is_none_or(|mark| mark.height != height)
        && let Some(current) = current(tool).await?
    {
        let mark = serde_json::to_vec(&Mark { height, current }).map_err(|e| nonsense_mark(tool, &e))?;
        keys::put(tool, MARK_FILE, &mark).await?;
    }
    crate::config::halt_at(tool, 0).await
}

/// Whether nothing was executed from block `height` on, so that another program can execute it.
pub(crate) async fn way_back(tool: &Tool<'_>, height: u64) -> Result<WayBack> {
    let status = tool.host.look(&tool.node.key).await.map_err(EngineError::Host)?;
    if let Some(RunState::Running { .. }) = status.map(|status| status.run)
        && let Ok((_, executed)) = heights(tool).await
    {
        return Ok(match executed < height {
            true => WayBack::Open,
            false => WayBack::Closed(executed_it(height)),
        });
    }
    if crate::guard::signed(tool).await?.is_some_and(|signed| signed.height > height) {
        return Ok(WayBack::Closed(executed_it(height)));
    }
    let mark = mark(tool).await?.filter(|mark| mark.height == height);
    if mark.is_some() && mark.map(|mark| mark.current) == current(tool).await? {
        return Ok(WayBack::Open);
    }
    let reason = format!(
        "the next program has opened its application's state and does not answer: whether it has executed block {height} cannot be \
         seen from outside"
    );
    Ok(WayBack::Unknown(reason))
}

fn executed_it(height: u64) -> String {
    format!("it has executed block {height} with the next program, and others may hold what follows from it")
}

async fn mark(tool: &Tool<'_>) -> Result<Option<Mark>> {
    let Some(bytes) = keys::read(tool, MARK_FILE).await? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|e| nonsense_mark(tool, &e))
}

fn nonsense_mark(tool: &Tool<'_>, error: &serde_json::Error) -> EngineError {
    hanse_engines_evm::refused(tool.node, format!("{MARK_FILE}: {error}"))
}

async fn current(tool: &Tool<'_>) -> Result<Option<String>> {
    let bytes = keys::read(tool, CURRENT_FILE).await?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_of_that_height_and_no_other() {
        let log =
            "ERR CONSENSUS FAILURE!!! err=\"failed to apply block; error halt per configuration height 120 time 0\"";
        assert!(says_so(log, 120));
        assert!(!says_so(log, 12) && !says_so(log, 1_200) && !says_so("panic", 120));
    }
}
