//! The way back of a home of others.
//!
//! What the platform has may be the only copy of what the key has signed. So it is removed only once its owner's home, which bears the mark
//! of this very instance, was seen to have all of it, or if nothing was ever copied into it; and nothing is changed in the owner's home
//! before ours is seen to be whole. In the owner's home only that is written which ours changed, and only that deleted which was copied
//! from there and is gone from ours since.

use std::collections::BTreeMap;

use super::*;

/// The file of an instance that says what was copied into its home.
fn list_file(dir: &InstanceDir) -> PathBuf {
    dir.path.join("taken.json")
}

/// What was copied from a home of others.
#[derive(Debug, Serialize, Deserialize)]
struct Taken {
    version: u32,
    files: Vec<HomeFile>,
}

/// Keeps what is about to be copied: the way back goes by it.
pub(super) fn keep_list(dir: &InstanceDir, files: &[HomeFile]) -> Result<(), AdapterError> {
    let taken = Taken { version: FILE_VERSION, files: files.to_vec() };
    write_json(&list_file(dir), &taken).map_err(|e| io_error(&dir.key.to_string(), &e))
}

/// Whether its home was copied from one of others and has not gone back.
pub(crate) fn is_taken(dir: &InstanceDir) -> Result<bool, AdapterError> {
    exists(&list_file(dir))
}

fn read_list(dir: &InstanceDir) -> Result<Option<Vec<HomeFile>>, AdapterError> {
    let taken: Option<Taken> = read_json(&list_file(dir))?;
    match taken {
        Some(taken) if taken.version != FILE_VERSION => {
            let reason =
                format!("its list of what was taken has version {}, this program knows {FILE_VERSION}", taken.version);
            Err(invalid(&dir.key, reason))
        }
        taken => Ok(taken.map(|taken| taken.files)),
    }
}

/// What the platform has of it.
struct Ours<'a> {
    dir: &'a InstanceDir,
    /// Whether its process has run in our home: what it has signed since is there.
    was_started: bool,
    /// The generation that ran in it last, by its own record.
    started: Option<u64>,
    /// Whether something was ever copied.
    was_copied: bool,
    /// Whether it has what it can sign with or from: the list of what was copied, or the key.
    can_sign: bool,
}

impl<'a> Ours<'a> {
    fn look(dir: &'a InstanceDir, claim: &Claim, was_started: bool) -> Result<Self, AdapterError> {
        let started = instance::load(dir)?.spec.map(|stored| stored.spec.generation);
        let (has_home, has_list) = (exists(&dir.home())?, exists(&list_file(dir))?);
        let can_sign = has_list || has_home && exists(&dir.home().join(&claim.key_file))?;
        let was_started = was_started || started.is_some();
        Ok(Self { dir, was_started, started, was_copied: has_home || has_list, can_sign })
    }

    /// Whether it may have run after the way back that `mark` is of: then the owner's home has not what it has signed. What ran before is
    /// there, as the mark is written last; and what was started since in an empty place, as after a restore from before, had no key.
    fn ran_since(&self, mark: &Mark) -> bool {
        match self.started {
            Some(started) => started > mark.generation && self.can_sign,
            None => self.was_started && self.was_copied,
        }
    }

    /// Refuses if what the platform has would be lost.
    fn check_nothing(&self, home: &str, why: &str) -> Result<(), AdapterError> {
        if self.was_started || self.was_copied { Err(self.lost(home, why)) } else { Ok(()) }
    }

    fn lost(&self, home: &str, why: &str) -> AdapterError {
        let reason = format!(
            "{why}, and what the platform has in {} may be the only copy of what the node has signed, so nothing was changed: bring the \
             folder back as it was, with its {CLAIM_MARK}, and give it back again",
            self.dir.home().display()
        );
        invalid(home, reason)
    }
}

/// Gives the home back: see [`hanse_adapters_core::Adapter::return_home`].
pub(crate) fn give_back(
    layout: &Layout,
    key: &InstanceKey,
    generation: u64,
    claim: &Claim,
    was_started: bool,
) -> Result<(), AdapterError> {
    give_back_within(layout, key, generation, claim, was_started, &disk_free)
}

