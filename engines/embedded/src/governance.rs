//! From the node's JSON to what the platform shows of governance; `None` for anything that does not fit.

use hanse_engines_core::{
    AllowList, Evidence, Governance, LedgerValidator, ListChange, PendingValidators, Rules, Upgrade,
};
use serde_json::Value;

use crate::explorer::{optional, text};

/// What the node is asked, in one batch: the answers [`read`] takes.
pub(crate) const METHODS: [&str; 4] =
    ["consensus_governance", "consensus_validators", "consensus_status", "consensus_evidence"];

/// Reads the answers to [`METHODS`].
pub(crate) fn read(answers: &[Value]) -> Option<Governance> {
    let [governance, next, status, evidence] = answers else { return None };
    let halted = optional(&status["halted"])?;
    let protocol = status["protocol"].as_u64()?;
    let evidence = list(evidence, proof)?;
    if governance.is_null() {
        let next_height = status["height"].as_u64()? + 1;
        let (validators, pending) = (list(next, validator)?, Vec::new());
        return Some(Governance { next_height, validators, pending, rules: None, protocol, halted, evidence });
    }
    // The four answers may be of neighbouring blocks: what belongs together is taken from one of them.
    Some(Governance {
        next_height: governance["next_height"].as_u64()?,
        validators: list(&governance["validators"], validator)?,
        pending: list(&governance["pending_validators"], |set| {
            let from_height = set["from_height"].as_u64()?;
            Some(PendingValidators { from_height, validators: list(&set["validators"], validator)? })
        })?,
        rules: Some(rules(governance)?),
        protocol,
        halted,
        evidence,
    })
}

/// Reads the answer to `consensus_validators`.
pub(crate) fn validators(answer: &Value) -> Option<Vec<LedgerValidator>> {
    list(answer, validator)
}

fn rules(governance: &Value) -> Option<Rules> {
    Some(Rules {
        account: text(&governance["address"])?,
        genesis_hash: text(&governance["genesis_hash"])?,
        chain_id: governance["chain_id"].as_u64()?,
        members: list(&governance["members"], text)?,
        threshold: governance["threshold"].as_u64()?,
        sequence: governance["sequence"].as_u64()?,
        nodes: allow_list(&governance["nodes"])?,
        senders: allow_list(&governance["senders"])?,
        deployers: allow_list(&governance["deployers"])?,
        upgrade: match &governance["upgrade"] {
            Value::Null => None,
            it => Some(Upgrade { version: it["version"].as_u64()?, after_height: it["after_height"].as_u64()? }),
        },
        protocol_needed: governance["protocol_needed"].as_u64()?,
    })
}

fn validator(value: &Value) -> Option<LedgerValidator> {
    Some(LedgerValidator {
        node_id: text(&value["node_id"])?,
        public_key: text(&value["public_key"])?,
        power: value["power"].as_u64()?,
    })
}

fn allow_list(value: &Value) -> Option<AllowList> {
    Some(AllowList {
        restricted: value["restricted"].as_bool()?,
        restricted_soon: value["restricted_soon"].as_bool()?,
        entries: list(&value["entries"], text)?,
        pending: list(&value["pending"], |change| {
            Some(ListChange {
                entry: text(&change["entry"])?,
                allowed: change["allowed"].as_bool()?,
                from_height: change["from_height"].as_u64()?,
            })
        })?,
    })
}

fn proof(value: &Value) -> Option<Evidence> {
    Some(Evidence {
        node_id: text(&value["node_id"])?,
        kind: text(&value["kind"])?,
        height: value["height"].as_u64()?,
        round: value["round"].as_u64()?,
    })
}

fn list<T>(value: &Value, read: impl Fn(&Value) -> Option<T>) -> Option<Vec<T>> {
    value.as_array()?.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn answers() -> [Value; 4] {
        let voter = json!({ "node_id": "aa", "public_key": "bb", "power": 3 });
        let list = json!({ "restricted": false, "restricted_soon": true, "entries": ["0x1"],
                           "pending": [{ "entry": "0x2", "allowed": true, "from_height": 9 }] });
        let governance = json!({
            "address": "0x4", "chain_id": 7, "genesis_hash": "0x5", "next_height": 8, "members": ["0x6"],
            "threshold": 1, "sequence": 2, "validators": [voter],
            "pending_validators": [{ "from_height": 9, "validators": [voter, voter] }],
            "nodes": list, "senders": list, "deployers": list,
            "upgrade": { "version": 2, "after_height": 50 }, "protocol_needed": 1,
        });
        let status = json!({ "height": 6, "halted": "upgrade needed: version 2", "protocol": 1 });
        let evidence = json!([{ "node_id": "aa", "kind": "prevote", "height": 3, "round": 0, "first": {} }]);
        [governance, json!([voter]), status, evidence]
    }

    #[test]
    fn what_is_in_force_and_what_will_be_is_read() {
        let found = read(&answers()).unwrap();
        assert_eq!((found.next_height, found.validators.len(), found.protocol), (8, 1, 1));
        assert_eq!((found.pending[0].from_height, found.pending[0].validators.len()), (9, 2));
        assert_eq!(found.halted.as_deref(), Some("upgrade needed: version 2"));
        assert_eq!((found.evidence[0].kind.as_str(), found.evidence[0].height), ("prevote", 3));
        let rules = found.rules.unwrap();
        assert_eq!((rules.threshold, rules.sequence, rules.members.as_slice()), (1, 2, ["0x6".to_owned()].as_slice()));
        assert!(!rules.senders.restricted && rules.senders.restricted_soon);
        assert_eq!((rules.senders.pending[0].entry.as_str(), rules.upgrade.unwrap().after_height), ("0x2", 50));
    }

    #[test]
    fn a_chain_without_governance_has_validators_all_the_same() {
        let mut answers = answers();
        answers[0] = Value::Null;
        let found = read(&answers).unwrap();
        assert_eq!((found.next_height, found.validators.len(), found.rules), (7, 1, None));
    }

    #[test]
    fn nonsense_is_not_read() {
        for place in [1, 2, 3] {
            let mut answers = answers();
            answers[0] = Value::Null;
            answers[place] = json!("x");
            assert!(read(&answers).is_none(), "{place}");
        }
        let mut answers = answers();
        answers[0]["senders"]["restricted"] = json!(1);
        assert!(read(&answers).is_none());
        assert!(read(&answers[..3]).is_none());
    }
}
