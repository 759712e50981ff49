//! The domain: state and the one door through which it changes.
