//! A file that appears under its name only when it is whole and durable.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::BackupError;

/// A file on its way; dropped before [`NewFile::finish`], nothing of it is left.
#[derive(Debug)]
pub struct NewFile {
    path: PathBuf,
    temporary: PathBuf,
    out: Option<BufWriter<File>>,
}

impl NewFile {
    /// Begins a file beside `path`, readable by its owner only.
    ///
    /// # Errors
    /// `path` exists already, or the system refuses; nothing is left.
    pub fn create(path: &Path) -> Result<Self, BackupError> {
        let fail = || BackupError::io(format!("make {}", path.display()));
        if path.symlink_metadata().is_ok() {
            let source =
                std::io::Error::new(std::io::ErrorKind::AlreadyExists, "it exists already; choose another name");
            return Err(fail()(source));
        }
        let mut name = std::ffi::OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(format!(".{}.part", uuid::Uuid::now_v7()));
        let temporary = path.with_file_name(name);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary).map_err(fail())?;
        Ok(Self { path: path.to_path_buf(), temporary, out: Some(BufWriter::new(file)) })
    }

    /// Makes the file durable, then gives it its name, then makes that durable.
    ///
    /// # Errors
    /// [`BackupError::Io`]; nothing is left under the name.
    pub fn finish(mut self) -> Result<(), BackupError> {
        let step = |out: Option<BufWriter<File>>| {
            let file = match out {
                Some(out) => out.into_inner().map_err(std::io::IntoInnerError::into_error)?,
                None => return Ok(()),
            };
            file.sync_all()?;
            fs::rename(&self.temporary, &self.path)?;
            let folder = self.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(folder)?.sync_all()
        };
        step(self.out.take()).map_err(BackupError::io(format!("write {}", self.path.display())))
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.out.as_mut().map_or(Ok(0), |out| out.write(bytes))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.as_mut().map_or(Ok(()), Write::flush)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        // After a finish the name is gone; otherwise half a file must not stay.
        let _gone_already = fs::remove_file(&self.temporary);
    }
}
