//! Rules of this area: all checks, then all changes.
