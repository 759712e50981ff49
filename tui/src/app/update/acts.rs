//! The keys that change something: each checks whether it may and opens a dialog; none acts by itself.

use crate::app::effect::{Effect, Write};
use crate::app::input::Input;
use crate::app::model::Model;
use crate::app::model::data::Query;
use crate::app::model::dialog::{AcceptKey, Dialog, TypedConfirm, Vote};
use crate::app::model::edit::Edit;
use crate::app::view::body_size;
use crate::i18n::T;
use crate::keymap::Action;
use crate::screens::{Screen, leaf, page, short};

use super::keys::cursor;
use super::{ask, go, say};

/// Opens the dialog of a changing action, or says why not.
pub(super) fn act(model: &mut Model, action: Action) -> Vec<Effect> {
    let line = {
        let page = page(model, body_size(model).0);
        page.lines.get(cursor(model.view(), &page)).map(|l| l.id.clone()).unwrap_or_default()
    };
    // Reading the proposal is free; only the ballot is a change.
    if action == Action::Vote && !matches!(model.view().screen, Screen::Proposal(_)) {
        if !line.contains("/proposals/") {
            return refuse(model, T::BlockNothing);
        }
        say(model, model.t(T::ReadFirst).to_owned());
        return go(model, Screen::Proposal(line), String::new());
    }
    if let Some(block) = model.write_block() {
        return refuse(model, block);
    }
    let dialog = match action {
        Action::Vote => vote(model).map(Dialog::Vote),
        Action::Restart => restart(model, &line),
        Action::Move => move_node(model, &line),
        Action::Cordon => cordon(model, &line),
        Action::Maintain | Action::Drain => care(model, action, &line),
        Action::Retire => retire(model, &line).map(Dialog::Typed),
        Action::AcceptKey => accept_key(model, &line).map(Dialog::AcceptKey),
        Action::TransferLeader | Action::PromoteReplica => replica(model, action, &line),
        Action::RemoveReplica => remove_replica(model, &line).map(Dialog::Typed),
        Action::RaiseVersion => raise_version(model).map(Dialog::Typed),
        Action::Pause | Action::Undelete | Action::Roll | Action::RollBack => life(model, action, &line),
        Action::Repair => repair(model, &line).map(Dialog::Edit),
        Action::Reach => reach(model, &line).map(Dialog::Edit),
        Action::New => Ok(Dialog::Edit(new(model, &line))),
        Action::Import => Ok(Dialog::Edit(Edit::import(model.now))),
        Action::Adopt => others(model, &line).map(|chain| Dialog::Edit(Edit::adopt(&chain, model.now))),
        Action::Forget => others(model, &line).map(|chain| Dialog::Typed(forget(model, &chain))),
        Action::GiveBack => give_back(model, &line),
        _ => Err(T::BlockNothing),
    };
    match dialog {
        Ok(dialog) => {
            let plan = dialog.plan();
            model.dialog = Some(dialog);
            ask(model, plan.as_slice(), true)
        }
        Err(why) => refuse(model, why),
    }
}

fn refuse(model: &mut Model, why: T) -> Vec<Effect> {
    say(model, model.t(why).to_owned());
    Vec::new()
}

fn vote(model: &Model) -> Result<Vote, T> {
    let Screen::Proposal(name) = &model.view().screen else { return Err(T::BlockNothing) };
    let list = model.proposals(&Query::Proposal(name.clone()));
    let p = list.first().ok_or(T::BlockNothing)?;
    if p.state != "OPEN" {
        return Err(T::BlockClosed);
    }
    let tenant = model.session().map(|s| s.tenant.clone()).unwrap_or_default();
    let mine = p.ballots.iter().find(|b| b.tenant == tenant).ok_or(T::BlockTenant)?;
    if !mine.choice.is_empty() {
        return Err(T::BlockVoted);
    }
    Ok(Vote {
        proposal: name.clone(),
        title: p.title.clone(),
        artifact: p.artifact.clone(),
        artifact_hash: p.artifact_hash.clone(),
        weight: mine.weight,
        tenant,
        choice: None,
        key_path: Input::of(&model.settings.key_path),
        focus: 0,
        error: None,
        opened_at: model.now,
    })
}

