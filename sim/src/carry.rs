//! Homes that are carried from host to host, as hosts do it (`hanse_adapters_core::Adapter::write_piece`): pieces are taken only
//! by what was never started there and is fenced at exactly the generation that carries.

use hanse_adapters_core::{AdapterError, HomeFile, InstanceKey, Piece};
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
