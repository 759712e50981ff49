//! Governance by the API: what a node says, joined with whose nodes and accounts they are and with everybody's evidence;
//! and that what is sent to a chain leaves a record first.

use hanse_engines_core as engine;
use hanse_proto::v1 as pb;
use hanse_state::Digest;

use crate::harness::*;

fn account(digit: &str) -> String {
    format!("0x{}", digit.repeat(40))
}

/// What the two members vote on.
pub(crate) fn ordered() -> pb::GovernanceSpec {
    let members = [("acme".to_owned(), account("a")), ("bank".to_owned(), account("b"))];
    pb::GovernanceSpec { members: members.into(), threshold: 2, ..Default::default() }
}

/// What a node says that has evidence of these heights: a third member came later, a validator of somebody else will.
pub(crate) fn said(evidence: &[u64]) -> engine::Governance {
    let voter = |id: &str, power| engine::LedgerValidator { node_id: id.into(), public_key: "ab".repeat(32), power };
    let list = |restricted| engine::AllowList {
        restricted,
        restricted_soon: true,
        entries: vec![account("1")],
        pending: vec![engine::ListChange { entry: account("2"), allowed: true, from_height: 101 }],
    };
    let proof =
        |height: &u64| engine::Evidence { node_id: "id1".into(), kind: "prevote".into(), height: *height, round: 0 };
    engine::Governance {
        next_height: 100,
        validators: vec![voter("id0", 1), voter("id1", 1)],
        pending: vec![engine::PendingValidators {
            from_height: 101,
            validators: vec![voter("id0", 2), voter("else", 1)],
        }],
        rules: Some(engine::Rules {
            account: account("4"),
            genesis_hash: format!("0x{}", "5".repeat(64)),
            chain_id: 4_242,
            members: vec![account("a"), account("b"), account("c")],
            threshold: 2,
            sequence: 7,
            nodes: list(false),
            senders: list(true),
            deployers: list(false),
            upgrade: Some(engine::Upgrade { version: 2, after_height: 500 }),
            protocol_needed: 1,
        }),
        protocol: 1,
        halted: None,
        evidence: evidence.iter().map(proof).collect(),
    }
}

/// A member sees all of it.
pub(crate) async fn is_shown(bank: &Client) {
    let request = pb::GetChainGovernanceRequest { consortium: "trade".into(), chain: "supply-1".into() };
    let answer = bank.chains().get_chain_governance(request).await.unwrap().into_inner();
    assert!(answer.node.starts_with("consortiums/trade/chains/supply-1/nodes/n"), "{answer:?}");
    let found = answer.governance.unwrap();
    let node = |n: u32| format!("consortiums/trade/chains/supply-1/nodes/n{n}");
    let of = |set: &[pb::LedgerValidator]| -> Vec<(String, String, u64)> {
        set.iter().map(|it| (it.node.clone(), it.owner.clone(), it.power)).collect()
    };
    assert_eq!(of(&found.validators), [(node(0), "acme".into(), 1), (node(1), "bank".into(), 1)]);
    let pending = &found.pending_validators[0];
    assert_eq!(of(&pending.validators), [(node(0), "acme".into(), 2), (String::new(), String::new(), 1)]);
    assert_eq!((found.governed, found.threshold, found.sequence, pending.from_height), (true, 2, 7, 101));
    let tenants: Vec<_> = found.members.iter().map(|it| it.tenant.as_str()).collect();
    assert_eq!(tenants, ["acme", "bank", ""], "who came later is not guessed");
    let senders = found.senders.unwrap();
    assert!(senders.restricted && senders.pending[0].allowed && !found.nodes.unwrap().restricted);
    assert_eq!(found.upgrade.unwrap().after_height, 500);
    let evidence: Vec<_> = found.evidence.iter().map(|it| (it.height, it.node.clone(), it.owner.as_str())).collect();
    assert_eq!(evidence, [(3, node(1), "bank"), (5, node(1), "bank")], "of all nodes, each fault once");
    assert!(found.silent_nodes.is_empty());
}

/// Before it is sent: also what the ledger then refuses has a record, and a request id stands for one transaction.
pub(crate) async fn what_is_sent_is_audited(acme: &Client, send: impl Fn(&[u8]) -> pb::SendTransactionRequest) {
    let records = async || {
        let all = acme.audit().list_audit(pb::ListAuditRequest::default()).await.unwrap().into_inner().records;
        all.into_iter().filter(|record| record.action == "RecordTransaction").collect::<Vec<_>>()
    };
    let before = records().await;
    for raw in [b"tx".as_slice(), b"bad"] {
        let is_it = |record: &&pb::AuditRecord| record.detail.contains(&Digest::of(raw).to_string());
        let record = before.iter().find(is_it).unwrap_or_else(|| panic!("{before:?}"));
        assert_eq!((record.outcome.as_str(), record.actor.as_str()), ("ok", "accounts/owner@acme"));
        assert_eq!(record.resource, "consortiums/trade/chains/supply-1");
    }
    let first = send(b"once");
    let hash = acme.chains().send_transaction(first.clone()).await.unwrap().into_inner().transaction_hash;
    let again = acme.chains().send_transaction(first.clone()).await.unwrap().into_inner().transaction_hash;
    assert_eq!(again, hash);
    assert_eq!(records().await.len(), before.len() + 1, "a retry is the same request");
    let other = pb::SendTransactionRequest { raw_transaction: b"other".to_vec(), ..first };
    let refused = acme.chains().send_transaction(other).await.unwrap_err();
    assert_eq!(reason(&refused), "REQUEST_ID_REUSED");
}
