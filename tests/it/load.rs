//! Writers on the public API that remember what was acknowledged to them, and look for it at the end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hanse_client::{Client, ClientConfig, pb};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::wait::until;

/// Writers at once, each with a key of its own.
const WRITERS: usize = 16;
/// Longest time of one write over all its attempts.
const WRITE_MAX: Duration = Duration::from_secs(60);
/// Audit records of one page.
const PAGE: i32 = 500;

/// What the writers are told.
#[derive(Default)]
struct Signs {
    paused: AtomicBool,
    over: AtomicBool,
    /// Writes under way.
    busy: std::sync::atomic::AtomicUsize,
}

/// Writers of notes on the tenant `acme`.
pub(crate) struct Load {
    runtime: Runtime,
    client: Client,
    signs: Arc<Signs>,
    writers: Vec<JoinHandle<Vec<u64>>>,
}

impl Load {
    /// Starts the writers in the session of this environment.
    pub(crate) fn start(environment: &[(&str, String)]) -> Self {
        let of = |name: &str| environment.iter().find(|(key, _)| *key == name).unwrap().1.clone();
        let endpoints = of("HANSE_ENDPOINT").split(',').map(str::to_owned).collect();
        let mut config = ClientConfig::new(endpoints, std::fs::read_to_string(of("HANSE_CA")).unwrap());
        config.token = Some(std::fs::read_to_string(of("HANSE_TOKEN_FILE")).unwrap().trim().to_owned());
        config.timeouts.overall = WRITE_MAX;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let client = runtime.block_on(async { Client::new(config) }).unwrap();
        let signs = Arc::new(Signs::default());
        let writer = |number| runtime.spawn(write(client.clone(), signs.clone(), number));
        let writers = (0..WRITERS).map(writer).collect();
        Self { runtime, client, signs, writers }
    }

    /// Lets the writers rest; returns when no write is under way.
    pub(crate) fn pause(&self) {
        self.signs.paused.store(true, Ordering::SeqCst);
        until("the writers rest", WRITE_MAX, || match self.signs.busy.load(Ordering::SeqCst) {
            0 => Ok(()),
            busy => Err(format!("{busy} writes are under way")),
        });
    }

    /// Lets them go on.
    pub(crate) fn go_on(&self) {
        self.signs.paused.store(false, Ordering::SeqCst);
    }

    /// Ends the writers and tells which acknowledged revisions the audit trail does not know, and how many there were.
    pub(crate) fn end(self, judge: impl FnOnce(&[u64], usize)) {
        self.signs.over.store(true, Ordering::SeqCst);
        let (lost, count) = self.runtime.block_on(async {
            let mut acknowledged = Vec::new();
            for writer in self.writers {
                acknowledged.extend(writer.await.unwrap());
            }
            let known = audited(&self.client).await;
            let lost: Vec<u64> = acknowledged.iter().copied().filter(|revision| !known.contains(revision)).collect();
            (lost, acknowledged.len())
        });
        judge(&lost, count);
    }
}

/// Writes until the end; gives the revisions that were acknowledged.
async fn write(client: Client, signs: Arc<Signs>, number: usize) -> Vec<u64> {
    let mut acknowledged = Vec::new();
    for count in 0_u64.. {
        while signs.paused.load(Ordering::SeqCst) && !signs.over.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if signs.over.load(Ordering::SeqCst) {
            break;
        }
        signs.busy.fetch_add(1, Ordering::SeqCst);
        let set = [(format!("load/{number}"), count.to_string())].into();
        let request = pb::SetTenantMetadataRequest { tenant: "acme".into(), set, ..Default::default() };
        // A write that failed was not acknowledged: nothing is asked of it.
        if let Ok(answer) = client.call(request).await {
            acknowledged.push(answer.header.unwrap_or_default().revision);
        }
        signs.busy.fetch_sub(1, Ordering::SeqCst);
    }
    acknowledged
}

/// Every revision of a note that the audit trail knows.
async fn audited(client: &Client) -> BTreeSet<u64> {
    let mut known = BTreeSet::new();
    let mut page_token = String::new();
    loop {
        let filter = "SetTenantMetadata".to_owned();
        let page = client
            .call(pb::ListAuditRequest { page_size: PAGE, page_token, filter, changes_only: false })
            .await
            .unwrap();
        known.extend(page.records.iter().filter(|it| it.outcome == "ok").map(|it| it.revision));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return known;
        }
    }
}
