//! Homes of others on this host: looked at, taken over, given back.
//!
//! Order is what keeps a key in one process. Taking: the mark says who takes the home, the key's file is set aside (from here on nothing
//! starts there with it), the process is seen to have ended, then the home is copied and compared. Giving back: ours is fenced and ends,
//! what it has become is copied into the owner's home, the mark says that it is given back, and only then the key's file gets its name
//! again; the mark before the name, so that whoever does it once more never writes into a home that its owner has started again. The
//! mark bears the generation of the last order and refuses older ones, however late they arrive, as an instance's fence does; so a home that
//! goes back is marked even if nothing of it was taken.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hanse_adapters_core::{
    AdapterError, CLAIM_MARK, Claim, HomeFile, HomeSeen, InstanceKey, READ_BYTES_MAX, RunSpec, SET_ASIDE,
};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::artifact::file_sha256;
use crate::facts::disk_free;
use crate::files::{TEMP_PREFIX, split};
use crate::holders::{holders, listening};
use crate::instance::{self, FILE_VERSION};
use crate::layout::{InstanceDir, Layout, invalid, io_error, read_json, sync_parent, write_json};
use crate::proc::Process;
use crate::{carry, run};

mod back;
mod key;

pub(crate) use back::{give_back, is_taken};

/// Longest grace that an owner's process is granted.
const GRACE_MAX: Duration = Duration::from_secs(60);
/// What a home needs on the disk besides its own size, so that the node can go on there.
const ROOM_BYTES: u64 = 64 << 20;

/// The mark in a home of others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    version: u32,
    /// Whose it is now, or was.
    key: InstanceKey,
    /// Of the last order about it; older ones are refused.
    generation: u64,
    /// Whether it is taken; else it was given back.
    taken: bool,
    /// For whoever finds the file.
    about: String,
}

/// A home of others with its parts as paths.
struct Home {
    path: PathBuf,
    key_file: PathBuf,
    set_aside: PathBuf,
    lock_file: PathBuf,
    mark: PathBuf,
    /// What stands in the key's place once that is set aside.
    in_place: Option<String>,
}

impl Home {
    /// The home without links in its path, if it is there and none of the platform's own.
    fn open(layout: &Layout, claim: &Claim) -> Result<Option<Self>, AdapterError> {
        for part in claim.left.iter().chain(&claim.edited).chain([&claim.key_file, &claim.lock_file]) {
            split(part.strip_suffix('/').unwrap_or(part)).map_err(|reason| invalid(part, reason))?;
        }
        if !Path::new(&claim.home).is_absolute() {
            return Err(invalid(&claim.home, "must be an absolute path"));
        }
        let path = match fs::canonicalize(&claim.home) {
            Ok(path) => path,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(None),
            Err(e) => return Err(io_error(&claim.home, &e)),
        };
        let own = fs::canonicalize(layout.root()).unwrap_or_else(|_| layout.root().to_owned());
        if path.starts_with(&own) || own.starts_with(&path) {
            return Err(invalid(
                &claim.home,
                "is within the platform's own folder, or around it: it is no home of others",
            ));
        }
        let set_aside = path.join(format!("{}{SET_ASIDE}", claim.key_file));
        let (key_file, lock_file) = (path.join(&claim.key_file), path.join(&claim.lock_file));
        let mark = path.join(CLAIM_MARK);
        Ok(Some(Self { path, key_file, set_aside, lock_file, mark, in_place: claim.in_place.clone() }))
    }

    fn mark(&self) -> Result<Option<Mark>, AdapterError> {
        let mark: Option<Mark> = read_json(&self.mark)?;
        match mark {
            Some(mark) if mark.version != FILE_VERSION => {
                let reason = format!("has version {}, this program knows {FILE_VERSION}", mark.version);
                Err(invalid(self.mark.display(), reason))
            }
            mark => Ok(mark),
        }
    }

    fn write_mark(&self, key: &InstanceKey, generation: u64, taken: bool) -> Result<(), AdapterError> {
        let about = match taken {
            true => format!(
                "This node is run by the platform, as {key}. Its key's file was set aside ({SET_ASIDE}) so that it is not started \
                 here: it would sign twice. To get it back, have the platform give it back: `hanse chain give-back`."
            ),
            false => format!("The platform has given this node back, which it had as {key}: it can be started here."),
        };
        let mark = Mark { version: FILE_VERSION, key: key.clone(), generation, taken, about };
        write_json(&self.mark, &mark)
            .and_then(|()| belongs_as(&self.mark, &self.path))
            .map_err(|e| io_error(&self.mark.display().to_string(), &e))
    }

