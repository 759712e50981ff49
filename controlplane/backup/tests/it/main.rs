//! Backups from made-up clusters: what is whole verifies, and whatever was done to it shows.

mod frozen;
mod tamper;
mod world;
