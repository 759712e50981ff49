//! The one door: deduplication, log time, access, the area's rule, audit, digest.

use std::collections::BTreeMap;

use imbl::OrdMap;

use crate::audit::{AuditHead, AuditRecord};
use crate::cluster::version::{self, Version};
use crate::codec::{encode_outcome, encode_record, encode_state};
use crate::command::{Actor, Command, Outcome, Request};
use crate::consortium::proposal::CloseProposal;
use crate::dedup::{DEDUP_MAX, Dedup, Lookup, Seen};
use crate::digests::Digests;
use crate::event::{Change, Event, Record};
use crate::ids::{AccountId, ProposalKey, RequestId};
use crate::{
    Applied, Digest, Divergence, Millis, Rejection, State, access, account, artifact, billing, chain, cloud, cluster,
    consortium, contract, host, replica, tenant,
};

/// Every so many entries the whole state is mixed into the digest, so that a difference that no outcome shows is found.
const WHOLE_STATE_EVERY: u64 = 1_000;

/// Log time never passes this moment (start of the year 9999): a leader's broken clock must not make months that
/// cannot be written.
pub(crate) const TIME_MAX: Millis = Millis(253_370_764_800_000);

/// Room made at once for the JSON of a command.
const DETAIL_ROOM: usize = 512;

/// What a rule knows of its entry besides the state, and where it says what it did.
pub(crate) struct Cx<'a> {
    pub(crate) revision: u64,
    pub(crate) now: Millis,
    pub(crate) request: &'a Request,
    pub(crate) diverged: Option<Divergence>,
    events: BTreeMap<String, Change>,
    records: Vec<Record>,
}

impl Cx<'_> {
    /// The acting account, `None` for the system and the setup code.
    pub(crate) fn account(&self) -> Option<&AccountId> {
        match &self.request.actor {
            Actor::Account(account) => Some(account),
            Actor::System | Actor::SetupCode => None,
        }
    }

    pub(crate) fn created(&mut self, resource: String) {
        self.events.insert(resource, Change::Created);
    }

    /// What was created in this entry stays `Created`.
    pub(crate) fn updated(&mut self, resource: String) {
        self.events.entry(resource).or_insert(Change::Updated);
    }

    pub(crate) fn deleted(&mut self, resource: String) {
        self.events.insert(resource, Change::Deleted);
    }

    pub(crate) fn record(&mut self, record: Record) {
        self.records.push(record);
    }
}

/// Applies one logged request: all checks, then all changes.
///
/// A rejection changes only revision, log time, audit head, deduplication and digest. A replay changes only revision,
/// log time and digest, and gives the first outcome.
///
/// # Panics
/// If `index` is not after the last applied one: the log has been fed out of order.
pub fn apply(state: &mut State, index: u64, request: &Request) -> Applied {
    assert!(index > state.revision, "entry {index} after {}", state.revision);
    state.revision = index;
    state.now = request.at.min(TIME_MAX).max(state.now.plus(1));

    let hash = wish_hash(request);
    let mut cx =
        Cx { revision: index, now: state.now, request, diverged: None, events: BTreeMap::new(), records: Vec::new() };
    // Facts of the system are idempotent by their content and would only fill the window.
    let is_remembered = request.actor != Actor::System;
    let admitted = access::check_session(state, request).and_then(|()| version::check(state, &request.command));
    let lookup = match admitted {
        // Not remembered: the same wish may come again in an open session, or once the cluster was raised.
        Err(rejection) => Lookup::Refused(rejection),
        Ok(()) if is_remembered => state.dedup.look(request.id, &hash),
        Ok(()) => Lookup::New,
    };
    let outcome = match lookup {
        Lookup::Replay(Seen { revision, outcome, .. }) => {
            mix_digest(state, &outcome, &[]);
            return Applied {
                revision,
                outcome,
                replayed: true,
                events: Vec::new(),
                records: Vec::new(),
                encoded_records: Vec::new(),
                diverged: None,
            };
        }
        Lookup::Refused(rejection) => Err(rejection),
        Lookup::New => {
            let outcome = execute(state, &mut cx);
            if is_remembered {
                let seen = Seen { hash, revision: index, outcome: outcome.clone() };
                state.dedup.remember(request.id, seen, DEDUP_MAX);
            }
            outcome
        }
    };
    finish(state, cx, outcome)
}

