//! What every engine can do.
