//! Asking a node which heads it holds, for a member who takes nobody's word but its own node's.

use std::path::Path;

use serde_json::{Value, json};

use crate::NodeError;
use crate::governance::client::Client;

/// Gives what the node behind `rpc` (`http://host:port`) answers to `consensus_anchors` (null on a chain without an anchor): at
/// least `limit` heads recorded in block `height` and before. `token_file` holds the node's access token, if it wants one.
///
/// # Errors
/// The URL or the file is wrong, the node cannot be reached, or it refuses.
pub fn ask(rpc: &str, token_file: Option<&Path>, limit: usize, height: Option<u64>) -> Result<Value, NodeError> {
    let read = |path: &Path| std::fs::read_to_string(path).map_err(NodeError::io("cannot read", path));
    let token = token_file.map(read).transpose()?.map(|text| text.trim().to_owned());
    let params = height.map_or_else(|| json!([limit]), |height| json!([limit, height]));
    Client::new(rpc, token)?.call("consensus_anchors", params)
}
