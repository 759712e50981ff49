//! Checks that several areas share.
