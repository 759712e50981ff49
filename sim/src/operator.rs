//! A person who changes the control plane's membership: one order at a time, each asked for with one request id until it
//! is answered, as `hanse replica` does.
//!
//! Three become five and three again, learners come and get votes, voters are replaced, the leader is sent away or told
//! to hand over; now and then an order is nonsense and must be refused. A new replica's machine is started some time after
//! its order was accepted, under the id that the answer named.

use std::time::Duration;

use hanse_raft::ReplicaId;
use hanse_state::replica::{AddReplica, PromoteReplica, RemoveReplica, Replicas, Standing, TransferLeader, Wish};
use hanse_state::{Applied, Command, Outcome};

use crate::client::{Client, Told};
use crate::node::member;
use crate::roster::Start;
use crate::workload;
use crate::world::Phase;

/// Voters between which the cluster grows and shrinks.
const FEW: usize = 3;
const MANY: usize = 5;
/// A machine is started at most so long after its order.
const START_MAX_MS: u64 = 2_500;
/// Names of machines beside the first ones begin here: not yet all of those may be in the state.
const SPARE_MACHINES: u64 = 100;
/// An id that nobody will ever have.
const NOBODY: u64 = 1_000;

/// What an order must come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Must {
    /// Nobody but this person orders replicas, so it cannot be in the way of anything.
    Succeed,
    /// It is nonsense.
    Fail,
    /// That depends on what is under way.
    Either,
}

/// What the operator knows from a read.
struct Sight<'a> {
    replicas: &'a Replicas,
    /// Wished and recorded voters that nobody is about to replace.
    voters: Vec<u64>,
    learners: Vec<u64>,
    gone: Vec<u64>,
    /// Replicas that shall stay.
    staying: usize,
    /// Whether a machine is left.
    spare: bool,
}

impl<'a> Sight<'a> {
    fn new(replicas: &'a Replicas, last: ReplicaId) -> Self {
        let replaced = |id: u64| replicas.present().any(|(_, it)| it.replaces == Some(id) && it.wish != Wish::Gone);
        let who = |wanted: &dyn Fn(&hanse_state::replica::Replica) -> bool| {
            replicas.by_id.iter().filter(|(_, it)| wanted(it)).map(|(id, _)| *id).collect::<Vec<u64>>()
        };
        let mut voters = who(&|it| it.wish == Wish::Voter && it.standing == Standing::Voter);
        voters.retain(|id| !replaced(*id));
        Self {
            replicas,
            voters,
            learners: who(&|it| it.wish == Wish::Learner),
            gone: who(&|it| it.standing == Standing::Gone),
            staying: replicas.present().filter(|(_, it)| it.wish != Wish::Gone).count(),
            spare: replicas.last_id < last.0,
        }
    }
}

impl Client {
    /// Orders changes until the faults end; there are machines for ids up to `last`.
    pub(crate) async fn direct(&mut self, last: ReplicaId) {
        let mut grows = self.dice.chance(70);
        loop {
            let think_ms = self.dice.range(self.think_ms / 8, self.think_ms);
            tokio::time::sleep(Duration::from_millis(think_ms)).await;
            if self.phase() != Phase::Work {
                continue;
            }
            self.set_busy(true);
            self.order(last, &mut grows).await;
            self.set_busy(false);
        }
    }

    async fn order(&mut self, last: ReplicaId, grows: &mut bool) {
        let Some(state) = self.read(false).await else { return };
        let Some(cluster) = &state.cluster else { return };
        let sight = Sight::new(&cluster.replicas, last);
        // The first members are not in the state yet, or nobody may order anything.
        if sight.voters.is_empty() || state.accounts.is_empty() {
            return;
        }
        match sight.voters.len() {
            MANY.. => *grows = false,
            ..=FEW => *grows = true,
            _ => {}
        }
        let Some((command, must)) = self.choose(&sight, *grows) else { return };
        let request = self.request(workload::by_root(command));
        // Asked for until there is an answer: an order that may have been taken must not be given up.
        let patient = !matches!(request.command, Command::TransferLeader(_));
        let told = loop {
            match self.tell(0, &request, patient).await {
                Told::Unknown if patient => {}
                told => break told,
            }
        };
        let Told::Applied(applied) = told else { return };
        let mut world = self.shared.world();
        match (&applied.outcome, must) {
            (Ok(_), Must::Fail) => world.roster.find(format!("nonsense was accepted: {:?}", request.command)),
            (Err(rejection), Must::Succeed) => {
                world.roster.find(format!("refused without need: {:?}: {}", request.command, rejection.message()));
            }
            (Ok(_), _) => world.roster.ordered += 1,
            (Err(_), _) => {}
        }
        world.judge();
        drop(world);
        if matches!(request.command, Command::AddReplica(_)) {
            self.start(&applied, cluster.replicas.present().map(|(id, _)| ReplicaId(id)).collect());
        }
    }

