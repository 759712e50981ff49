//! Reads of this area.
