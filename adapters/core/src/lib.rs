//! What every adapter can do.
