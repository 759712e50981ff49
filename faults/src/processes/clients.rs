//! The clients' side of a run: a runtime whose threads live in the clients' namespace.

use std::fs::File;
use std::future::Future;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use hanse_client::{Client, ClientConfig, pb};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use super::chance::Chance;
use super::cluster::Cluster;
use super::net::Net;
use super::watch::{Sight, ask, watch};
use super::work::{Book, Pace, make_keys, read, worker};

/// Threads of the clients; the replicas need the machine more.
const THREADS: usize = 2;
/// How long a cluster may take to come up, or to come back.
pub(crate) const UP_MAX: Duration = Duration::from_secs(120);
/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The administrator of a run.
const ADMIN: &str = "root";

/// The clients of a run.
pub(crate) struct Clients {
    runtime: Runtime,
    /// One for each replica, which asks no other.
    alone: Arc<Vec<(u64, Client)>>,
    /// One that asks whom it likes.
    any: Client,
    tasks: Vec<JoinHandle<()>>,
}

impl Clients {
    /// Makes the first administrator and logs in everywhere.
    pub(crate) fn enter(cluster: &Cluster, net: &Net) -> Result<Self> {
        let space = Arc::new(File::open(net.of_clients()).context("open the clients' namespace")?);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .enable_all()
            .on_thread_start(move || {
                // A thread that stayed outside would reach nothing, and every call of the run would fail.
                if let Err(error) = move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network)) {
                    eprintln!("hanse-faults: a thread could not enter the clients' namespace: {error}");
                }
            })
            .build()
            .context("start the clients' runtime")?;
        let ca = std::fs::read_to_string(cluster.api_ca()).context("read the API authority")?;
        let end = Instant::now() + UP_MAX;
        let code = loop {
            match cluster.setup_code() {
                Some(code) if !code.is_empty() => break code,
                _ if Instant::now() > end => bail!("no replica wrote a setup code within {UP_MAX:?}"),
                _ => std::thread::sleep(LOOK_EVERY),
            }
        };
        let endpoints = cluster.endpoints();
        let ids = cluster.ids();
        let entered = runtime.spawn(async move {
            let any = Client::new(ClientConfig::new(endpoints.clone(), ca.clone()))?;
            let password = hanse_client::new_request_id();
            let bootstrap = pb::BootstrapRequest {
                setup_code: code,
                account: ADMIN.into(),
                password: password.clone(),
                ..Default::default()
            };
            any.call(bootstrap).await?;
            let login = pb::LoginRequest { account: ADMIN.into(), password, ..Default::default() };
            let token = any.call(login).await?.token;
            any.set_token(Some(&token))?;
            let mut alone = Vec::new();
            for (id, endpoint) in ids.into_iter().zip(endpoints) {
                let client = Client::new(ClientConfig::new(vec![endpoint], ca.clone()))?;
                client.set_token(Some(&token))?;
                alone.push((id, client));
            }
            Ok::<_, anyhow::Error>((any, alone, token))
        });
        let (any, alone, token) = runtime.block_on(entered).context("the first calls panicked")??;
        write_token(cluster, &token)?;
        Ok(Self { runtime, alone: Arc::new(alone), any, tasks: Vec::new() })
    }

    /// Runs `work` on a thread in the clients' namespace and waits for it.
    fn wait<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Result<T> {
        self.runtime.block_on(self.runtime.spawn(work)).context("a client panicked")
    }

    /// Makes the keys of a run.
    pub(crate) fn make_keys(&self, count: usize) -> Result<Book> {
        let client = self.any.clone();
        Ok(Book::new(self.wait(async move { make_keys(&client, count).await })??))
    }

    /// Starts to look at every replica.
    pub(crate) fn watch(&mut self, sight: &Arc<Sight>) {
        for place in 0..self.alone.len() {
            let (alone, sight) = (Arc::clone(&self.alone), Arc::clone(sight));
            let task = async move { watch(&sight, &alone[place].1, alone[place].0).await };
            self.tasks.push(self.runtime.spawn(task));
        }
    }

    /// Starts `count` workers.
    pub(crate) fn work(&mut self, book: &Arc<Book>, count: u64, pace: Pace, seed: u64) {
        for number in 0..count {
            let clients: Vec<Client> = self.alone.iter().map(|(_, client)| client.clone()).collect();
            let (book, chance) = (Arc::clone(book), Chance::new(seed, 100 + number));
            self.tasks.push(self.runtime.spawn(async move { worker(&book, &clients, pace, chance).await }));
        }
    }

    /// Waits until everyone who was told to stop has ended.
    ///
    /// # Errors
    /// A worker panicked.
    pub(crate) fn join(&mut self) -> Result<()> {
        for task in std::mem::take(&mut self.tasks) {
            self.runtime.block_on(task).context("a worker panicked")?;
        }
        Ok(())
    }

    /// Waits until all replicas name one leader and have one digest at one revision. Returns the revision.
    ///
    /// # Errors
    /// What they said last, when it takes longer than [`UP_MAX`].
    pub(crate) fn agree(&self, sight: &Arc<Sight>) -> Result<u64> {
        let (alone, sight) = (Arc::clone(&self.alone), Arc::clone(sight));
        self.wait(async move {
            let end = Instant::now() + UP_MAX;
            loop {
                let mut words = Vec::new();
                for (id, client) in alone.iter() {
                    words.push(ask(client, *id).await.inspect(|word| sight.note(*id, word)));
                }
                let all: Option<Vec<_>> = words.iter().cloned().collect();
                if let Some(all) = &all
                    && let Some(first) = all.first()
                    && !first.leader.is_empty()
                    && all.iter().filter(|word| word.leads).count() == 1
                    && all.iter().all(|word| {
                        (&word.leader, word.revision, &word.digest) == (&first.leader, first.revision, &first.digest)
                    })
                {
                    return Ok(first.revision);
                }
                if Instant::now() > end {
                    bail!("the replicas do not agree within {UP_MAX:?}: {words:?}");
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        })?
    }

    /// Appends once to every key that takes appends and reads every key from every replica.
    ///
    /// # Errors
    /// The first call that fails, or two replicas that give different lists.
    pub(crate) fn finals(&self, book: &Arc<Book>) -> Result<Vec<Vec<u64>>> {
        let (alone, book) = (Arc::clone(&self.alone), Arc::clone(book));
        self.wait(async move {
            let mut finals = Vec::new();
            for key in &book.keys {
                let mut list: Option<Vec<u64>> = None;
                for (id, client) in alone.iter() {
                    let seen =
                        read_surely(client, key, &book).await.with_context(|| format!("{} from {id}", key.plan))?;
                    if list.as_ref().is_some_and(|list| *list != seen) {
                        bail!("{}: replica {id} gives another list than the one before", key.plan);
                    }
                    list = Some(seen);
                }
                finals.push(list.unwrap_or_default());
            }
            Ok(finals)
        })?
    }

    /// One write that must be acknowledged: the cluster works.
    ///
    /// # Errors
    /// Why it was not.
    pub(crate) fn write_once(&self, plan: &str) -> Result<()> {
        let request = pb::SetPlanRequest {
            plan: plan.into(),
            currency: "EUR".into(),
            rate_micro_per_node_hour: 1,
            ..Default::default()
        };
        let client = self.any.clone();
        self.wait(async move { client.call(request).await })?.context("a write on the healed cluster")?;
        Ok(())
    }
}

/// Reads a key; a replica that has just found its leader may need a second try.
async fn read_surely(client: &Client, key: &super::work::Key, book: &Book) -> Result<Vec<u64>> {
    let end = Instant::now() + UP_MAX;
    loop {
        if let Some(values) = read(client, key, book).await {
            return Ok(values);
        }
        if Instant::now() > end {
            bail!("no answer within {UP_MAX:?}");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Keeps the session for the CLI.
fn write_token(cluster: &Cluster, token: &str) -> Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = File::options();
    let file = options.create(true).truncate(true).write(true).mode(0o600).open(cluster.token_file());
    file.and_then(|mut file| file.write_all(token.as_bytes())).context("keep the session")
}
