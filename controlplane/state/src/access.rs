//! Who may do what: default deny.