fn restart(model: &Model, line: &str) -> Result<Dialog, T> {
    let node = model.nodes(&Query::Nodes).iter().find(|n| n.name == line).ok_or(T::BlockNothing)?;
    Ok(Dialog::Confirm {
        title: T::RestartTitle,
        target: node.name.clone(),
        plan: T::RestartPlan,
        command: format!("hanse node restart {}", short(&node.name)),
        write: Write::RestartNode { node: node.name.clone() },
        opened_at: model.now,
    })
}

/// To the host that suits the chain best; the dialog shows which.
fn move_node(model: &Model, line: &str) -> Result<Dialog, T> {
    let node = model.nodes(&Query::Nodes).iter().find(|n| n.name == line).ok_or(T::BlockNothing)?;
    Ok(Dialog::Confirm {
        title: T::MoveTitle,
        target: node.name.clone(),
        plan: T::MovePlan,
        command: format!("hanse chain move-node {} --reason=console", short(&node.name).replace('/', " ")),
        write: Write::MoveNode { node: node.name.clone() },
        opened_at: model.now,
    })
}

/// The chain of the page or under the cursor: paused or resumed by what it is, or kept if it was deleted.
fn life(model: &Model, action: Action, line: &str) -> Result<Dialog, T> {
    let name = match &model.view().screen {
        Screen::Chain(name) => name.as_str(),
        _ => line,
    };
    let chain = model.chains(&Query::Chains).iter().find(|c| c.name == name).ok_or(T::BlockNothing)?;
    let target = chain.name.clone();
    let (is_deleted, is_paused) = (chain.purge_at > 0, chain.paused);
    let (verb, title, plan, write) = match (action, is_deleted, is_paused) {
        (Action::Undelete, true, _) => {
            ("undelete", T::UndeleteTitle, T::UndeletePlan, Write::UndeleteChain { chain: target.clone() })
        }
        (Action::Undelete, false, _) => return Err(T::BlockNotDeleted),
        (_, true, _) => return Err(T::BlockDeleted),
        (Action::RollBack, false, _) if !chain.way_back => return Err(T::BlockNoWayBack),
        (Action::RollBack, false, true) => return Err(T::BlockPaused),
        (Action::RollBack, false, false) => {
            ("rollback", T::RollBackTitle, T::RollBackPlan, Write::RollBackChain { chain: target.clone() })
        }
        (Action::Roll, false, true) => return Err(T::BlockPaused),
        (Action::Roll, false, false) if chain.halted.is_empty() => {
            ("roll", T::RollTitle, T::RollPlan, Write::RollChain { chain: target.clone() })
        }
        (Action::Roll, false, false) => {
            ("roll-continue", T::RollOnTitle, T::RollOnPlan, Write::ContinueRollout { chain: target.clone() })
        }
        (_, false, true) => ("resume", T::ResumeTitle, T::ResumePlan, Write::ResumeChain { chain: target.clone() }),
        (_, false, false) => ("pause", T::PauseTitle, T::PausePlan, Write::PauseChain { chain: target.clone() }),
    };
    let command = format!("hanse chain {verb} {} --reason=console", short(&target).replace('/', " "));
    Ok(Dialog::Confirm { title, target, plan, command, write, opened_at: model.now })
}

/// How often the nodes of the chain of the page or under the cursor are started again.
fn repair(model: &Model, line: &str) -> Result<Edit, T> {
    let name = match &model.view().screen {
        Screen::Chain(name) => name.as_str(),
        _ => line,
    };
    let chain = model.chains(&Query::Chains).iter().find(|c| c.name == name).ok_or(T::BlockNothing)?;
    let now = (!chain.repairs_default).then_some(chain.repairs);
    Ok(Edit::repair(&chain.name, now, model.now))
}

/// The chain of others of the page or under the cursor.
fn others(model: &Model, line: &str) -> Result<String, T> {
    let name = match &model.view().screen {
        Screen::Chain(name) => name.as_str(),
        _ => line,
    };
    let chain = model.chains(&Query::Chains).iter().find(|c| c.name == name).ok_or(T::BlockNothing)?;
    if chain.state == "IMPORTED" { Ok(chain.name.clone()) } else { Err(T::BlockNotImported) }
}

