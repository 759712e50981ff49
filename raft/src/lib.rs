//! The thin shell of consensus and storage.
