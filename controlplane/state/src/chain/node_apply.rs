//! Rules of nodes: all checks, then all changes.
