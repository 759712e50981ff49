//! Checking: one whole backup and the incremental ones after it, item by item, from the first record to the last state.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use hanse_state::audit::AuditHead;
use hanse_state::codec::decode_state;
use hanse_state::{Digest, Record, State};

use crate::content::{Head, Item, Parser, Span};
use crate::seal::{Protection, Reader};
use crate::{BackupError, content};

/// A backup that was checked wholly.
#[derive(Clone, Debug)]
pub struct Verified {
    /// What it says of itself.
    pub head: Head,
    /// Its state.
    pub state: State,
}

/// Reads only the head of a file: what an incremental backup continues. Nothing after it is checked.
///
/// # Errors
/// [`BackupError`].
pub fn read_head(path: &Path, protection: Protection<'_>) -> Result<Head, BackupError> {
    let mut reader = open(path, protection)?;
    let mut parser = Parser::default();
    while let Some(chunk) = reader.next_chunk()? {
        parser.push(&chunk);
        match parser.next_item()? {
            Some(Item::Head(head)) => return Ok(*head),
            Some(_) => break,
            None => {}
        }
    }
    Err(BackupError::content("it has no head"))
}

fn open(path: &Path, protection: Protection<'_>) -> Result<Reader<BufReader<File>>, BackupError> {
    let file = File::open(path).map_err(BackupError::io(format!("read {}", path.display())))?;
    Reader::new(BufReader::with_capacity(1 << 17, file), protection)
}

/// How far a chain of backups has been followed. The order of calls is `take` for all content of a backup, then `end`;
/// then the next backup.
#[derive(Default)]
pub struct Chain {
    before: Option<Head>,
    heads: BTreeMap<String, u64>,
    audit: AuditHead,
    now: Option<Now>,
}

/// The backup that is being read.
struct Now {
    parser: Parser,
    head: Option<Head>,
    state: Vec<u8>,
    verified: Option<State>,
}

impl Chain {
    /// A chain that goes on after `base`, of which only the head is known.
    #[must_use]
    pub fn after(base: Head) -> Self {
        let heads = base.history.iter().map(|(kind, span)| (kind.clone(), span.last)).collect::<BTreeMap<_, _>>();
        let audit = AuditHead { count: heads.get("audit").copied().unwrap_or(0), head: base.audit };
        Self { before: Some(base), heads, audit, now: None }
    }

    /// Reads and checks one file, handing out every record of history in order.
    ///
    /// # Errors
    /// [`BackupError`], or what `each` gives.
    pub fn file<E: From<BackupError>>(
        &mut self,
        path: &Path,
        protection: Protection<'_>,
        mut each: impl FnMut(Record) -> Result<(), E>,
    ) -> Result<Verified, E> {
        let mut reader = open(path, protection)?;
        while let Some(chunk) = reader.next_chunk()? {
            for record in self.take(&chunk)? {
                each(record)?;
            }
        }
        Ok(self.end()?)
    }