pub(super) fn give_back_within(
    layout: &Layout,
    key: &InstanceKey,
    generation: u64,
    claim: &Claim,
    was_started: bool,
    free: Free<'_>,
) -> Result<(), AdapterError> {
    instance::fence(layout, key, generation, instance::GRACE)?;
    let dir = layout.instance(key)?;
    let lock = dir.lock()?;
    let ours = Ours::look(&dir, claim, was_started)?;
    match Home::open(layout, claim)? {
        None => ours.check_nothing(&claim.home, "is gone")?,
        Some(home) => {
            let subject = home.path.display().to_string();
            match home.own_mark(key, generation)? {
                None => {
                    ours.check_nothing(&subject, "bears no mark that it was taken for this node")?;
                    refuse_late(&home, key, generation)?;
                }
                Some(mark) if mark.taken => bring_back(&home, &ours, generation, claim, free)?,
                Some(mark) if mark.generation != generation && ours.ran_since(&mark) => {
                    return Err(ours.lost(&subject, "bears the mark of an older way back than this one"));
                }
                // It was cut off after its mark: all is there but perhaps the key's name.
                Some(mark) => {
                    if mark.generation != generation {
                        home.write_mark(key, generation, false)?;
                    }
                    home.put_key_back()?;
                }
            }
        }
    }
    remove_home(&dir)?;
    drop(lock);
    instance::remove(layout, key, Some(generation))
}

