//! The part of Hanse that runs on a host for the length of one request.
