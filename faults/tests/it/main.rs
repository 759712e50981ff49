//! Short versions of the harness, and the mutants that it must kill. Needs root, loop devices, FUSE, qemu-storage-daemon
//! and strace (`cargo xtask parts`), and fails without them.
#![allow(clippy::unwrap_used)]

mod storage;
