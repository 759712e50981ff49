//! Chains that record the audit trail's heads: what may be ordered, from which cluster version on, and its frozen bytes.
#![allow(clippy::unwrap_used)]

use hanse_state::chain::ChainSpec;
use hanse_state::cluster::version::{RaiseClusterVersion, Version};
use hanse_state::codec::{decode_request, decode_state, encode_request, encode_state};
use hanse_state::consortium::policy::Policy;
use hanse_state::consortium::proposal::{Action, OpenProposal};
use hanse_state::{Actor, Command, Rejection, Request};

use super::wire::frozen;
use super::world::{self, World, actor, owner, request_id};

const KEY: &str = "demo.hanse.internal/audit+25a1a361+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c";

fn anchored(key: &str) -> ChainSpec {
    ChainSpec { anchor: Some(key.into()), ..world::spec(4) }
}

fn open(spec: ChainSpec) -> Command {
    let consortium = world::consortium();
    let action = Action::CreateChain(spec);
    Command::OpenProposal(OpenProposal { consortium, title: "A chain".into(), action, voting_period_ms: None })
}

fn raised() -> World {
    let mut w = World::hosts(Policy::Majority);
    w.ok(actor("root"), Command::RaiseClusterVersion(RaiseClusterVersion { version: Version(3) }));
    w
}

fn rejection(w: &mut World, spec: ChainSpec) -> Rejection {
    w.send(owner("acme"), open(spec)).outcome.unwrap_err()
}

#[test]
fn a_chain_is_ordered_with_the_key_that_was_voted_on_once_the_cluster_is_raised() {
    let mut w = World::hosts(Policy::Majority);
    let early = rejection(&mut w, anchored(KEY));
    assert!(matches!(early, Rejection::TooNew { since: Version(3), .. }), "{early:?}");
    assert_eq!(open(world::spec(4)).since(), Version::FIRST, "without an anchor it is what it was");
    let mut w = raised();
    let proposal = w.order(anchored(KEY));
    assert_eq!(w.state.chains[&world::chain_key()].spec.anchor.as_deref(), Some(KEY));
    let artifact = &w.state.proposals[&proposal].artifact;
    assert!(artifact.starts_with("{\"version\":2,") && artifact.ends_with(&format!(",\"anchor\":\"{KEY}\"}}}}")));
}

#[test]
fn what_no_ledger_would_read_is_refused_before_the_vote() {
    let mut w = raised();
    let field = |rejection: Rejection| match rejection {
        Rejection::InvalidValue { field, .. } => field,
        other => panic!("{other:?}"),
    };
    assert_eq!(field(rejection(&mut w, anchored("demo+00000000+AAAA"))), "action.chain.anchor");
    let mut taken = anchored(KEY);
    taken.alloc.insert(format!("0x48616e7365{}02", "0".repeat(28)), "1".into());
    assert_eq!(field(rejection(&mut w, taken)), "action.chain.alloc");
}

#[test]
fn its_request_and_state_are_read_and_written_alike() {
    let request = Request::new(request_id(1), Actor::SetupCode, "192.0.2.1:1", world::START, open(anchored(KEY)));
    let lines = frozen("v3/anchor-request.hex", || hex::encode(encode_request(&request)) + "\n");
    assert_eq!(decode_request(&lines[0]).unwrap(), request);
    assert_eq!(encode_request(&request), lines[0]);
    let ordered = || {
        let mut w = raised();
        w.order(anchored(KEY));
        w.state
    };
    let lines = frozen("v3/anchor-state.hex", || hex::encode(encode_state(&ordered())) + "\n");
    let decoded = decode_state(&lines[0]).unwrap();
    assert!(decoded == ordered() && encode_state(&decoded) == lines[0]);
}
