//! The engine that drives the node in this binary.
