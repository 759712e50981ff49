//! What keeps a validator from signing two things for one step.
//!
//! CometBFT keeps the last height, round and step that it signed in `data/priv_validator_state.json`, and signs nothing at
//! or before them. Put back from an older copy (a backup, a snapshot of the machine), the file forgets what was signed
//! since, and the validator may contradict itself; the chain then takes part of its stake and shuts its key out for ever.
//! So before a node is started the file is compared with what was seen last; and the home's key must be the node's own,
//! so that a copied home is not a second validator.

use hanse_engines_core::{EngineError, NodePlan, Result, Signed};
use hanse_engines_evm::refused;
use serde_json::Value;

use crate::keys;
use crate::tool::Tool;

pub(crate) const STATE_FILE: &str = "data/priv_validator_state.json";

/// How far the home says that the node has signed; `None` if it never did.
pub(crate) async fn signed(tool: &Tool<'_>) -> Result<Option<Signed>> {
    let Some(bytes) = keys::read(tool, STATE_FILE).await? else { return Ok(None) };
    let signed = parse(&bytes).ok_or_else(|| {
        refused(tool.node, format!("{STATE_FILE} cannot be read; without it nobody knows what this validator signed"))
    })?;
    Ok((signed > Signed::default()).then_some(signed))
}

/// Refuses a home that could make the validator contradict itself.
pub(crate) async fn check(tool: &Tool<'_>) -> Result<()> {
    let home = signed(tool).await?;
    behind(tool.node, home)?;
    let Some(identity) = &tool.node.identity else { return Ok(()) };
    let key = keys::validator_key(tool).await?;
    if key == identity.public_key {
        return Ok(());
    }
    Err(EngineError::Invalid {
        field: "config/priv_validator_key.json".into(),
        reason: format!(
            "holds the key {key}, this node is {}: a validator's key must not be in two places. Put the node's own home \
             back, or remove this node and order a new one",
            identity.public_key
        ),
    })
}

fn behind(node: &NodePlan, home: Option<Signed>) -> Result<()> {
    let (Some(seen), home) = (node.signed, home.unwrap_or_default()) else { return Ok(()) };
    if home >= seen {
        return Ok(());
    }
    Err(EngineError::Invalid {
        field: STATE_FILE.into(),
        reason: format!(
            "is at {home}, but this validator has signed up to {seen}: the home was put back to an older state, and \
             starting it could sign twice, which the chain punishes for ever. Put back the newest home, or remove this \
             node and order a new one with a new key"
        ),
    })
}

/// What the file says; `None` if it is none.
pub(crate) fn parse(bytes: &[u8]) -> Option<Signed> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    // CometBFT writes the height as text and the others as numbers.
    let height = value["height"].as_str()?.parse().ok()?;
    let small = |name: &str| value[name].as_u64().and_then(|number| u32::try_from(number).ok());
    Some(Signed { height, round: small("round")?, step: small("step")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_height_round_step() {
        let file = |height: &str| format!(r#"{{"height": "{height}", "round": 2, "step": 3, "signature": "x"}}"#);
        let read = parse(file("21").as_bytes());
        assert_eq!(read, Some(Signed { height: 21, round: 2, step: 3 }));
        assert!(Signed { height: 21, round: 1, step: 9 } < Signed { height: 21, round: 2, step: 1 });
        assert!(Signed { height: 9, round: 9, step: 3 } < Signed { height: 10, round: 0, step: 1 });
        for bad in ["", "{}", r#"{"height": 21, "round": 0, "step": 3}"#, &file("-1"), "x"] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
