//! The clients' side of a run: a runtime whose threads live in the clients' namespace.

use std::collections::BTreeMap;
use std::fs::File;
use std::future::Future;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use hanse_client::{Call, CallOptions, Client, ClientConfig, ClientError, pb};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use super::chance::Chance;
use super::cluster::Cluster;
use super::net::Net;
use super::roster::Roster;
use super::watch::{Sight, Word, ask, watch};
use super::work::{Book, Pace, make_keys, read, worker};

/// Threads of the clients; the replicas need the machine more.
const THREADS: usize = 2;
/// How long a cluster may take to come up, or to come back.
pub(crate) const UP_MAX: Duration = Duration::from_secs(120);
/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Longest try of one call at one replica; one that is cut off must not keep an order for long.
const ATTEMPT_MAX: Duration = Duration::from_secs(3);
/// The administrator of a run.
const ADMIN: &str = "root";

/// The clients of a run.
pub(crate) struct Clients {
    runtime: Runtime,
    /// One for each replica, which asks no other.
    roster: Arc<Roster>,
    /// One that asks whom it likes.
    any: Client,
    tasks: Vec<JoinHandle<()>>,
    ca: String,
    /// What only the administrator may know: the setup code, the password, the session's token.
    pub(crate) secrets: [String; 3],
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
        let (endpoints, authority, setup_code) = (cluster.endpoints(), ca.clone(), code.clone());
        let entered = runtime.spawn(async move {
            let mut config = ClientConfig::new(endpoints, authority);
            config.timeouts.attempt = ATTEMPT_MAX;
            let any = Client::new(config)?;
            let password = hanse_client::new_request_id();
            let bootstrap = pb::BootstrapRequest {
                setup_code,
                account: ADMIN.into(),
                password: password.clone(),
                ..Default::default()
            };
            any.call(bootstrap).await?;
            let login = pb::LoginRequest { account: ADMIN.into(), password: password.clone(), ..Default::default() };
            let token = any.call(login).await?.token;
            any.set_token(Some(&token))?;
            Ok::<_, anyhow::Error>((any, password, token))
        });
        let (any, password, token) = runtime.block_on(entered).context("the first calls panicked")??;
        write_token(cluster, &token)?;
        let secrets = [code, password, token];
        let clients = Self { runtime, roster: Arc::default(), any, tasks: Vec::new(), ca, secrets };
        for id in cluster.ids() {
            clients.meet(cluster, id)?;
        }
        Ok(clients)
    }

    /// Calls at this replica too from now on.
    pub(crate) fn meet(&self, cluster: &Cluster, id: u64) -> Result<()> {
        let (mut config, roster) =
            (ClientConfig::new(vec![cluster.endpoint(id)?], self.ca.clone()), Arc::clone(&self.roster));
        config.token = self.secrets.last().cloned();
        self.wait(async move { Client::new(config).map(|client| roster.add(id, client)) })??;
        Ok(())
    }

    /// Calls no more at this replica.
    pub(crate) fn part(&self, id: u64) {
        self.roster.remove(id);
    }

    /// One call at whoever answers, with the client's own repeats.
    ///
    /// # Errors
    /// A client panicked; within, the call's own.
    pub(crate) fn call<C>(&self, request: C) -> Result<Result<C::Response, ClientError>>
    where
        C: Call + Send,
        C::Response: Send,
    {
        let any = self.any.clone();
        self.wait(async move { any.call(request).await })
    }

    /// The same, given up after `limit`.
    ///
    /// # Errors
    /// As [`Clients::call`].
    pub(crate) fn call_within<C>(&self, request: C, limit: Duration) -> Result<Result<C::Response, ClientError>>
    where
        C: Call + Send,
        C::Response: Send,
    {
        let any = self.any.clone();
        let options = CallOptions { overall: Some(limit), single_attempt: false, ..CallOptions::default() };
        self.wait(async move { any.call_with(request, options).await })
    }

    /// The same with another session than the administrator's.
    ///
    /// # Errors
    /// As [`Clients::call`].
    pub(crate) fn call_as<C>(&self, token: &str, request: C) -> Result<Result<C::Response, ClientError>>
    where
        C: Call + Send,
        C::Response: Send,
    {
        let mut config = ClientConfig::new(self.any.addresses(), self.ca.clone());
        config.token = Some(token.to_owned());
        self.wait(async move { Client::new(config)?.call(request).await })
    }

    /// A replica's own numbers, by name.
    ///
    /// # Errors
    /// It does not answer.
    pub(crate) fn metrics(&self, address: String) -> Result<BTreeMap<String, u64>> {
        let text = self.wait(async move {
            let mut stream = TcpStream::connect(&address).await?;
            stream.write_all(format!("GET /metrics HTTP/1.1\r\nhost: {address}\r\n\r\n").as_bytes()).await?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await.map(|_| text)
        })?;
        let text = text.context("read a replica's metrics")?;
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        Ok(lines.filter_map(|(name, value)| Some((name.to_owned(), value.trim().parse().ok()?))).collect())
    }

    /// What a replica says of itself; `None` if it gives no answer.
    pub(crate) fn ask(&self, sight: &Arc<Sight>, id: u64) -> Result<Option<Word>> {
        let (Some(client), sight) = (self.roster.get(id), Arc::clone(sight)) else { return Ok(None) };
        self.wait(async move { ask(&client, id).await.inspect(|word| sight.note(id, word)) })
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
        for (id, _) in self.roster.all() {
            self.watch_one(sight, id);
        }
    }

    /// Starts to look at one replica.
    pub(crate) fn watch_one(&mut self, sight: &Arc<Sight>, id: u64) {
        let (roster, sight) = (Arc::clone(&self.roster), Arc::clone(sight));
        self.tasks.push(self.runtime.spawn(async move { watch(&sight, &roster, id).await }));
    }

    /// Starts `count` workers.
    pub(crate) fn work(&mut self, book: &Arc<Book>, count: u64, pace: Pace, seed: u64) {
        for number in 0..count {
            let (book, roster) = (Arc::clone(book), Arc::clone(&self.roster));
            let chance = Chance::new(seed, 100 + number);
            self.tasks.push(self.runtime.spawn(async move { worker(&book, &roster, pace, chance).await }));
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
        self.agree_within(sight, UP_MAX)
    }

    /// The same with another limit.
    pub(crate) fn agree_within(&self, sight: &Arc<Sight>, limit: Duration) -> Result<u64> {
        let (alone, sight) = (self.roster.all(), Arc::clone(sight));
        self.wait(async move {
            let end = Instant::now() + limit;
            loop {
                let mut words = Vec::new();
                for (id, client) in &alone {
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
                    bail!("the replicas do not agree within {limit:?}: {words:?}");
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
        let (alone, book) = (self.roster.all(), Arc::clone(book));
        self.wait(async move {
            let mut finals = Vec::new();
            for key in &book.keys {
                let mut list: Option<Vec<u64>> = None;
                for (id, client) in &alone {
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
