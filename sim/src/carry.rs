//! Homes that are carried from host to host, as hosts do it (`hanse_adapters_core::Adapter::write_piece`): pieces are taken only
//! by what was never started there and is fenced at exactly the generation that carries. And files that are written into them.

use hanse_adapters_core::{AdapterError, FileSpec, HomeFile, InstanceKey, Piece};
use hanse_state::Digest;

use crate::ask::{Ask, Told};
use crate::hosts::{Home, Hosts};

/// The file of a home that holds its key.
const KEY_FILE: &str = "key";
/// Permission bits of every file.
const MODE: u32 = 0o600;

impl Hosts {
    /// Answers what concerns a home that is carried; `None` if it is another question.
    pub(crate) fn carry(&mut self, address: &str, ask: &Ask) -> Option<Result<Told, AdapterError>> {
        match ask {
            Ask::ListHome(key) => Some(Ok(Told::Home(self.home(address, key).map(list).unwrap_or_default()))),
            Ask::ReadPiece(key, path, offset) => {
                let content = self.home(address, key).and_then(|home| read(home, path)).unwrap_or_default();
                let from = usize::try_from(*offset).unwrap_or(usize::MAX).min(content.len());
                Some(Ok(Told::Piece(content[from..].to_vec())))
            }
            Ask::WritePiece(key, generation, piece) => {
                Some(self.write_piece(address, key, *generation, piece, piece.content.len()))
            }
            _ => None,
        }
    }

    fn home(&self, address: &str, key: &InstanceKey) -> Option<&Home> {
        self.hosts.get(address)?.homes.get(key)
    }

    /// Writes files into a home, unless something newer was written, started or fenced there.
    pub(crate) fn write(
        &mut self,
        address: &str,
        key: &InstanceKey,
        generation: Option<u64>,
        files: &[FileSpec],
    ) -> Result<(), AdapterError> {
        if let Some(generation) = generation {
            self.check_newest(address, key, generation, "written")?;
        }
        let home = self.hosts.entry(address.to_owned()).or_default().homes.entry(key.clone()).or_default();
        let known = home.written;
        if let Some(generation) = generation.filter(|generation| known > *generation) {
            let reason = format!("files of generation {known} are there, {generation} was to be written");
            return Err(AdapterError::Invalid { subject: key.to_string(), reason });
        }
        home.written = generation.unwrap_or(known);
        home.files.extend(files.iter().map(|file| (file.path.clone(), file.content.clone())));
        Ok(())
    }

    /// Takes the first `length` bytes of a piece.
    pub(crate) fn write_piece(
        &mut self,
        address: &str,
        key: &InstanceKey,
        generation: u64,
        piece: &Piece,
        length: usize,
    ) -> Result<Told, AdapterError> {
        let invalid = |reason: String| AdapterError::Invalid { subject: key.to_string(), reason };
        let home = self.hosts.get_mut(address).and_then(|host| host.homes.get_mut(key));
        let fenced = home.as_ref().map_or(0, |home| home.fence);
        let Some(home) = home.filter(|home| home.fence == generation) else {
            return Err(invalid(format!("is fenced at generation {fenced}, generation {generation} carries")));
        };
        if home.generation > 0 {
            return Err(invalid("was started on this host, so nothing is carried into its home".into()));
        }
        let content = piece.content[..length].to_vec();
        if piece.path == KEY_FILE {
            home.identity = Some(String::from_utf8_lossy(&content).into_owned());
        } else {
            home.files.insert(piece.path.clone(), content);
        }
        Ok(Told::Done)
    }

    /// Notes a key that lives in two processes.
    pub(crate) fn check_key(&mut self, identity: Option<&String>) {
        let Some(identity) = identity else { return };
        let lives = |home: &Home| home.process.is_some() && home.identity.as_ref() == Some(identity);
        let homes = self.hosts.iter().flat_map(|(address, host)| host.homes.values().map(move |home| (address, home)));
        let places: Vec<&str> = homes.filter(|(_, home)| lives(home)).map(|(address, _)| address.as_str()).collect();
        if places.len() > 1 {
            let found = format!("doubled node: key {identity} lives on {}", places.join(" and "));
            self.note(found);
        }
    }
}

fn list(home: &Home) -> Vec<HomeFile> {
    let paths = home.identity.iter().map(|_| KEY_FILE.to_owned()).chain(home.files.keys().cloned());
    let mut all: Vec<HomeFile> = paths
        .filter_map(|path| {
            let content = read(home, &path)?;
            let sha256 = Digest::of(&content).to_string();
            Some(HomeFile { path, mode: MODE, bytes: content.len() as u64, sha256 })
        })
        .collect();
    all.sort_by(|a, b| a.path.cmp(&b.path));
    all
}

fn read(home: &Home, path: &str) -> Option<Vec<u8>> {
    if path == KEY_FILE {
        return home.identity.as_ref().map(|identity| identity.clone().into_bytes());
    }
    home.files.get(path).cloned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cloud::Flaw;

    /// What a deposed leader still sends is not what the newer one wrote.
    #[test]
    fn files_of_an_older_generation_are_refused() {
        let mut hosts = Hosts::new(1, Flaw::None);
        let key = InstanceKey::new("c", "n").unwrap();
        let write = |hosts: &mut Hosts, generation, text: &str| {
            let file = FileSpec { path: "settings".into(), mode: 0o600, content: text.into() };
            hosts.write("h1", &key, generation, &[file])
        };
        let seen =
            |hosts: &Hosts| String::from_utf8(hosts.home("h1", &key).unwrap().files["settings"].clone()).unwrap();
        write(&mut hosts, Some(3), "three").unwrap();
        write(&mut hosts, Some(3), "again").unwrap();
        assert!(matches!(write(&mut hosts, Some(2), "two"), Err(AdapterError::Invalid { .. })));
        assert_eq!(seen(&hosts), "again");
        hosts.fence("h1", &key, 5).unwrap();
        assert!(matches!(write(&mut hosts, Some(4), "four"), Err(AdapterError::Invalid { .. })));
        write(&mut hosts, Some(5), "five").unwrap();
        // What names none is what the host keeps for itself.
        write(&mut hosts, None, "own").unwrap();
        assert_eq!(seen(&hosts), "own");
    }
}