    /// Starts the machine of a new replica, soon.
    fn start(&mut self, applied: &Applied, members: Vec<ReplicaId>) {
        let Ok(Outcome::Done { resource }) = &applied.outcome else { return };
        let id = resource.strip_prefix("replicas/").and_then(|id| id.parse().ok()).expect("a replica's name");
        let later_ms = self.dice.range(0, START_MAX_MS);
        let mut world = self.shared.world();
        let at_ms = world.now_ms + later_ms;
        world.say(&format!("the machine of {id} is started at {at_ms} ms"));
        world.roster.admit(id, Start { at_ms, members });
        world.judge();
    }

    fn choose(&mut self, sight: &Sight<'_>, grows: bool) -> Option<(Command, Must)> {
        match self.dice.range(0, 99) {
            0..35 if grows && sight.spare => Some(self.add(sight, None)),
            0..35 if !grows && sight.voters.len() > FEW => {
                let replica = self.victim(sight);
                Some((remove(replica), Must::Succeed))
            }
            35..60 if sight.spare => {
                let old = self.victim(sight);
                Some(self.add(sight, Some(old)))
            }
            60..75 if !sight.learners.is_empty() => {
                let replica = self.dice.pick(&sight.learners);
                Some((promote(replica), Must::Succeed))
            }
            60..80 if !sight.learners.is_empty() => {
                let replica = self.dice.pick(&sight.learners);
                Some((remove(replica), Must::Succeed))
            }
            0..90 => {
                let replica = self.dice.pick(&sight.voters);
                Some((Command::TransferLeader(TransferLeader { replica, reason: "by hand".into() }), Must::Either))
            }
            _ => Some((self.nonsense(sight), Must::Fail)),
        }
    }

    /// Half of the time the leader, as far as known.
    fn victim(&mut self, sight: &Sight<'_>) -> u64 {
        let leader = self.guess.0;
        if self.dice.chance(50) && sight.voters.contains(&leader) { leader } else { self.dice.pick(&sight.voters) }
    }

    fn add(&mut self, sight: &Sight<'_>, replaces: Option<u64>) -> (Command, Must) {
        let old = replaces.and_then(|old| sight.replicas.by_id.get(&old));
        // A replacement may move into the machine of the one that it replaces.
        let address = match old {
            Some(old) if self.dice.chance(30) => (old.peer_address.clone(), old.api_address.clone()),
            _ => {
                let machine = member(SPARE_MACHINES + sight.replicas.last_id);
                (machine.peer_address, machine.api_address)
            }
        };
        let vote = replaces.is_some() || self.dice.chance(60);
        let command = Command::AddReplica(AddReplica {
            peer_address: address.0,
            api_address: address.1,
            vote,
            replaces,
            floor: 0,
            reason: "by hand".into(),
        });
        // A cluster has seven at most.
        let room = replaces.is_some() || sight.staying < hanse_state::replica::REPLICAS_MAX;
        (command, if room { Must::Succeed } else { Must::Fail })
    }

    fn nonsense(&mut self, sight: &Sight<'_>) -> Command {
        match (self.dice.range(0, 3), sight.gone.first()) {
            (0, Some(gone)) => promote(*gone),
            (0 | 1, _) => promote(NOBODY),
            (2, _) => remove(NOBODY),
            _ => {
                let taken = member(sight.voters[0]);
                Command::AddReplica(AddReplica {
                    peer_address: taken.peer_address.clone(),
                    api_address: taken.peer_address,
                    vote: true,
                    replaces: None,
                    floor: 0,
                    reason: String::new(),
                })
            }
        }
    }
}

fn promote(replica: u64) -> Command {
    Command::PromoteReplica(PromoteReplica { replica, forced: false, reason: String::new() })
}

fn remove(replica: u64) -> Command {
    Command::RemoveReplica(RemoveReplica { replica, forced: false, reason: "by hand".into() })
}
