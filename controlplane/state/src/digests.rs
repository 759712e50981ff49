//! The digests of the latest revisions, for comparison with another replica's.
//!
//! A ring of [`DIGESTS_KEPT`]: each entry adds one at its newer end and drops one at the older. A persistent vector does both
//! without a search, and a copy of the state shares it. It is written as a map from revision to digest, in order.
//!
//! What this never does: hold a revision twice, or out of order.

use std::fmt;

use imbl::Vector;
use serde::de::{Error, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::Digest;

/// Digests of the latest revisions that are kept for comparison.
pub const DIGESTS_KEPT: usize = 1_024;

/// Digest by revision, ascending, at most [`DIGESTS_KEPT`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Digests(Vector<(u64, Digest)>);

impl Digests {
    /// The digest after `revision`, if it is kept.
    #[must_use]
    pub fn get(&self, revision: u64) -> Option<Digest> {
        let place = self.0.binary_search_by_key(&revision, |(at, _)| *at).ok()?;
        self.0.get(place).map(|(_, digest)| *digest)
    }

    /// Keeps the digest after `revision`, the newest, and drops the oldest if there are too many.
    ///
    /// # Panics
    /// If `revision` is not after the last one.
    pub(crate) fn push(&mut self, revision: u64, digest: Digest) {
        assert!(self.is_next(revision), "the digest of {revision} is out of order");
        self.0.push_back((revision, digest));
        if self.0.len() > DIGESTS_KEPT {
            self.0.pop_front();
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    fn is_next(&self, revision: u64) -> bool {
        self.0.last().is_none_or(|(last, _)| *last < revision)
    }
}

impl Serialize for Digests {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (revision, digest) in &self.0 {
            map.serialize_entry(revision, digest)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Digests {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Digests;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {DIGESTS_KEPT} digests by revision, ascending")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Digests, A::Error> {
        let mut digests = Digests::default();
        while let Some((revision, digest)) = map.next_entry()? {
            if !digests.is_next(revision) {
                return Err(A::Error::custom(format_args!("the digest of {revision} is out of order")));
            }
            if digests.0.len() == DIGESTS_KEPT {
                return Err(A::Error::custom(format_args!("more than {DIGESTS_KEPT} digests")));
            }
            digests.push(revision, digest);
        }
        Ok(digests)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn digest(n: u64) -> Digest {
        Digest::of(&n.to_be_bytes())
    }

    proptest! {
        #[test]
        fn the_latest_are_kept_and_written_like_a_map(steps in prop::collection::vec(1u64..5, 0..2_500)) {
            let (mut ours, mut model, mut at) = (Digests::default(), BTreeMap::new(), 0);
            for step in steps {
                at += step;
                ours.push(at, digest(at));
                model.insert(at, digest(at));
                if model.len() > DIGESTS_KEPT {
                    model.pop_first();
                }
            }
            for revision in at.saturating_sub(6_000)..=at + 1 {
                prop_assert_eq!(ours.get(revision), model.get(&revision).copied());
            }
            let written = rmp_serde::to_vec_named(&ours).unwrap();
            prop_assert_eq!(&written, &rmp_serde::to_vec_named(&model).unwrap());
            prop_assert_eq!(rmp_serde::from_slice::<Digests>(&written).unwrap(), ours);
        }
    }

    #[test]
    fn what_is_out_of_order_or_too_much_is_refused() {
        let read = |pairs: &[(u64, Digest)]| {
            let mut bytes = vec![0xdf];
            bytes.extend_from_slice(&u32::try_from(pairs.len()).unwrap().to_be_bytes());
            for (revision, digest) in pairs {
                bytes.extend(rmp_serde::to_vec(revision).unwrap());
                bytes.extend(rmp_serde::to_vec(digest).unwrap());
            }
            rmp_serde::from_slice::<Digests>(&bytes).map_err(|e| e.to_string())
        };
        assert_eq!(read(&[(1, digest(1)), (3, digest(3))]).unwrap().get(3), Some(digest(3)));
        assert!(read(&[(3, digest(3)), (1, digest(1))]).unwrap_err().contains("the digest of 1 is out of order"));
        assert!(read(&[(3, digest(3)), (3, digest(3))]).unwrap_err().contains("out of order"));
        let many: Vec<_> = (1..=DIGESTS_KEPT as u64 + 1).map(|n| (n, digest(n))).collect();
        assert!(read(&many).unwrap_err().contains("more than 1024"));
    }
}
