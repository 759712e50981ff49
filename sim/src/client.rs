//! A client: one operation at a time, the same request id over all tries and through any replica, and an account of what
//! it was told. "Unknown" stays unknown.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hanse_raft::ReplicaId;
use hanse_state::ids::RequestId;
use hanse_state::{Applied, Millis, Outcome, Request, State};

use crate::dice::Dice;
use crate::network::host;
use crate::post::{Body, Post};
use crate::sweep::Stage;
use crate::workload::{Plans, Wish, founding, request_id};
use crate::world::{Phase, Shared};

/// How long a client waits for one answer.
const ANSWER_LIMIT: Duration = Duration::from_millis(1_200);
/// Tries of one operation before it is given up as unknown.
const TRIES_MAX: usize = 25;
/// Pause after "not the leader" or no answer.
const PAUSE: Duration = Duration::from_millis(200);

/// What a client does all day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Habit {
    /// Writes, and reads now and then.
    Usual,
    /// Reads only.
    Reader,
    /// Writes small things, without a pause.
    Hurried,
    /// Changes the membership of the control plane; there are machines for ids up to `last`.
    Operator { last: ReplicaId },
    /// Plays one stage of the sweep, and nothing else.
    Player { stage: Stage },
}

/// One client.
pub(crate) struct Client {
    id: u64,
    habit: Habit,
    pub(crate) shared: Shared,
    plans: Arc<Mutex<Plans>>,
    post: Post,
    pub(crate) dice: Dice,
    pub(crate) think_ms: u64,
    /// The replica that answered last, or may lead.
    pub(crate) guess: ReplicaId,
}

/// What a client was told.
pub(crate) enum Told {
    Applied(Arc<Applied>),
    /// Refused by who leads, and not written down.
    TurnedAway,
    /// It may or may not have had effect.
    Unknown,
}

/// Runs a client for ever: work, then rest, then prove that the cluster is healed (the first one only).
pub(crate) async fn run(
    id: u64,
    habit: Habit,
    shared: Shared,
    plans: Arc<Mutex<Plans>>,
    think_ms: u64,
) -> Result<(), Box<dyn std::error::Error>> {
    let post = Post::open(&format!("client-{id}"), shared.clone()).await?;
    let listener = post.clone();
    // Answers only; nobody calls a client.
    tokio::spawn(async move { while listener.next().await.is_ok() {} });
    let dice = Dice::new(shared.seed ^ (id << 40), "client");
    let mut client = Client { id, habit, shared, plans, post, dice, think_ms, guess: ReplicaId(1) };
    if let Habit::Player { stage } = habit {
        client.play(stage).await;
    }
    if id == 1 {
        client.found().await;
    }
    if let Habit::Operator { last } = habit {
        client.direct(last).await;
    }
    client.work().await;
    Ok(())
}

impl Client {
    pub(crate) fn phase(&self) -> Phase {
        self.shared.world().phase
    }

    pub(crate) fn set_busy(&self, busy: bool) {
        self.shared.world().busy.insert(self.id, busy);
    }

    /// Founds platform and consortium and votes the first chain through, each step until it is answered.
    async fn found(&mut self) {
        self.set_busy(true);
        for wish in founding() {
            self.insist(wish).await;
        }
        let wish = self.plans().first_chain();
        self.insist(wish).await;
        let wishes = self.plans().all_agree();
        for wish in wishes {
            self.insist(wish).await;
        }
        self.set_busy(false);
    }

    /// Asks until it is answered.
    pub(crate) async fn insist(&mut self, wish: Wish) {
        let request = self.request(wish);
        // It may have run at any of these tries, so no floor but the first one counts: none.
        while self.write_after(0, &request, true).await.is_none() {}
    }

    async fn work(&mut self) {
        loop {
            let think_ms = if self.habit == Habit::Hurried { 1 } else { self.dice.range(1, self.think_ms) };
            tokio::time::sleep(Duration::from_millis(think_ms)).await;
            match self.phase() {
                Phase::Work => {
                    self.set_busy(true);
                    self.operate(false).await;
                    self.set_busy(false);
                }
                Phase::Prove if self.id == 1 => {
                    let proved = self.shared.world().proved;
                    let wrote = proved || self.operate(true).await;
                    let read = self.read(true).await.is_some();
                    if wrote && read {
                        self.shared.world().proved = true;
                    }
                    let wish = self.plans.lock().unwrap_or_else(PoisonError::into_inner).last_contract(&mut self.dice);
                    if let Some(wish) = wish {
                        self.insist(wish).await;
                    }
                    // Faults that are over have left nodes that wait for a person.
                    self.unblock().await;
                }
                Phase::Settle | Phase::Prove => {}
            }
        }
    }

