//! The adapter for hosts reached by SSH.
