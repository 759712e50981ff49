//! The key's file of a home of others: set aside, and put back.
//!
//! Some programs make a new key where they find none, and with it forget what the old one has signed (CometBFT's writes
//! `priv_validator_state.json` anew, at height 0). There something else stands in the key's place, which they cannot read, and at no moment
//! is that place empty: the key gets its second name first, and what stands in its place replaces the first one in one step.

use std::io::Write;

use super::*;

impl Home {
    /// Whether the key is where its owner's program looks for it.
    pub(super) fn has_key(&self) -> Result<bool, AdapterError> {
        Ok(exists(&self.key_file)? && !self.is_replaced()?)
    }

    /// Whether something else stands in the key's place.
    pub(super) fn is_replaced(&self) -> Result<bool, AdapterError> {
        let Some(words) = &self.in_place else { return Ok(false) };
        let fail = |e: &io::Error| io_error(&self.key_file.display().to_string(), e);
        match fs::symlink_metadata(&self.key_file) {
            Ok(meta) if !meta.is_file() || meta.len() != words.len() as u64 => Ok(false),
            Ok(_) => fs::read(&self.key_file).map(|found| found == words.as_bytes()).map_err(|e| fail(&e)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(fail(&e)),
        }
    }

    /// Whether both names are of one file: setting it aside was cut off in between.
    pub(super) fn is_named_twice(&self) -> Result<bool, AdapterError> {
        if !exists(&self.key_file)? || !exists(&self.set_aside)? {
            return Ok(false);
        }
        let meta = |path: &Path| fs::symlink_metadata(path).map_err(|e| io_error(&path.display().to_string(), &e));
        let (one, other) = (meta(&self.key_file)?, meta(&self.set_aside)?);
        Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
    }

    /// Sets the key aside, durably; done already is a success.
    pub(super) fn set_key_aside(&self) -> Result<(), AdapterError> {
        let Some(words) = &self.in_place else { return self.rename_key(&self.key_file, &self.set_aside) };
        let fail = |e: io::Error| io_error(&self.key_file.display().to_string(), &e);
        match (self.has_key()?, exists(&self.set_aside)?) {
            (true, false) => fs::hard_link(&self.key_file, &self.set_aside)
                .and_then(|()| sync_parent(&self.set_aside))
                .map_err(fail)?,
            (true, true) if self.is_named_twice()? => {}
            (true, true) => return Err(beside(&self.key_file, &self.set_aside)),
            (false, true) if self.is_replaced()? => return Ok(()),
            (false, true) => {}
            (false, false) => return Err(no_key(&self.key_file)),
        }
        self.write_in_place(words).map_err(fail)
    }

    fn write_in_place(&self, words: &str) -> io::Result<()> {
        let temp = temp_of(&self.key_file);
        match fs::remove_file(&temp) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            Ok(()) | Err(_) => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&temp)?;
        file.write_all(words.as_bytes())?;
        file.sync_all()?;
        belongs_as(&temp, &self.path)?;
        fs::rename(&temp, &self.key_file)?;
        sync_parent(&self.key_file)
    }

    /// Gives the key's file its name again, durably; done already is a success.
    pub(super) fn put_key_back(&self) -> Result<(), AdapterError> {
        let fail = |e: io::Error| io_error(&self.key_file.display().to_string(), &e);
        if self.is_named_twice()? {
            return fs::remove_file(&self.set_aside).and_then(|()| sync_parent(&self.set_aside)).map_err(fail);
        }
        if self.is_replaced()? && exists(&self.set_aside)? {
            return fs::rename(&self.set_aside, &self.key_file)
                .and_then(|()| sync_parent(&self.key_file))
                .map_err(fail);
        }
        if self.is_replaced()? {
            return Err(no_key(&self.set_aside));
        }
        self.rename_key(&self.set_aside, &self.key_file)
    }

    /// Gives the key's file another name, durably; done already is a success.
    fn rename_key(&self, from: &Path, to: &Path) -> Result<(), AdapterError> {
        match (exists(from)?, exists(to)?) {
            (true, false) => {}
            (false, true) => return Ok(()),
            (true, true) => return Err(beside(from, to)),
            (false, false) => return Err(no_key(from)),
        }
        fs::rename(from, to).and_then(|()| sync_parent(to)).map_err(|e| io_error(&from.display().to_string(), &e))
    }
}

fn beside(one: &Path, other: &Path) -> AdapterError {
    invalid(one.display(), format!("is there beside {}: keep the right one of both", other.display()))
}

fn no_key(path: &Path) -> AdapterError {
    invalid(path.display(), "is not there: it is no home of a node of this ledger")
}
