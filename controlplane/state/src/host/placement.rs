//! Where nodes go: a pure choice over hosts.