/// Marks a home of which nothing was taken, so that an older order that is still on its way takes nothing either. Where no mark can be written
/// that order cannot write its own, and takes nothing without.
fn refuse_late(home: &Home, key: &InstanceKey, generation: u64) -> Result<(), AdapterError> {
    match home.write_mark(key, generation, false) {
        Ok(()) | Err(AdapterError::Denied { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removes what was copied before the record of which generation ran in it: cut off in between, that still says that the way back has it all.
pub(super) fn remove_home(dir: &InstanceDir) -> Result<(), AdapterError> {
    let removed = |done: io::Result<()>| match done {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(io_error(&dir.key.to_string(), &e)),
        Ok(()) | Err(_) => Ok(()),
    };
    removed(fs::remove_dir_all(dir.home()))?;
    removed(fs::remove_file(list_file(dir)))?;
    removed(sync_parent(&dir.home()))
}

/// All checks, then what ours has become, then the mark, and last of all the key's name.
fn bring_back(
    home: &Home,
    ours: &Ours<'_>,
    generation: u64,
    claim: &Claim,
    free: Free<'_>,
) -> Result<(), AdapterError> {
    // Nothing is written through a link.
    carry::sizes(&home.path)?;
    // Where ours has never run nothing is written: whoever holds the home goes on from what it is.
    if ours.was_started {
        home.check_unheld()?;
        let taken = check_whole(home, ours, claim)?;
        put_back(home, ours.dir, claim, &taken, free)?;
        restore_key(home, ours.dir, claim)?;
        // Whoever started something there meanwhile would go on from what it was before.
        home.check_unheld()?;
    } else {
        if !exists(&home.lock_file)? && exists(&ours.dir.home().join(&claim.lock_file))? {
            let why = format!("has no {} any more", claim.lock_file);
            ours.check_nothing(&home.path.display().to_string(), &why)?;
        }
        check_one_key(home, exists(&ours.dir.home().join(&claim.key_file))?)?;
        restore_key(home, ours.dir, claim)?;
    }
    home.write_mark(&ours.dir.key, generation, false)?;
    home.put_key_back()
}

/// Exactly one of the key's two names is there; or none, if ours has it.
fn check_one_key(home: &Home, is_ours: bool) -> Result<(), AdapterError> {
    match (exists(&home.set_aside)?, home.has_key()?) {
        (true, true) if home.is_named_twice()? => Ok(()),
        (true, true) => Err(invalid(
            home.key_file.display(),
            format!("is there beside {}: keep the right one of both; nothing was changed", home.set_aside.display()),
        )),
        (false, false) if !is_ours => Err(invalid(
            home.set_aside.display(),
            "is not there, and the platform has no copy of the key: bring the file back; nothing was changed",
        )),
        _ => Ok(()),
    }
}

/// Refuses unless ours is whole and of the same key; gives what was copied.
fn check_whole(home: &Home, ours: &Ours<'_>, claim: &Claim) -> Result<Vec<HomeFile>, AdapterError> {
    let dir = ours.dir;
    let broken = |what: &str| {
        let reason = format!(
            "{what}, so nothing goes from there into {}, and nothing was changed: bring the platform's folder back as it was",
            home.path.display()
        );
        Err(invalid(dir.home().display(), reason))
    };
    if instance::load(dir)?.spec.is_none() {
        return broken("was started, and its record of that is gone");
    }
    let Some(taken) = read_list(dir)? else { return broken("was started, and the list of what was copied is gone") };
    let own = dir.home().join(&claim.key_file);
    for (path, name) in [(&own, &claim.key_file), (&dir.home().join(&claim.lock_file), &claim.lock_file)] {
        if !fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file()) {
            return broken(&format!("has no {name}"));
        }
    }
    check_one_key(home, true)?;
    for theirs in [&home.set_aside, &home.key_file] {
        let is_key = theirs != &home.key_file || home.has_key()?;
        if is_key && exists(theirs)? && hash(theirs)? != hash(&own)? {
            return broken(&format!("has another key than {}", theirs.display()));
        }
    }
    Ok(taken)
}

/// Writes the key's file from ours under the name that it was set aside by, if its owner's home has it under neither.
fn restore_key(home: &Home, dir: &InstanceDir, claim: &Claim) -> Result<(), AdapterError> {
    if exists(&home.set_aside)? || home.has_key()? {
        return Ok(());
    }
    let own = dir.home().join(&claim.key_file);
    let meta = fs::symlink_metadata(&own).map_err(|e| io_error(&own.display().to_string(), &e))?;
    let mode = meta.permissions().mode() & 0o777;
    let file = HomeFile { path: claim.key_file.clone(), mode, bytes: meta.len(), sha256: hash(&own)? };
    copy(&own, &home.set_aside, &file, Some(&home.path))
}

/// Brings the owner's home to what the platform's has become; what is not of the node stays as its owner has it.
/// It is begun only where there is room for all of it.
pub(super) fn put_back(
    home: &Home,
    dir: &InstanceDir,
    claim: &Claim,
    taken: &[HomeFile],
    free: Free<'_>,
) -> Result<(), AdapterError> {
    let ours = dir.home();
    let taken: BTreeMap<&str, &HomeFile> = taken.iter().map(|file| (file.path.as_str(), file)).collect();
    let there = listed(&home.path, claim)?;
    let has = |path: &str| there.iter().any(|file| file.path == path);
    // The key is where it was set aside, and is the same. What ours left as it was copied is not written over.
    let mut all = listed(&ours, claim)?;
    let stays_ours = |path: &str| path == claim.key_file || claim.edited.iter().any(|edited| edited == path);
    all.retain(|file| !stays_ours(&file.path));
    let is_new = |file: &&HomeFile| taken.get(file.path.as_str()) != Some(file) || !has(&file.path);
    let wanted: Vec<&HomeFile> = all.iter().filter(is_new).collect();
    let lacking: Vec<&HomeFile> = wanted.iter().copied().filter(|file| !there.contains(file)).collect();
    for file in &lacking {
        clear_temp(&temp_of(&home.path.join(&file.path)))?;
    }
    let needed = most_at_once(&lacking, &there);
    if needed > 0 {
        check_room(&home.path, needed, free)?;
    }
    for file in lacking {
        copy(&ours.join(&file.path), &home.path.join(&file.path), file, Some(&home.path))?;
    }
    let is_gone = |path: &&&str| !stays_ours(path) && all.iter().all(|file| file.path != **path);
    for path in taken.keys().filter(is_gone).filter(|path| has(path)) {
        let gone = home.path.join(path);
        fs::remove_file(&gone).and_then(|()| sync_parent(&gone)).map_err(|e| io_error(path, &e))?;
    }
    check_copied(&home.path, &wanted)
}

/// What one that was killed left in the owner's home.
fn clear_temp(temp: &Path) -> Result<(), AdapterError> {
    match fs::remove_file(temp) {
        Ok(()) => Ok(()),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(()),
        Err(e) => Err(io_error(&temp.display().to_string(), &e)),
    }
}

/// The most that is taken on the disk while `files` are written one after another, each beside the one that it replaces.
fn most_at_once(files: &[&HomeFile], there: &[HomeFile]) -> u64 {
    let replaced = |file: &HomeFile| there.iter().find(|it| it.path == file.path).map_or(0, |it| i128::from(it.bytes));
    let (mut grown, mut most) = (0, 0);
    for file in files {
        let bytes = i128::from(file.bytes);
        most = most.max(grown + bytes);
        grown += bytes - replaced(file);
    }
    u64::try_from(most).unwrap_or(u64::MAX)
}