    /// Takes content as it comes and gives the records that became whole, each checked to be the next of its kind.
    ///
    /// # Errors
    /// [`BackupError`]; the chain is then of no use.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Vec<Record>, BackupError> {
        let mut now = self.now.take().unwrap_or_else(|| Now {
            parser: Parser::default(),
            head: None,
            state: Vec::new(),
            verified: None,
        });
        let mut records = Vec::new();
        now.parser.push(bytes);
        while let Some(item) = now.parser.next_item()? {
            match (item, &now.head) {
                (Item::Head(head), None) => {
                    self.follows(&head)?;
                    now.head = Some(*head);
                }
                (Item::State(part), Some(head)) if now.verified.is_none() => {
                    now.state.extend_from_slice(&part);
                    if now.state.len() as u64 >= head.state_bytes {
                        now.verified = Some(check_state(head, &std::mem::take(&mut now.state))?);
                    }
                }
                (Item::Record(record), Some(_)) if now.verified.is_some() => {
                    self.record(&record)?;
                    records.push(*record);
                }
                (Item::End(_), Some(_)) if now.verified.is_some() => {}
                _ => return Err(BackupError::content("an item stands where another must")),
            }
        }
        self.now = Some(now);
        Ok(records)
    }

    /// Ends a backup.
    ///
    /// # Errors
    /// [`BackupError`] if it is not whole.
    pub fn end(&mut self) -> Result<Verified, BackupError> {
        let missing = || BackupError::content("it breaks off before its end");
        let now = self.now.take().ok_or_else(missing)?;
        now.parser.finish()?;
        let (head, state) = (now.head.ok_or_else(missing)?, now.verified.ok_or_else(missing)?);
        for (kind, last) in head.history.iter().map(|(kind, span)| (kind, span.last)) {
            let found = self.heads.get(kind).copied().unwrap_or(0);
            if found != last {
                return Err(BackupError::content(format!("records of {kind} end at {found}, not at {last}")));
            }
        }
        if self.audit != state.audit {
            let source = hanse_state::audit::AuditError::Head { expected: state.audit.count, found: self.audit.count };
            return Err(BackupError::Audit(source));
        }
        self.before = Some(head.clone());
        Ok(Verified { head, state })
    }

    /// Checks that a backup is the next one of this chain.
    fn follows(&self, head: &Head) -> Result<(), BackupError> {
        let fault = |why: &str| Err(BackupError::NotAChain(why.into()));
        match (&self.before, &head.base) {
            (None, None) => {}
            (None, Some(base)) => {
                return fault(&format!("backup {} continues {}, which must come first", head.backup, base.backup));
            }
            (Some(_), None) => return fault(&format!("backup {} is whole and stands after another", head.backup)),
            (Some(before), Some(base)) => {
                if *base != before.as_base() {
                    return fault(&format!(
                        "backup {} continues {} (revision {}), not {} (revision {})",
                        head.backup, base.backup, base.revision, before.backup, before.revision
                    ));
                }
                if (head.cluster, head.incarnation) != (before.cluster, before.incarnation) {
                    return fault("they are of different clusters");
                }
                if head.revision < before.revision {
                    return fault("the later one has the lower revision");
                }
            }
        }
        for (kind, Span { after, last }) in &head.history {
            if *after != self.heads.get(kind).copied().unwrap_or(0) || last < after {
                return fault(&format!("records of {kind} do not begin where those before end"));
            }
        }
        match self.heads.keys().find(|kind| !head.history.contains_key(*kind)) {
            Some(kind) => fault(&format!("records of {kind} are not spoken of any more")),
            None => Ok(()),
        }
    }

    fn record(&mut self, record: &Record) -> Result<(), BackupError> {
        let head = self.heads.entry(record.kind().to_owned()).or_insert(0);
        if record.seq() != *head + 1 {
            let (kind, seq) = (record.kind(), record.seq());
            return Err(BackupError::content(format!("record {seq} of {kind} stands after record {head}")));
        }
        *head += 1;
        match record {
            Record::Audit(audit) => self.audit.follow(audit).map_err(BackupError::Audit),
            Record::Usage(_) | Record::OperationLog(_) => Ok(()),
        }
    }
}

/// Checks the state against the head.
fn check_state(head: &Head, bytes: &[u8]) -> Result<State, BackupError> {
    let fault = |why: &str| Err(BackupError::content(format!("the state {why}")));
    if bytes.len() as u64 != head.state_bytes || Digest::of(bytes) != head.state_sha256 {
        return fault("is not the one that was hashed");
    }
    let state = decode_state(bytes).map_err(|e| BackupError::content(e.to_string()))?;
    if (state.revision, state.digest(), state.now) != (head.revision, head.digest, head.at) {
        return fault("has another revision or digest than the head says");
    }
    if state.cluster.as_ref().map(|cluster| cluster.id) != Some(head.cluster) {
        return fault("is of another cluster than the head says");
    }
    let expected: BTreeMap<String, u64> =
        state.heads().into_iter().map(|(kind, last)| (kind.to_owned(), last)).collect();
    let said: BTreeMap<String, u64> = head.history.iter().map(|(kind, span)| (kind.clone(), span.last)).collect();
    if expected != said || state.audit.head != head.audit {
        return fault("knows other history than the head says");
    }
    Ok(state)
}

/// Gives the head of a backup of `state` that continues `base`.
///
/// # Errors
/// [`BackupError::Content`] if there is no cluster yet.
pub fn head_of(
    state: &State,
    encoded: &[u8],
    backup: hanse_state::ids::BackupId,
    base: Option<(content::Base, BTreeMap<String, u64>)>,
) -> Result<Head, BackupError> {
    let Some(cluster) = &state.cluster else { return Err(BackupError::content("there is no cluster yet")) };
    let (base, after) = base.unzip();
    let after = after.unwrap_or_default();
    let spans = state
        .heads()
        .into_iter()
        .map(|(kind, last)| (kind.to_owned(), Span { after: after.get(kind).copied().unwrap_or(0), last }));
    Ok(Head {
        format: content::FORMAT,
        backup,
        base,
        cluster: cluster.id,
        cluster_name: cluster.name.clone(),
        incarnation: cluster.restored.as_ref().map(|restored| restored.incarnation),
        revision: state.revision,
        at: state.now,
        digest: state.digest(),
        audit: state.audit.head,
        state_bytes: encoded.len() as u64,
        state_sha256: Digest::of(encoded),
        history: spans.collect(),
        made_by: env!("CARGO_PKG_VERSION").to_owned(),
    })
}
