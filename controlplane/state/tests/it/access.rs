//! The whole access matrix as a golden file: one line a command, one column an actor.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;

use hanse_state::account::{PlatformRole, Role, TenantRole};
use hanse_state::{Actor, Rejection, access};

use super::parse::{self, Args};
use super::world::{self, World, actor, tenant};

/// Every command once, about the tenant `acme` (founder and member) and the consortium `trade`.
pub(crate) const SAMPLES: [&str; 79] = [
    "AcceptHostKey",
    "ActivateConsortium",
    "Bootstrap",
    "CastBallot voter=acme",
    "CheckDigest",
    "CloseProposal",
    "CloseSession",
    "CordonHost",
    "CreateAccount account=new@acme tenant=acme",
    "CreateConsortium",
    "CreateTenant",
    "DeployContract",
    "EnrolHost",
    "InitCluster",
    "InviteMember",
    "JoinConsortium tenant=acme",
    "Meter",
    "OpenProposal",
    "OpenSession account=root",
    "RecordContractFact Sent",
    "RecordGenesis",
    "RecordHostFacts",
    "RecordHostKeyChanged",
    "RecordIntent Prepare",
    "RecordLoginFailure account=root",
    "RecordNodeFact Started",
    "RestartNode",
    "RestoreAccount account=owner@acme",
    "SetPlan",
    "SuspendAccount account=dev@acme",
    "UncordonHost",
    "SetTenantMetadata tenant=acme note=hello",
    "CreateBackup",
    "RestoreCluster",
    "ResumeCluster",
    "AddReplica",
    "PromoteReplica replica=4",
    "RemoveReplica replica=3",
    "TransferLeader replica=2",
    "RecordReplica Member replica=3",
    "RaiseClusterVersion",
    "RecordTransaction",
    "SetHostProperties zone=z1",
    "ImportArtifact",
    "ImportArtifact unsigned=try",
    "DeleteArtifact",
    "PinPublisher",
    "UnpinPublisher",
    "RemoveOrphan",
    "BeginHostMaintenance",
    "DrainHost",
    "RetireHost",
    "PauseChain",
    "ResumeChain",
    "UndeleteChain",
    "PurgeChain",
    "RollChain",
    "RollBackChain",
    "HaltRollout",
    "ContinueRollout",
    "RollNode",
    "ReleaseNode",
    "ExchangeProgram",
    "RecordUnseated",
    "AddCloud",
    "RemoveCloud",
    "CreateMachine",
    "DeleteMachine",
    "RecordMachineIntent Create",
    "RecordMachineFact Launched",
    "RemoveCloudOrphan",
    "SetHostReach login=agent",
    "MoveNode to=h2",
    "MoveNode to=h2 lost=yes",
    "RecordEvicted",
    "SetChainRepair",
    "AdoptChain",
    "GiveBackNode",
    "EndAdoption",
];

#[test]
fn matrix() {
    let mut w = World::running(4);
    w.account("aud", Role::Platform(PlatformRole::Auditor));
    let mut actors = vec!["system", "setup-code", "root", "oda", "aud", "owner@acme"]
        .into_iter()
        .map(String::from)
        .collect::<Vec<_>>();
    for (name, role) in [("op", TenantRole::Operator), ("bil", TenantRole::Billing), ("aud", TenantRole::Auditor)] {
        let id = format!("{name}@acme");
        w.account(&id, Role::Tenant { tenant: tenant("acme"), role });
        actors.push(id);
    }
    actors.extend(["dev@acme", "owner@globex", "owner@umbrella", "ghost"].map(String::from));

    let mut output = format!("{:<22}{}\n", "", actors.join(" "));
    for sample in SAMPLES {
        let args = Args::parse(&format!("root {sample}"));
        let command = parse::command(&w, &args);
        write!(output, "{:<22}", command.name()).unwrap();
        for name in &actors {
            let who: Actor = actor(name);
            let mark = match access::check(&w.state, &who, &command) {
                Ok(()) => "yes",
                Err(Rejection::PermissionDenied { .. }) => "-",
                Err(Rejection::NotAMember { .. }) => "not",
                Err(other) => panic!("{sample} by {name}: {other}"),
            };
            write!(output, "{mark:<width$} ", width = name.len()).unwrap();
        }
        output = output.trim_end().to_owned() + "\n";
    }
    super::golden("access.txt", &output);
}

#[test]
fn a_session_is_closed_by_its_own_account_only() {
    let mut w = World::platform();
    for (line, is_ok) in [
        ("system OpenSession account=owner@acme", true),
        ("root CloseSession", false),
        ("owner@globex CloseSession", false),
        ("owner@acme CloseSession", true),
    ] {
        let args = Args::parse(line);
        let command = parse::command(&w, &args);
        assert_eq!(w.send(world::actor(args.verb()), command).outcome.is_ok(), is_ok, "{line}");
    }
}