    /// The mark, if it is of `key` and not newer than `generation`; one of somebody else who gave it back counts as none.
    fn own_mark(&self, key: &InstanceKey, generation: u64) -> Result<Option<Mark>, AdapterError> {
        let Some(mark) = self.mark()? else { return Ok(None) };
        if mark.key != *key {
            if !mark.taken {
                return Ok(None);
            }
            return Err(invalid(
                self.path.display(),
                format!("was taken over by {}: have that give it back first", mark.key),
            ));
        }
        if mark.generation > generation {
            let newer = mark.generation;
            let reason = format!("was marked by generation {newer}, {generation} asks: read the newest state");
            return Err(invalid(self.path.display(), reason));
        }
        Ok(Some(mark))
    }

    /// Refuses while a process holds the home.
    fn check_unheld(&self) -> Result<(), AdapterError> {
        let held = self.holders()?;
        if held.is_empty() {
            return Ok(());
        }
        let words: Vec<String> = held.iter().map(words).collect();
        Err(transient(&self.path, format!("is held by {}", words.join(" and "))))
    }

    fn holders(&self) -> Result<Vec<hanse_adapters_core::Holder>, AdapterError> {
        holders(&self.lock_file)
            .map_err(|e| transient(&self.path, format!("the host cannot look at its processes: {e}")))
    }
}

fn words(holder: &hanse_adapters_core::Holder) -> String {
    match holder.pid {
        0 => "a process that this account cannot see".into(),
        pid => format!("process {pid} ({})", holder.command),
    }
}

fn exists(path: &Path) -> Result<bool, AdapterError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(io_error(&path.display().to_string(), &e)),
    }
}

fn transient(path: &Path, reason: impl Into<String>) -> AdapterError {
    AdapterError::Transient { subject: path.display().to_string(), reason: reason.into() }
}

fn missing(claim: &Claim) -> AdapterError {
    invalid(&claim.home, "there is no such folder on this host")
}

/// Looks at the home; nothing is changed.
pub(crate) fn survey(
    layout: &Layout,
    claim: &Claim,
    reads: &[String],
    program: &RunSpec,
) -> Result<HomeSeen, AdapterError> {
    let disk_free_bytes = crate::facts::inspect(layout)?.disk_free_bytes;
    let mut seen = HomeSeen {
        home: String::new(),
        obstacle: String::new(),
        files: 0,
        bytes: 0,
        disk_free_bytes,
        holders: Vec::new(),
        taken_by: None,
        listening: Default::default(),
        contents: Default::default(),
        said: None,
    };
    let home = match Home::open(layout, claim) {
        Ok(Some(home)) => home,
        Ok(None) => return Ok(seen),
        Err(AdapterError::Invalid { reason, .. } | AdapterError::Denied { reason, .. }) => {
            return Ok(HomeSeen { obstacle: reason, ..seen });
        }
        Err(error) => return Err(error),
    };
    seen.home = home.path.display().to_string();
    match carry::sizes(&home.path) {
        Ok((files, bytes)) => (seen.files, seen.bytes) = (files, bytes),
        Err(AdapterError::Invalid { subject, reason } | AdapterError::Denied { subject, reason }) => {
            seen.obstacle = format!("{subject}: {reason}");
        }
        Err(error) => return Err(error),
    }
    seen.taken_by = home.mark()?.filter(|mark| mark.taken).map(|mark| mark.key.to_string());
    seen.holders = home.holders()?;
    seen.listening = listening(&seen.holders).map_err(|e| transient(&home.path, format!("its ports: {e}")))?;
    for path in reads {
        split(path).map_err(|reason| invalid(path, reason))?;
        let file = home.path.join(path);
        let is_small = fs::metadata(&file).is_ok_and(|meta| meta.is_file() && meta.len() <= READ_BYTES_MAX as u64);
        if is_small {
            let content = fs::read(&file).map_err(|e| io_error(path, &e))?;
            seen.contents.insert(path.clone(), content);
        }
    }
    seen.said = Some(run::run_in(layout, &home.path, program)?);
    Ok(seen)
}