/// Runs access and rule on a draft, which costs a few pointers, so that a rejection cannot leave anything behind even
/// if a rule were to check after a change.
fn execute(state: &mut State, cx: &mut Cx<'_>) -> Result<Outcome, Rejection> {
    access::check(state, &cx.request.actor, &cx.request.command)?;
    if let Command::SetTenantMetadata(c) = &cx.request.command {
        // Its rule gives the change before it can touch anything: the types say what the draft is for.
        let change = tenant::apply::check_metadata_change(state, c)?;
        return Ok(change.carry_out(state, cx));
    }
    let mut draft = state.clone();
    let outcome = dispatch(&mut draft, cx);
    match &outcome {
        Ok(_) => *state = draft,
        Err(_) => {
            cx.events.clear();
            cx.records.clear();
        }
    }
    outcome
}

/// What may be asked for in advance.
#[derive(Clone, Debug)]
pub enum Planned {
    /// An order; an [`OpenProposal`](crate::consortium::proposal::OpenProposal) counts as passed.
    Order(Box<Command>),
    /// A proposal that is open, as if it had passed.
    Passed(ProposalKey),
}

/// Returns the state as it would be right after `actor` ordered what is `planned`, allowed to or not; `state` itself stays as
/// it is.
///
/// It runs the very rules that the order will run, so that a plan cannot say anything else than what happens then.
///
/// # Errors
/// The rejection that the order would get.
pub fn preview(state: &State, actor: &Actor, id: RequestId, at: Millis, planned: &Planned) -> Result<State, Rejection> {
    let command = match planned {
        Planned::Order(command) => (**command).clone(),
        Planned::Passed(proposal) => Command::CloseProposal(CloseProposal { proposal: proposal.clone() }),
    };
    version::check(state, &command)?;
    let request = Request::new(id, actor.clone(), String::new(), at, command);
    let mut draft = state.clone();
    draft.revision += 1;
    draft.now = at.min(TIME_MAX).max(state.now.plus(1));
    let (revision, now) = (draft.revision, draft.now);
    let mut cx = Cx { revision, now, request: &request, diverged: None, events: BTreeMap::new(), records: Vec::new() };
    match (planned, &request.command) {
        (Planned::Order(_), Command::OpenProposal(c)) => consortium::vote::foresee(&mut draft, &mut cx, c)?,
        (Planned::Order(_), _) => dispatch(&mut draft, &mut cx).map(drop)?,
        (Planned::Passed(proposal), _) => consortium::vote::foresee_passed(&mut draft, &mut cx, proposal)?,
    }
    Ok(draft)
}

