//! The client that the console, the CLI and scripts use.