/// Takes the home for `key`: see [`hanse_adapters_core::Adapter::seize_home`].
pub(crate) fn seize(
    layout: &Layout,
    key: &InstanceKey,
    generation: u64,
    claim: &Claim,
    stop: Option<Duration>,
) -> Result<(), AdapterError> {
    instance::fence(layout, key, generation, Duration::ZERO)?;
    let dir = layout.instance(key)?;
    let _lock = dir.lock()?;
    let home = Home::open(layout, claim)?.ok_or_else(|| missing(claim))?;
    hold(&home, &dir, generation)?;
    let held = home.holders()?;
    match (held.as_slice(), stop) {
        ([], _) => Ok(()),
        ([one], Some(grace)) if one.pid > 0 => end(&home, one, grace.min(GRACE_MAX)),
        ([one], None) => Err(transient(
            &home.path,
            format!("waits until its owner has stopped {}; nothing starts it here again", words(one)),
        )),
        (several, _) => {
            let all: Vec<String> = several.iter().map(words).collect();
            Err(transient(
                &home.path,
                format!(
                    "is held by {}: which is the node is not to be told, so its owner stops them",
                    all.join(" and ")
                ),
            ))
        }
    }
}

/// The mark first, then the key's file is set aside.
fn hold(home: &Home, dir: &InstanceDir, generation: u64) -> Result<(), AdapterError> {
    let mark = home.own_mark(&dir.key, generation)?;
    if mark.is_none_or(|mark| mark.generation != generation || !mark.taken) {
        home.write_mark(&dir.key, generation, true)?;
    }
    home.set_key_aside()
}

fn end(home: &Home, holder: &hanse_adapters_core::Holder, grace: Duration) -> Result<(), AdapterError> {
    let cannot = |e: io::Error| transient(&home.path, format!("{} cannot be stopped: {e}", words(holder)));
    let Some(process) = Process::open(holder.pid).map_err(cannot)? else { return home.check_unheld() };
    // It may have ended, and its number be another's, since it was seen.
    if !home.holders()?.iter().any(|it| it.pid == holder.pid) {
        return home.check_unheld();
    }
    process.signal(Signal::TERM).map_err(cannot)?;
    if !process.wait_end(grace).map_err(cannot)? {
        return Err(transient(&home.path, format!("{} was asked to stop and still runs", words(holder))));
    }
    home.check_unheld()
}

/// Tells how much is free where a path is.
type Free<'a> = &'a dyn Fn(&Path) -> Result<u64, AdapterError>;

/// Copies the taken home: see [`hanse_adapters_core::Adapter::take_home`].
pub(crate) fn take(layout: &Layout, key: &InstanceKey, generation: u64, claim: &Claim) -> Result<(), AdapterError> {
    take_within(layout, key, generation, claim, &disk_free)
}

fn take_within(
    layout: &Layout,
    key: &InstanceKey,
    generation: u64,
    claim: &Claim,
    free: Free<'_>,
) -> Result<(), AdapterError> {
    let dir = layout.instance(key)?;
    let _lock = dir.lock()?;
    let home = Home::open(layout, claim)?.ok_or_else(|| missing(claim))?;
    let fenced = instance::fenced(&dir)?;
    let mark = home.own_mark(key, generation)?;
    if fenced != generation || !mark.is_some_and(|mark| mark.taken && mark.generation == generation) {
        let reason = format!("is not taken by generation {generation} ({fenced} has fenced): read the newest state");
        return Err(invalid(home.path.display(), reason));
    }
    if instance::load(&dir)?.spec.is_some() {
        return Err(invalid(key, "was started on this host, so nothing is copied into its home"));
    }
    home.check_unheld()?;
    let wanted = theirs(&home, claim)?;
    let ours = dir.make_home()?;
    let lacking = keep_equal(&ours, &wanted, claim)?;
    let needed = lacking.iter().map(|file| file.bytes).sum::<u64>().saturating_add(ROOM_BYTES);
    check_room(layout.root(), needed, free)?;
    back::keep_list(&dir, &wanted)?;
    for file in &lacking {
        let source = if file.path == claim.key_file { home.set_aside.clone() } else { home.path.join(&file.path) };
        copy(&source, &ours.join(&file.path), file, None)?;
    }
    // Whoever started something there meanwhile may have changed what was copied.
    home.check_unheld()?;
    // What was there already was read for that.
    check_copied(&ours, &lacking)
}

/// The files that go over, by the names that they have with their key in its place.
fn theirs(home: &Home, claim: &Claim) -> Result<Vec<HomeFile>, AdapterError> {
    let aside = format!("{}{SET_ASIDE}", claim.key_file);
    let mut all = listed(&home.path, claim)?;
    if !home.has_key()? {
        // What stands in its place is no file of the node.
        all.retain(|file| file.path != claim.key_file);
    }
    all.iter_mut().filter(|file| file.path == aside).for_each(|file| file.path.clone_from(&claim.key_file));
    all.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(all)
}