fn dispatch(state: &mut State, cx: &mut Cx<'_>) -> Result<Outcome, Rejection> {
    let request = cx.request;
    match &request.command {
        Command::InitCluster(c) => cluster::apply::init(state, cx, c),
        Command::Bootstrap(c) => cluster::apply::bootstrap(state, cx, c),
        Command::CheckDigest(c) => cluster::apply::check_digest(state, cx, c),
        Command::CreateBackup(c) => cluster::backup::create(state, cx, c),
        Command::RestoreCluster(c) => cluster::backup::restore(state, cx, c),
        Command::ResumeCluster(c) => cluster::backup::resume(state, cx, c),
        Command::CreateAccount(c) => account::apply::create(state, cx, c),
        Command::SuspendAccount(c) => account::apply::suspend(state, cx, c),
        Command::RestoreAccount(c) => account::apply::restore(state, cx, c),
        Command::OpenSession(c) => account::apply::open_session(state, cx, c),
        Command::CloseSession(c) => account::apply::close_session(state, cx, c),
        Command::RecordLoginFailure(c) => account::apply::login_failure(state, cx, c),
        Command::CreateTenant(c) => tenant::apply::create(state, cx, c),
        Command::SetTenantMetadata(c) => {
            let change = tenant::apply::check_metadata_change(state, c)?;
            Ok(change.carry_out(state, cx))
        }
        Command::CreateConsortium(c) => consortium::apply::create(state, cx, c),
        Command::InviteMember(c) => consortium::apply::invite(state, cx, c),
        Command::JoinConsortium(c) => consortium::apply::join(state, cx, c),
        Command::ActivateConsortium(c) => consortium::apply::activate(state, cx, c),
        Command::OpenProposal(c) => consortium::vote::open(state, cx, c),
        Command::CloseProposal(c) => consortium::vote::close(state, cx, c),
        Command::CastBallot(c) => consortium::vote::cast(state, cx, c),
        Command::EnrolHost(c) => host::apply::enrol(state, cx, c),
        Command::CordonHost(c) => host::apply::cordon(state, cx, c),
        Command::UncordonHost(c) => host::apply::uncordon(state, cx, c),
        Command::RecordHostFacts(c) => host::apply::facts(state, cx, c),
        Command::RecordHostKeyChanged(c) => host::apply::key_changed(state, cx, c),
        Command::AcceptHostKey(c) => host::apply::accept_key(state, cx, c),
        Command::SetHostProperties(c) => host::properties::set(state, cx, c),
        Command::SetHostReach(c) => host::way::set(state, cx, c),
        Command::BeginHostMaintenance(c) => host::care::maintain(state, cx, c),
        Command::DrainHost(c) => host::care::drain(state, cx, c),
        Command::RetireHost(c) => host::care::retire(state, cx, c),
        Command::RecordGenesis(c) => chain::apply::genesis(state, cx, c),
        Command::RecordIntent(c) => chain::node_apply::intent(state, cx, c),
        Command::RecordNodeFact(c) => chain::node_apply::fact(state, cx, c),
        Command::RestartNode(c) => chain::node_apply::restart(state, cx, c),
        Command::DeployContract(c) => contract::apply::deploy(state, cx, c),
        Command::RecordContractFact(c) => contract::apply::fact(state, cx, c),
        Command::SetPlan(c) => billing::apply::set_plan(state, cx, c),
        Command::Meter(c) => billing::apply::meter(state, cx, c),
        Command::AddReplica(c) => replica::apply::add(state, cx, c),
        Command::PromoteReplica(c) => replica::apply::promote(state, cx, c),
        Command::RemoveReplica(c) => replica::apply::remove(state, cx, c),
        Command::TransferLeader(c) => replica::apply::transfer(state, c),
        Command::RecordReplica(c) => replica::apply::record(state, cx, c),
        Command::RaiseClusterVersion(c) => version::raise(state, cx, c),
        Command::RecordTransaction(c) => chain::apply::transaction(state, c),
        Command::RemoveOrphan(c) => host::orphan::remove(state, cx, c),
        Command::ImportArtifact(c) => artifact::apply::import(state, cx, c),
        Command::DeleteArtifact(c) => artifact::apply::delete(state, cx, c),
        Command::PinPublisher(c) => artifact::apply::pin(state, cx, c),
        Command::UnpinPublisher(c) => artifact::apply::unpin(state, cx, c),
        Command::PauseChain(c) => chain::life_apply::pause(state, cx, c),
        Command::ResumeChain(c) => chain::life_apply::resume(state, cx, c),
        Command::UndeleteChain(c) => chain::life_apply::undelete(state, cx, c),
        Command::PurgeChain(c) => chain::life_apply::purge(state, cx, c),
        Command::RollChain(c) => chain::rollout_apply::roll(state, cx, c),
        Command::RollBackChain(c) => chain::outfit_apply::roll_back(state, cx, c),
        Command::HaltRollout(c) => chain::rollout_apply::halt(state, cx, c),
        Command::ContinueRollout(c) => chain::rollout_apply::go_on(state, cx, c),
        Command::RecordUnseated(c) => chain::seat_apply::unseated(state, cx, c),
        Command::ExchangeProgram(c) => chain::height_apply::exchange(state, cx, c),
        Command::RollNode(c) => chain::rollout_apply::roll_node(state, cx, c),
        Command::MoveNode(c) => chain::moving_apply::order(state, cx, c),
        Command::SetChainRepair(c) => chain::repair::set(state, cx, c),
        Command::RecordEvicted(c) => chain::moving_apply::evicted(state, cx, c),
        Command::ReleaseNode(c) => chain::rollout_apply::release(state, cx, c),
        Command::AddCloud(c) => cloud::apply::add(state, cx, c),
        Command::RemoveCloud(c) => cloud::apply::remove(state, cx, c),
        Command::CreateMachine(c) => cloud::apply::create(state, cx, c),
        Command::DeleteMachine(c) => cloud::apply::delete(state, cx, c),
        Command::RecordMachineIntent(c) => cloud::apply::intent(state, cx, c),
        Command::RecordMachineFact(c) => cloud::apply::fact(state, cx, c),
        Command::ImportChain(c) => chain::imported_apply::import(state, cx, c),
        Command::ForgetChain(c) => chain::imported_apply::forget(state, cx, c),
        Command::AdoptChain(c) => chain::adopting_apply::adopt(state, cx, c),
        Command::GiveBackNode(c) => chain::adopting_apply::give_back(state, cx, c),
        Command::EndAdoption(c) => chain::adopting_apply::end(state, cx, c),
        Command::RemoveCloudOrphan(c) => cloud::apply::remove_orphan(state, cx, c),
    }
}