    /// One operation; gives whether it was answered.
    async fn operate(&mut self, must_write: bool) -> bool {
        let reads = match self.habit {
            Habit::Usual => 25,
            Habit::Reader => 100,
            Habit::Hurried | Habit::Operator { .. } | Habit::Player { .. } => 0,
        };
        if !must_write && self.dice.chance(reads) {
            return self.read(false).await.is_some();
        }
        let wish = {
            let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
            if self.habit == Habit::Hurried { plans.account(&mut self.dice) } else { plans.next(&mut self.dice) }
        };
        let request = self.request(wish);
        if self.write(&request, must_write).await.is_none() {
            return false;
        }
        // Now and then as if the answer had been lost: the same id once more, through another replica.
        if self.dice.chance(20) {
            self.guess = self.any();
            self.write(&request, must_write).await;
        }
        true
    }

    /// As an operator who looks at what waits for a person: blocked nodes, and nodes without a host.
    async fn unblock(&mut self) {
        loop {
            let wish = self.plans().unblock();
            let Some(wish) = wish else { return };
            let request = self.request(wish);
            self.write(&request, true).await;
        }
    }

    pub(crate) fn plans(&self) -> MutexGuard<'_, Plans> {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn request(&mut self, wish: Wish) -> Request {
        let number = {
            let mut world = self.shared.world();
            world.request_last += 1;
            world.request_last
        };
        let id: RequestId = request_id(number);
        Request::new(id, wish.actor, format!("client-{}", self.id), Millis(0), wish.command)
    }

    fn any(&mut self) -> ReplicaId {
        let living = self.shared.world().roster.living();
        self.dice.pick(&living)
    }

    /// Tries until there is an answer or the tries are used up; then nothing is known.
    async fn write(&mut self, request: &Request, patient: bool) -> Option<Arc<Applied>> {
        let floor = self.shared.world().oracle.floor;
        self.write_after(floor, request, patient).await
    }

    async fn write_after(&mut self, floor: u64, request: &Request, patient: bool) -> Option<Arc<Applied>> {
        match self.tell(floor, request, patient).await {
            Told::Applied(applied) => Some(applied),
            Told::TurnedAway | Told::Unknown => None,
        }
    }

    /// Asks for a write, and keeps what it was told.
    pub(crate) async fn tell(&mut self, floor: u64, request: &Request, patient: bool) -> Told {
        let body = self.ask(Body::Propose(Box::new(request.clone())), patient).await;
        let mut world = self.shared.world();
        let (by, applied) = match body {
            Some((by, Body::Proposed(applied))) => (by, applied),
            Some((by, Body::TurnedAway(why))) => {
                world.say(&format!("client-{} {} turned away by {by}: {why}", self.id, request.id));
                world.roster.turned_away += 1;
                return Told::TurnedAway;
            }
            _ => {
                world.oracle.unknown += 1;
                world.say(&format!("client-{} {} unknown", self.id, request.id));
                return Told::Unknown;
            }
        };
        if let Ok(Outcome::ProposalOpened { proposal, artifact_hash, .. }) = &applied.outcome {
            self.plans().opened(proposal, *artifact_hash);
        }
        let known = world.oracle.was_told(request.id);
        world.say(&format!("client-{} {} told revision {} by {by}", self.id, request.id, applied.revision));
        world.oracle.answered(request.id, if known { 0 } else { floor }, &applied);
        world.judge();
        Told::Applied(applied)
    }

    pub(crate) async fn read(&mut self, patient: bool) -> Option<State> {
        let floor = self.shared.world().oracle.floor;
        let body = self.ask(Body::Read, patient).await;
        let mut world = self.shared.world();
        let Some((by, Body::ReadDone(state))) = body else { return None };
        let (revision, digest) = (state.revision, state.digest());
        self.plans().saw(&state);
        world.say(&format!("client-{} reads revision {revision} from {by}, floor {floor}", self.id));
        world.oracle.read(by, floor, revision, digest);
        world.judge();
        Some(*state)
    }

    async fn ask(&mut self, body: Body, patient: bool) -> Option<(ReplicaId, Body)> {
        let tries = if patient { TRIES_MAX * 4 } else { TRIES_MAX };
        for _ in 0..tries {
            let to = self.guess;
            match self.post.call(&host(to), body.clone(), ANSWER_LIMIT).await {
                Ok(Body::NotLeader(hint)) => {
                    self.guess = match hint {
                        Some(id) if id != to => id,
                        _ => self.any(),
                    };
                    tokio::time::sleep(PAUSE / 4).await;
                }
                Ok(Body::Unknown) | Err(_) => {
                    self.guess = self.any();
                    tokio::time::sleep(PAUSE).await;
                }
                Ok(answer) => return Some((to, answer)),
            }
        }
        None
    }
}