/// The files of a home but those that its owner keeps, and the mark.
fn listed(home: &Path, claim: &Claim) -> Result<Vec<HomeFile>, AdapterError> {
    let mut all = carry::list_in(home)?;
    all.retain(|file| file.path != CLAIM_MARK && !claim.leaves(&file.path));
    Ok(all)
}

fn check_room(at: &Path, needed: u64, free: Free<'_>) -> Result<(), AdapterError> {
    let free = free(at)?;
    if free >= needed {
        return Ok(());
    }
    Err(transient(at, format!("{free} bytes are free and {needed} are needed: free space on the host")))
}

/// Leaves in the platform's home what is as it is wanted and nothing else, and gives what is not there yet.
fn keep_equal<'a>(ours: &Path, wanted: &'a [HomeFile], claim: &Claim) -> Result<Vec<&'a HomeFile>, AdapterError> {
    let there = listed(ours, claim)?;
    clear_temps(ours)?;
    for other in there.iter().filter(|file| !wanted.contains(file)) {
        fs::remove_file(ours.join(&other.path)).map_err(|e| io_error(&other.path, &e))?;
    }
    Ok(wanted.iter().filter(|file| !there.contains(file)).collect())
}

/// Removes what a copy that was cut off left below a folder.
fn clear_temps(folder: &Path) -> Result<(), AdapterError> {
    let work = || -> io::Result<Vec<PathBuf>> {
        let mut folders = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => folders.push(entry.path()),
                false if entry.file_name().to_string_lossy().starts_with(TEMP_PREFIX) => fs::remove_file(entry.path())?,
                false => {}
            }
        }
        Ok(folders)
    };
    let folders = work().map_err(|e| io_error(&folder.display().to_string(), &e))?;
    folders.iter().try_for_each(|folder| clear_temps(folder))
}

/// Reads what was copied into `to` again.
fn check_copied(to: &Path, files: &[&HomeFile]) -> Result<(), AdapterError> {
    for file in files {
        let path = to.join(&file.path);
        if hash(&path)? != file.sha256 {
            return Err(transient(&path, "is not what was copied; it is copied again"));
        }
    }
    Ok(())
}

fn hash(path: &Path) -> Result<String, AdapterError> {
    file_sha256(path).map_err(|e| io_error(&path.display().to_string(), &e))
}

/// The name that a file has while it is copied.
fn temp_of(to: &Path) -> PathBuf {
    let name = to.file_name().unwrap_or_default().to_string_lossy();
    to.with_file_name(format!("{TEMP_PREFIX}{name}"))
}

/// Copies one file, durably and whole, through a temporary name. Within a home of others (`within`) it belongs to whom the one belonged that
/// it replaces, or else to whom the folder belongs.
fn copy(from: &Path, to: &Path, file: &HomeFile, within: Option<&Path>) -> Result<(), AdapterError> {
    let temp = temp_of(to);
    let work = || -> io::Result<()> {
        let folder = to.parent().ok_or_else(|| io::Error::other("it has no folder"))?;
        match within {
            Some(home) => make_folders(home, folder)?,
            None => fs::create_dir_all(folder)?,
        }
        let mut source = File::open(from)?;
        let mut target = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&temp)?;
        io::copy(&mut source, &mut target)?;
        if within.is_some() {
            let like = if to.exists() { to } else { folder };
            belongs_as(&temp, like)?;
        }
        // After its owner: that takes bits of the mode away.
        target.set_permissions(fs::Permissions::from_mode(file.mode))?;
        target.sync_all()?;
        fs::rename(&temp, to)?;
        sync_parent(to)
    };
    work().map_err(|e| {
        // Nothing half is left; what keeps it from being removed is the error itself, or was never made.
        let _removed_if_it_was_made = fs::remove_file(&temp);
        io_error(&from.display().to_string(), &e)
    })
}

/// Makes the folders down to `folder`, each belonging to whom the one that it is in belongs.
fn make_folders(home: &Path, folder: &Path) -> io::Result<()> {
    if folder.is_dir() || !folder.starts_with(home) {
        return Ok(());
    }
    let above = folder.parent().ok_or_else(|| io::Error::other("it has no folder"))?;
    make_folders(home, above)?;
    fs::create_dir(folder)?;
    belongs_as(folder, above)?;
    sync_parent(folder)
}

/// Has `path` belong to whom `like` belongs; only root can give files away, and whoever else wrote there owns them.
fn belongs_as(path: &Path, like: &Path) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let meta = fs::symlink_metadata(like)?;
    std::os::unix::fs::lchown(path, Some(meta.uid()), Some(meta.gid()))
}

#[cfg(test)]
#[path = "claim_tests.rs"]
mod tests;
