//! Secrets from a file, the environment or the terminal; never from the command line, which every process can read.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use super::error::CliError;

/// Environment variable that holds the password.
const PASSWORD_VARIABLE: &str = "HANSE_PASSWORD";
/// Longest secret.
const SECRET_BYTES_MAX: usize = 1024;
const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;

/// Where a password comes from.
#[derive(Debug, clap::Args)]
pub(crate) struct PasswordArgs {
    /// File with the password; otherwise HANSE_PASSWORD, otherwise the terminal is asked.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl PasswordArgs {
    /// Returns the password of an account that exists.
    ///
    /// # Errors
    /// There is none to be had.
    pub(crate) fn get(&self, whose: &str) -> Result<Zeroizing<String>, CliError> {
        match self.given()? {
            Some(password) => Ok(password),
            None => ask(&format!("Password of {whose}: ")),
        }
    }

    /// Returns a new password, asked for twice on the terminal.
    ///
    /// # Errors
    /// There is none to be had, or the two differ.
    pub(crate) fn get_new(&self, whose: &str) -> Result<Zeroizing<String>, CliError> {
        if let Some(password) = self.given()? {
            return Ok(password);
        }
        let first = ask(&format!("New password of {whose}: "))?;
        let second = ask("Once more: ")?;
        if first != second {
            return Err(CliError::local("the two passwords differ; nothing was done", ""));
        }
        Ok(first)
    }

    fn given(&self) -> Result<Option<Zeroizing<String>>, CliError> {
        if let Some(path) = &self.password_file {
            return from_file(path).map(Some);
        }
        Ok(std::env::var(PASSWORD_VARIABLE).ok().filter(|text| !text.is_empty()).map(Zeroizing::new))
    }
}

/// Returns a secret of a file (`-` is stdin), without the line end.
///
/// # Errors
/// The file cannot be read, is empty or too long.
pub(crate) fn from_file(path: &Path) -> Result<Zeroizing<String>, CliError> {
    let mut text = Zeroizing::new(String::new());
    let limit = SECRET_BYTES_MAX as u64 + 1;
    let read = if path == Path::new("-") {
        std::io::stdin().take(limit).read_to_string(&mut text)
    } else {
        File::open(path).and_then(|file| file.take(limit).read_to_string(&mut text))
    };
    read.map_err(|error| CliError::file(path, &error))?;
    let secret = Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned());
    if secret.is_empty() || text.len() > SECRET_BYTES_MAX {
        return Err(CliError::file(path, &format!("holds no secret of 1 to {SECRET_BYTES_MAX} bytes")));
    }
    Ok(secret)
}

/// Returns a secret typed on the terminal without echo.
///
/// # Errors
/// There is no terminal, or the user gave up.
pub(crate) fn ask(prompt: &str) -> Result<Zeroizing<String>, CliError> {
    let no_terminal = |_| {
        CliError::local(
            "a password is needed and there is no terminal to ask on",
            format!("Give --password-file FILE or set {PASSWORD_VARIABLE}."),
        )
    };
    let mut terminal = File::options().read(true).write(true).open("/dev/tty").map_err(no_terminal)?;
    let quiet = Quiet::new(&terminal)?;
    terminal.write_all(prompt.as_bytes())?;
    let mut secret = Zeroizing::new(Vec::with_capacity(SECRET_BYTES_MAX));
    loop {
        let mut byte = [0_u8];
        let got = terminal.read(&mut byte)?;
        match byte[0] {
            _ if got == 0 => return Err(given_up()),
            CTRL_C | CTRL_D => {
                terminal.write_all(b"\n")?;
                return Err(given_up());
            }
            b'\r' | b'\n' => break,
            0x7f | 0x08 => {
                // One backspace takes one letter, which may be several bytes of UTF-8.
                while secret.pop().is_some_and(|last| last & 0xc0 == 0x80) {}
            }
            byte if secret.len() < SECRET_BYTES_MAX => secret.push(byte),
            _ => {}
        }
    }
    terminal.write_all(b"\n")?;
    drop(quiet);
    let text = std::str::from_utf8(&secret).map_err(|_| CliError::local("the password is not UTF-8", ""))?;
    if text.is_empty() {
        return Err(CliError::local("the password is empty", ""));
    }
    Ok(Zeroizing::new(text.to_owned()))
}

fn given_up() -> CliError {
    CliError::local("given up; nothing was done", "")
}

/// A terminal without echo; as it was before when dropped. Signals are off too, so that Ctrl-C cannot leave it silent.
struct Quiet {
    terminal: File,
    before: Termios,
}

impl Quiet {
    fn new(terminal: &File) -> Result<Quiet, CliError> {
        let before = tcgetattr(terminal).map_err(std::io::Error::from)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        silent.special_codes[SpecialCodeIndex::VMIN] = 1;
        silent.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(terminal, OptionalActions::Flush, &silent).map_err(std::io::Error::from)?;
        Ok(Quiet { terminal: terminal.try_clone()?, before })
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // A terminal that has gone away cannot be restored and need not be.
        let _ = tcsetattr(&self.terminal, OptionalActions::Flush, &self.before);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    #[test]
    fn secrets_of_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p");
        std::fs::write(&path, "s3cret pass\r\n").unwrap();
        assert_eq!(super::from_file(&path).unwrap().as_str(), "s3cret pass");
        for bad in ["", "\n", &"x".repeat(2000)] {
            std::fs::write(&path, bad).unwrap();
            assert!(super::from_file(&path).is_err());
        }
    }
}
