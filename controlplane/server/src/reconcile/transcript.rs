//! What was done on a host for one step, as an operator would have seen it: each act in a line, and what programs printed.
//!
//! It stands between a ledger's driver and an adapter and changes nothing. What is kept is bounded, and [`masked`]: a driver's program
//! may print what it should not. It never notes what files hold, what is read, or questions that leave nothing to see.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use hanse_adapters_core::preflight::{Finding, PreflightWish};
use hanse_adapters_core::{
    Adapter, Artifact, Claim, FileSpec, HomeSeen, HostFacts, HostLoad, InstanceKey, InstanceSpec, InstanceStatus,
    InstanceUsage, Result, RunOutput, RunSpec, RunState, Stream,
};
use hanse_state::operation::OUTPUT_BYTES_MAX;

use super::mask::masked;

/// Begins what is kept of a longer output: its end says more than its beginning.
const CUT: &str = "[...]\n";

/// Lines of one step, shared by who acts and who reports.
#[derive(Clone, Debug, Default)]
pub(super) struct Notes(Arc<Mutex<String>>);

impl Notes {
    fn add(&self, line: &str) {
        let mut text = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        text.push_str(line.trim_end());
        text.push('\n');
    }

    /// What is to be kept: masked, without control characters, at most [`OUTPUT_BYTES_MAX`] bytes.
    pub(super) fn kept(&self) -> String {
        let text = masked(&self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let text: String = text.chars().filter(|c| *c == '\n' || !c.is_control()).collect();
        if text.len() <= OUTPUT_BYTES_MAX {
            return text;
        }
        let mut from = text.len() - (OUTPUT_BYTES_MAX - CUT.len());
        while !text.is_char_boundary(from) {
            from += 1;
        }
        format!("{CUT}{}", &text[from..])
    }
}

/// An adapter whose acts are noted.
pub(super) struct Transcript {
    host: Arc<dyn Adapter>,
    notes: Notes,
}

impl Transcript {
    pub(super) fn over(host: Arc<dyn Adapter>, notes: Notes) -> Arc<dyn Adapter> {
        Arc::new(Self { host, notes })
    }

    /// Notes `what`, how long it took, and how it failed.
    fn note<T>(&self, what: &str, begin: Instant, outcome: Result<T>) -> Result<T> {
        let took = begin.elapsed().as_millis();
        match &outcome {
            Ok(_) => self.notes.add(&format!("{what}: {took} ms")),
            Err(error) => self.notes.add(&format!("{what}: {took} ms: {error}")),
        }
        outcome
    }
}

fn run_words(run: &RunState) -> String {
    match run {
        RunState::Prepared => "never started".into(),
        RunState::Running { pid, .. } => format!("process {pid} runs"),
        RunState::Exited { code, signal, last_log } => {
            let how = match (code, signal) {
                (Some(code), _) => format!("code {code}"),
                (None, Some(signal)) => format!("signal {signal}"),
                (None, None) => "nobody saw how".into(),
            };
            format!("its process ended ({how}):\n{last_log}")
        }
    }
}

#[async_trait]
impl Adapter for Transcript {
    async fn inspect(&self) -> Result<HostFacts> {
        self.host.inspect().await
    }

    async fn preflight(&self, wish: &PreflightWish) -> Result<Vec<Finding>> {
        self.host.preflight(wish).await
    }

    async fn put_artifact(&self, artifact: &Artifact) -> Result<()> {
        let begin = Instant::now();
        let what = format!("program {} in place", artifact.sha256.get(..12).unwrap_or_default());
        self.note(&what, begin, self.host.put_artifact(artifact).await)
    }

    async fn put_files(&self, key: &InstanceKey, files: &[FileSpec]) -> Result<()> {
        let begin = Instant::now();
        let names: Vec<String> = files.iter().map(|it| format!("{} ({} bytes)", it.path, it.content.len())).collect();
        self.note(&format!("files {}", names.join(", ")), begin, self.host.put_files(key, files).await)
    }

    async fn put_files_at(&self, key: &InstanceKey, generation: u64, files: &[FileSpec]) -> Result<()> {
        let begin = Instant::now();
        let names: Vec<String> = files.iter().map(|it| format!("{} ({} bytes)", it.path, it.content.len())).collect();
        self.note(&format!("files {}", names.join(", ")), begin, self.host.put_files_at(key, generation, files).await)
    }

    async fn read_file(&self, key: &InstanceKey, path: &str) -> Result<Option<Vec<u8>>> {
        self.host.read_file(key, path).await
    }

