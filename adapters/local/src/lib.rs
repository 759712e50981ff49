//! The adapter for this machine.