/// Its name is typed: what was seen of it is gone then.
fn forget(model: &Model, chain: &str) -> TypedConfirm {
    let taken = model.nodes(&Query::Nodes).iter().filter(|node| {
        let of = node.name.strip_prefix(chain).and_then(|rest| rest.strip_prefix("/nodes/"));
        of.is_some() && !node.taken_from.is_empty() && node.state != "WATCHED"
    });
    let lost: Vec<String> = taken.map(|node| leaf(&node.name).to_owned()).collect();
    let words: String = lost.iter().map(|node| format!(" --lost {node}")).collect();
    TypedConfirm {
        title: T::ForgetTitle,
        target: leaf(chain).to_owned(),
        plan: if lost.is_empty() { T::ForgetPlan } else { T::ForgetLostPlan },
        command: format!("hanse chain forget {}{words} --reason=console", short(chain).replace('/', " ")),
        write: Write::ForgetChain { chain: chain.to_owned(), lost },
        typed: Input::default(),
        wrong: false,
        opened_at: model.now,
    }
}

fn give_back(model: &Model, line: &str) -> Result<Dialog, T> {
    let node = model.nodes(&Query::Nodes).iter().find(|n| n.name == line).ok_or(T::BlockNothing)?;
    if node.taken_from.is_empty() || node.state == "WATCHED" {
        return Err(T::BlockNotTaken);
    }
    Ok(Dialog::Confirm {
        title: T::GiveBackTitle,
        target: node.name.clone(),
        plan: T::GiveBackPlan,
        command: format!("hanse chain give-back {} --reason=console", short(&node.name).replace('/', " ")),
        write: Write::GiveBackNode { node: node.name.clone() },
        opened_at: model.now,
    })
}

fn reach(model: &Model, line: &str) -> Result<Edit, T> {
    let host = model.hosts(&Query::Hosts).iter().find(|h| h.name == line).ok_or(T::BlockNothing)?;
    let way = host.ssh.as_ref().ok_or(T::BlockNotSsh)?;
    Ok(Edit::reach(&host.name, way, model.now))
}

fn cordon(model: &Model, line: &str) -> Result<Dialog, T> {
    let host = model.hosts(&Query::Hosts).iter().find(|h| h.name == line).ok_or(T::BlockNothing)?;
    let name = host.name.clone();
    let (verb, title, plan, write) = match host.state.as_str() {
        "CORDONED" | "MAINTENANCE" | "DRAINING" => {
            ("uncordon", T::UncordonTitle, T::UncordonPlan, Write::UncordonHost { host: name.clone() })
        }
        _ => ("cordon", T::CordonTitle, T::CordonPlan, Write::CordonHost { host: name.clone() }),
    };
    let command = format!("hanse host {verb} {}", leaf(&name));
    Ok(Dialog::Confirm { title, target: name, plan, command, write, opened_at: model.now })
}

fn care(model: &Model, action: Action, line: &str) -> Result<Dialog, T> {
    let host = model.hosts(&Query::Hosts).iter().find(|h| h.name == line).ok_or(T::BlockNothing)?;
    let target = host.name.clone();
    let (verb, title, plan, write) = match action {
        Action::Drain => ("drain", T::DrainTitle, T::DrainPlan, Write::DrainHost { host: target.clone() }),
        _ => ("maintain", T::MaintainTitle, T::MaintainPlan, Write::MaintainHost { host: target.clone() }),
    };
    let command = format!("hanse host {verb} {} --reason ...", leaf(&target));
    Ok(Dialog::Confirm { title, target, plan, command, write, opened_at: model.now })
}

/// For ever: the host's name is typed.
fn retire(model: &Model, line: &str) -> Result<TypedConfirm, T> {
    if let Some(cloud) = model.clouds(&Query::Clouds).iter().find(|c| c.name == line) {
        return Ok(remove_cloud(model, &cloud.name));
    }
    if let Some(machine) = model.machines(&Query::Machines).iter().find(|m| m.name == line) {
        return Ok(delete_machine(model, &machine.name));
    }
    let host = model.hosts(&Query::Hosts).iter().find(|h| h.name == line).ok_or(T::BlockNothing)?;
    Ok(TypedConfirm {
        title: T::RetireTitle,
        target: leaf(&host.name).to_owned(),
        plan: T::RetirePlan,
        command: format!("hanse host retire {} --reason ...", leaf(&host.name)),
        write: Write::RetireHost { host: host.name.clone() },
        typed: Input::default(),
        wrong: false,
        opened_at: model.now,
    })
}