    async fn run(&self, key: &InstanceKey, spec: &RunSpec) -> Result<RunOutput> {
        let begin = Instant::now();
        let program = spec.program.as_deref().unwrap_or("program");
        let what = format!("{program} {}", spec.args.join(" "));
        let output = self.note(&what, begin, self.host.run(key, spec).await)?;
        let ended = output.code.map_or("a signal or the time-out".into(), |code| format!("code {code}"));
        self.notes.add(&format!("ended with {ended}"));
        for said in [&output.stdout, &output.stderr].into_iter().filter(|said| !said.trim().is_empty()) {
            self.notes.add(said);
        }
        Ok(output)
    }

    async fn ensure(&self, spec: &InstanceSpec) -> Result<InstanceStatus> {
        let begin = Instant::now();
        let what = format!("start {}", spec.args.join(" "));
        let status = self.note(&what, begin, self.host.ensure(spec).await)?;
        self.notes.add(&run_words(&status.run));
        Ok(status)
    }

    async fn look(&self, key: &InstanceKey) -> Result<Option<InstanceStatus>> {
        self.host.look(key).await
    }

    async fn stop(&self, key: &InstanceKey, grace: Duration) -> Result<()> {
        let begin = Instant::now();
        self.note("stop", begin, self.host.stop(key, grace).await)
    }

    async fn fence(&self, key: &InstanceKey, generation: u64, grace: Duration) -> Result<()> {
        let begin = Instant::now();
        let what = format!("stop, and keep out what is older than generation {generation}");
        self.note(&what, begin, self.host.fence(key, generation, grace).await)
    }

    async fn remove(&self, key: &InstanceKey) -> Result<()> {
        let begin = Instant::now();
        self.note("remove", begin, self.host.remove(key).await)
    }

    async fn remove_at(&self, key: &InstanceKey, generation: u64) -> Result<()> {
        let begin = Instant::now();
        let what = format!("remove, unless something newer than generation {generation} is there");
        self.note(&what, begin, self.host.remove_at(key, generation).await)
    }

    async fn survey_home(&self, claim: &Claim, reads: &[String], program: &RunSpec) -> Result<HomeSeen> {
        self.host.survey_home(claim, reads, program).await
    }

    async fn seize_home(
        &self,
        key: &InstanceKey,
        generation: u64,
        claim: &Claim,
        stop: Option<Duration>,
    ) -> Result<()> {
        let begin = Instant::now();
        let what = format!("set the key of {} aside, and see its process end", claim.home);
        self.note(&what, begin, self.host.seize_home(key, generation, claim, stop).await)
    }

    async fn take_home(&self, key: &InstanceKey, generation: u64, claim: &Claim) -> Result<()> {
        let begin = Instant::now();
        let what = format!("copy {}, and compare", claim.home);
        self.note(&what, begin, self.host.take_home(key, generation, claim).await)
    }

    async fn return_home(&self, key: &InstanceKey, generation: u64, claim: &Claim, was_started: bool) -> Result<()> {
        let begin = Instant::now();
        let what = format!("stop it, and give {} back", claim.home);
        self.note(&what, begin, self.host.return_home(key, generation, claim, was_started).await)
    }

    async fn list(&self, cluster: &str) -> Result<Vec<InstanceStatus>> {
        self.host.list(cluster).await
    }

    async fn tail(&self, key: &InstanceKey, lines: u32) -> Result<String> {
        self.host.tail(key, lines).await
    }

    async fn usage(&self, key: &InstanceKey) -> Result<Option<InstanceUsage>> {
        self.host.usage(key).await
    }

    async fn load(&self) -> Result<Option<HostLoad>> {
        self.host.load().await
    }

    async fn dial(&self, port: u16) -> Result<Box<dyn Stream>> {
        self.host.dial(port).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_the_end_of_it_and_bounded() {
        let notes = Notes::default();
        notes.add("first");
        for n in 0..2_000 {
            notes.add(&format!("line {n} with a letter of two bytes: é\u{7}"));
        }
        let kept = notes.kept();
        assert!(kept.len() <= OUTPUT_BYTES_MAX && kept.starts_with(CUT) && kept.contains("line 1999"), "{kept}");
        assert!(!kept.contains("first") && !kept.contains('\u{7}'));
    }

    #[test]
    fn what_is_secret_is_not_kept() {
        let notes = Notes::default();
        notes.add("started\n{\"priv_key\":{\"type\":\"x\",\"value\":\"c2VjcmV0\"},\"id\":\"n0\"}\npassword=hunter2");
        let kept = notes.kept();
        assert!(!kept.contains("hunter2") && !kept.contains("c2VjcmV0") && kept.contains("started"), "{kept}");
    }
}