fn finish(state: &mut State, mut cx: Cx<'_>, outcome: Result<Outcome, Rejection>) -> Applied {
    let record = audit(state, &cx, &outcome);
    cx.records.push(Record::Audit(record));
    let encoded_records: Vec<_> = cx.records.iter().map(encode_record).collect();
    mix_digest(state, &outcome, &encoded_records);
    let revision = cx.revision;
    let events = cx.events.into_iter().map(|(resource, change)| Event { revision, resource, change }).collect();
    let (records, diverged) = (cx.records, cx.diverged);
    Applied { revision, outcome, replayed: false, events, records, encoded_records, diverged }
}

fn audit(state: &mut State, cx: &Cx<'_>, outcome: &Result<Outcome, Rejection>) -> AuditRecord {
    let request = cx.request;
    let mut record = AuditRecord {
        seq: state.audit.count + 1,
        revision: cx.revision,
        at: cx.now,
        actor: request.actor.to_string(),
        source: request.source.clone(),
        action: request.command.name().into(),
        resource: request.command.resource(),
        request_id: request.id.to_string(),
        outcome: outcome.as_ref().map_or_else(Rejection::reason, |_| "ok").into(),
        detail: detail(&request.command),
        prev_hash: state.audit.head,
        hash: Digest::default(),
    };
    record.hash = record.expected_hash();
    state.audit = AuditHead { count: record.seq, head: record.hash };
    record
}

/// What was asked, as JSON.
fn detail(command: &Command) -> String {
    let mut json = Vec::with_capacity(DETAIL_ROOM);
    serde_json::to_writer(&mut json, command).expect("commands are plain data with text keys");
    String::from_utf8(json).expect("JSON is UTF-8")
}

/// A request as it is hashed: encoded like a [`Request`] from nowhere at no time, without a copy of it.
#[derive(serde::Serialize)]
pub(crate) struct Wish<'a> {
    version: u16,
    id: RequestId,
    actor: &'a Actor,
    source: &'static str,
    at: Millis,
    command: &'a Command,
}

/// Hash of who wants what; time, address and session may differ between tries of one wish.
fn wish_hash(request: &Request) -> Digest {
    Digest::of(&crate::codec::encode_wish(&Wish {
        version: request.version,
        id: request.id,
        actor: &request.actor,
        source: "",
        at: Millis(0),
        command: &request.command,
    }))
}

fn mix_digest(state: &mut State, outcome: &Result<Outcome, Rejection>, records: &[Vec<u8>]) {
    let index = state.revision.to_be_bytes();
    let outcome = encode_outcome(outcome);
    let mut parts: Vec<&[u8]> = vec![state.digest.as_bytes(), &index, &outcome];
    parts.extend(records.iter().map(Vec::as_slice));
    let mut digest = Digest::of_parts(&parts);
    if state.revision.is_multiple_of(WHOLE_STATE_EVERY) {
        digest = mix_whole_state(digest, state);
    }
    state.digest = digest;
    state.digests.push(state.revision, digest);
}

/// Mixes in the whole state. From [`Version::LEAN_DIGEST`] on of the window of remembered requests only their number, and
/// nothing of earlier digests: both were mixed in outcome by outcome, and encoding them would cost more than all the rest.
fn mix_whole_state(digest: Digest, state: &State) -> Digest {
    if state.version() < Version::LEAN_DIGEST {
        return Digest::of_parts(&[digest.as_bytes(), &encode_state(state)]);
    }
    let remembered = (state.dedup.seen.len() as u64).to_be_bytes();
    let dedup = Dedup { floor: state.dedup.floor, seen: OrdMap::new() };
    let lean = State { dedup, digests: Digests::default(), ..state.clone() };
    Digest::of_parts(&[digest.as_bytes(), &remembered, &encode_state(&lean)])
}
