//! What the embedded node says beyond Ethereum's forms; `None` for anything that does not fit.

use hanse_engines_core::{Block, NodeHealth};
pub(crate) use hanse_engines_evm::explorer::{bytes, optional, quantity, text};
use serde_json::Value;

pub(crate) fn health(status: &Value) -> Option<NodeHealth> {
    Some(NodeHealth {
        height: status["height"].as_u64()?,
        block_hash: text(&status["latest_block_hash"])?,
        block_time_ms: status["latest_block_time_ms"].as_u64()?,
        peers: u32::try_from(status["peers"].as_u64()?).ok()?,
        syncing: status["syncing"].as_bool()?,
        version: text(&status["version"])?,
        reasons: reasons(status)?,
        power: None,
    })
}

/// What keeps the node from following. A program from before `not_ready` says `halted` only.
fn reasons(status: &Value) -> Option<Vec<String>> {
    match &status["not_ready"] {
        Value::Null => Some(optional(&status["halted"])?.into_iter().collect()),
        reasons => reasons.as_array()?.iter().map(text).collect(),
    }
}

/// Ethereum's time is in seconds; the node keeps the milliseconds in the extra data, all of its eight bytes. Block 0
/// has the genesis hash there.
pub(crate) fn block(value: &Value) -> Option<Block> {
    let block = hanse_engines_evm::explorer::block(value)?;
    match <[u8; 8]>::try_from(bytes(&value["extraData"])?) {
        Ok(millis) => Some(Block { time_ms: u64::from_be_bytes(millis), ..block }),
        Err(_) => Some(block),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nonsense_is_not_read() {
        assert!(health(&json!({ "height": "7" })).is_none());
        assert!(block(&json!({})).is_none());
    }
}
