//! The driver against real node processes on this machine, and against servers that misbehave.
#![allow(clippy::unwrap_used)]

mod chain;
mod files;
mod shapes;

use std::path::PathBuf;

use hanse_adapters_core::{Artifact, InstanceKey};
use hanse_engines_core::NodePlan;

/// The stand-in for the one binary: an example of this package, built with its tests.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(|deps| deps.parent()).unwrap().join("examples/embedded-host");
    assert!(path.exists(), "{} is missing: run `cargo build -p hanse-engines-embedded --examples`", path.display());
    path
}

fn artifact() -> Artifact {
    let path = program();
    Artifact { sha256: hanse_hostrun::file_sha256(&path).unwrap(), path }
}

fn plan(object: &str, p2p_port: u16, rpc_port: u16) -> NodePlan {
    let key = InstanceKey::new("test", object).unwrap();
    NodePlan {
        key,
        generation: 1,
        host_address: "127.0.0.1".into(),
        own_network: false,
        p2p_port,
        rpc_port,
        ports: Default::default(),
        parameters: Default::default(),
        identity: None,
        signed: None,
        halt: None,
        program: None,
    }
}

/// Ports that are free now, all different.
fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<_> = (0..count).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    listeners.iter().map(|l| l.local_addr().unwrap().port()).collect()
}
