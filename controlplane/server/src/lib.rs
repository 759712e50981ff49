//! API, reconcilers and secrets of a replica.
