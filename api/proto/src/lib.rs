//! The outside contract: hanse.v1.