/// A cloud on the list of clouds, else a machine: of the cloud that the one under the cursor is of.
fn new(model: &Model, line: &str) -> Edit {
    if matches!(model.view().screen, Screen::Clouds) {
        return Edit::add_cloud(model.now);
    }
    let machines = model.machines(&Query::Machines);
    let near = machines.iter().find(|m| m.name == line).map(|m| m.cloud.as_str());
    let only = match model.clouds(&Query::Clouds) {
        [only] => Some(leaf(&only.name)),
        _ => None,
    };
    Edit::create_machine(near.or(only).unwrap_or_default(), model.now)
}

/// Nothing in the cloud is touched; its name is typed, for what it was told of is gone.
fn remove_cloud(model: &Model, cloud: &str) -> TypedConfirm {
    TypedConfirm {
        title: T::RemoveCloudTitle,
        target: leaf(cloud).to_owned(),
        plan: T::RemoveCloudPlan,
        command: format!("hanse cloud remove {}", leaf(cloud)),
        write: Write::RemoveCloud { cloud: cloud.to_owned() },
        typed: Input::default(),
        wrong: false,
        opened_at: model.now,
    }
}

/// For ever: the machine's name is typed.
fn delete_machine(model: &Model, machine: &str) -> TypedConfirm {
    TypedConfirm {
        title: T::DeleteMachineTitle,
        target: leaf(machine).to_owned(),
        plan: T::DeleteMachinePlan,
        command: format!("hanse cloud machine delete {} --reason ...", leaf(machine)),
        write: Write::DeleteMachine { machine: machine.to_owned() },
        typed: Input::default(),
        wrong: false,
        opened_at: model.now,
    }
}

fn known_replica(model: &Model, line: &str) -> Result<String, T> {
    let known = model.status().map(|status| status.replicas.as_slice()).unwrap_or_default();
    let replica = known.iter().find(|replica| replica.id == line).map(|replica| replica.id.clone());
    replica.ok_or(T::BlockNothing)
}

fn replica(model: &Model, action: Action, line: &str) -> Result<Dialog, T> {
    let replica = known_replica(model, line)?;
    let target = replica.clone();
    let (verb, title, plan, write) = match action {
        Action::TransferLeader => {
            ("transfer-leader", T::TransferLeaderTitle, T::TransferLeaderPlan, Write::TransferLeader { replica })
        }
        _ => ("promote", T::PromoteReplicaTitle, T::PromoteReplicaPlan, Write::PromoteReplica { replica }),
    };
    let command = format!("hanse replica {verb} {target}");
    Ok(Dialog::Confirm { title, target, plan, command, write, opened_at: model.now })
}

/// For ever: the number is never used again.
fn remove_replica(model: &Model, line: &str) -> Result<TypedConfirm, T> {
    let replica = known_replica(model, line)?;
    Ok(TypedConfirm {
        title: T::RemoveReplicaTitle,
        target: replica.clone(),
        plan: T::RemoveReplicaPlan,
        command: format!("hanse replica remove {replica}"),
        write: Write::RemoveReplica { replica },
        typed: Input::default(),
        wrong: false,
        opened_at: model.now,
    })
}

/// To the newest that the leader speaks; who is in the way is told by the refusal.
fn raise_version(model: &Model) -> Result<TypedConfirm, T> {
    let status = model.status().ok_or(T::BlockNothing)?;
    Ok(TypedConfirm {
        title: T::RaiseVersionTitle,
        target: status.cluster.clone(),
        plan: T::RaiseVersionPlan,
        command: "hanse cluster upgrade".to_owned(),
        write: Write::RaiseVersion,
        typed: Input::default(),
        wrong: false,
        opened_at: model.now,
    })
}

fn accept_key(model: &Model, line: &str) -> Result<AcceptKey, T> {
    let host = model.hosts(&Query::Hosts).iter().find(|h| h.name == line).ok_or(T::BlockNothing)?;
    if host.state != "DISTRUSTED" || host.seen.is_empty() {
        return Err(T::BlockTrusted);
    }
    Ok(AcceptKey {
        host: host.name.clone(),
        pinned: host.expected.clone(),
        seen: host.seen.clone(),
        typed: Input::default(),
        error: None,
        opened_at: model.now,
    })
}
