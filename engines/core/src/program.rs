//! Programs of single nodes, and whether there is a way back from one.

use hanse_adapters_core::{Artifact, Bundle};

/// A program for one node in the local artifact store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeProgram {
    /// The artifact is the program.
    Program(Artifact),
    /// The program and what belongs to it.
    Bundle(Bundle),
}

/// Whether a node can go back to a program that it ran before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WayBack {
    /// That program reads what the node has now, or refuses it when it starts without doing harm.
    Open,
    /// Nobody can tell before it is tried; why, and what a person can find out.
    Unknown(String),
    /// That program cannot read what the node has now; why.
    Closed(String),
}
