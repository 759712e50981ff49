//! The cluster version: what it lets into the log, what it does to the digest, and what a build that is too old is told.
#![allow(clippy::unwrap_used)]

use hanse_state::cluster::version::{RaiseClusterVersion, SPOKEN, Version};
use hanse_state::codec::{self, CodecError};
use hanse_state::{Actor, Command, Digest, Rejection, Request, State};

use super::parse::{self, Args};
use super::wire::frozen;
use super::world::{self, World, actor, request_id};

/// Revisions at which the digest is frozen; at 1,000 and 2,000 the whole state is mixed in.
const FROZEN: [u64; 5] = [999, 1_000, 1_001, 2_000, 2_010];

fn raised() -> World {
    let mut w = World::platform();
    w.ok(actor("root"), raise(2));
    w
}

fn raise(version: u16) -> Command {
    Command::RaiseClusterVersion(RaiseClusterVersion { version: Version(version) })
}

/// Applies notes until the last of [`FROZEN`]; gives the digests there.
fn digests(mut w: World) -> String {
    let note = parse::command(&w, &Args::parse("root SetTenantMetadata note=hello"));
    let mut digests = String::new();
    for revision in w.state.revision + 1..=FROZEN[FROZEN.len() - 1] {
        let at = world::START.plus(revision * 1_000);
        let request = Request::new(request_id(10_000 + revision), actor("root"), "192.0.2.1:1", at, note.clone());
        hanse_state::apply(&mut w.state, revision, &request).outcome.unwrap();
        if FROZEN.contains(&revision) {
            digests += &format!("{}\n", w.state.digest());
        }
    }
    digests
}

#[test]
fn digests_of_each_version_are_as_frozen() {
    for (name, world) in [("v1/digests.hex", World::platform()), ("v2/digests.hex", raised())] {
        let digests = digests(world);
        let lines: String = frozen(name, || digests.clone()).iter().map(|line| hex::encode(line) + "\n").collect();
        assert_eq!(digests, lines, "{name}");
    }
}

/// Applies the one entry that mixes in the whole state; gives the digest after it.
fn mixed(state: &State) -> Digest {
    let mut state = state.clone();
    let check = Command::CheckDigest(hanse_state::cluster::CheckDigest { revision: 1, digest: Digest::default() });
    let request = Request::system(request_id(1), world::START, check);
    state.digests.clear();
    hanse_state::apply(&mut state, 1_000, &request);
    state.digest()
}

#[test]
fn from_version_2_on_the_digest_looks_at_what_it_has_not_mixed_in_before() {
    for (w, sees) in [(World::platform(), true), (raised(), false)] {
        let mut other = w.state.clone();
        let first = *other.dedup.seen.get_min().map(|(id, _)| id).unwrap();
        other.dedup.seen.get_mut(&first).unwrap().hash = world::hash("another wish");
        assert_eq!(mixed(&w.state) != mixed(&other), sees, "the content of the window");
        // In either version: how many are remembered, and everything else.
        other.dedup.seen.remove(&first);
        assert_ne!(mixed(&w.state), mixed(&other), "the size of the window");
        let mut other = w.state.clone();
        other.last_usage += 1;
        assert_ne!(mixed(&w.state), mixed(&other), "a counter");
    }
}

#[test]
fn the_version_leaves_the_bytes_of_version_1_alone_and_stands_in_the_envelope() {
    let first = codec::encode_state(&World::platform().state);
    let second = codec::encode_state(&raised().state);
    assert_eq!((first[1], first[2], second[1], second[2]), (0, 1, 0, 2));
    let needle = b"version";
    assert!(!first.windows(needle.len()).any(|part| part == needle));
    // An envelope and a body of different versions are not guessed about.
    let mut mixed = second.clone();
    mixed[2] = 1;
    assert!(matches!(codec::decode_state(&mixed), Err(CodecError::Body { .. })));
    let mut newer = second;
    newer[2] = 7;
    let error = codec::decode_state(&newer).unwrap_err();
    assert!(matches!(error, CodecError::ClusterVersion { found: Version(7), .. }));
    assert!(error.to_string().contains("cluster version 7, this build speaks 1 to 6"), "{error}");
}

#[test]
fn an_order_for_a_version_that_is_not_spoken_is_not_even_decoded() {
    let newest = SPOKEN.newest.0;
    let request = |version| Request::new(request_id(1), actor("root"), "", world::START, raise(version));
    codec::decode_request(&codec::encode_request(&request(newest))).unwrap();
    let error = codec::decode_request(&codec::encode_request(&request(newest + 1))).unwrap_err();
    assert!(matches!(error, CodecError::ClusterVersion { .. }), "{error}");
    let mut state = raised().state;
    let index = state.revision + 1;
    let refused = hanse_state::apply(&mut state, index, &request(newest + 1)).outcome;
    assert!(matches!(refused, Err(Rejection::InvalidValue { .. })), "{refused:?}");
}

#[test]
fn a_cluster_begins_at_the_version_that_its_first_entry_says() {
    for (line, version) in
        [("system InitCluster", 1), ("system InitCluster version=2", 2), ("system InitCluster version=6", 6)]
    {
        let mut w = World::empty();
        assert_eq!(w.state.version(), Version::FIRST);
        let init = parse::command(&w, &Args::parse(line));
        w.ok(Actor::System, init);
        assert_eq!(w.state.version(), Version(version), "{line}");
    }
}
