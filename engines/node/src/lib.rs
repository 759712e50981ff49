//! The embedded ledger's node.
