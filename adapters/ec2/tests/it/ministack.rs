//! Against ministack: a machine is a container that answers with SSH, until it is deleted.

use std::io::Read;
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use hanse_adapters_core::cloud::{Cloud, MachinePhase};
use hanse_fixtures::dockerd::Dockerd;
use hanse_fixtures::ec2::{Server, sshd_image};
use hanse_fixtures::wait::within;

use crate::{block_on, cloud, owner, wish};

#[test]
fn a_machine_runs_answers_and_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Dockerd::spawn(&dir.path().join("engine")).unwrap();
    let identity = dir.path().join("id");
    assert!(
        Command::new("ssh-keygen").args(["-qt", "ed25519", "-N", "", "-f"]).arg(&identity).status().unwrap().success()
    );
    sshd_image(&dir.path().join("image"), &engine, "debian-sshd", &identity).unwrap();
    engine.enter(|| {
        let ministack = Server::ministack(&dir.path().join("ministack"), &engine).unwrap();
        let image = ministack
            .boto(
                "print(ec2.register_image(Name='sshd', ImageLocation='debian-sshd', Architecture='x86_64')['ImageId'])",
            )
            .unwrap();
        let cloud = cloud(dir.path(), &ministack.endpoint());
        let mut wished = wish("m1");
        wished.image = image;
        let machine = block_on(cloud.ensure(&wished)).unwrap();
        // It does not know client tokens: only the look makes this one machine.
        assert_eq!(block_on(cloud.ensure(&wished)).unwrap().id, machine.id);
        let containers = || engine.docker(&["ps", "-q", "--filter", "label=ministack=ec2"]).unwrap();
        assert_eq!(containers().lines().count(), 1);
        let seen = block_on(cloud.find(&wished.key, Some(&machine.id))).unwrap();
        assert_eq!((seen.len(), seen[0].phase), (1, MachinePhase::Running));
        assert_eq!(banner(seen[0].address.as_deref().unwrap()), "SSH-2.0");

        block_on(cloud.delete(&owner(), &machine.id)).unwrap();
        let left = block_on(cloud.find(&wished.key, Some(&machine.id))).unwrap();
        assert!(left.iter().all(|it| it.phase == MachinePhase::Ended), "{left:?}");
        assert_eq!((containers().as_str(), block_on(cloud.list(&owner())).unwrap()), ("", Vec::new()));
    });
}

/// What listens at port 22 begins with.
fn banner(address: &str) -> String {
    let mut start = [0; 7];
    let mut told = Ok(());
    within(Duration::from_secs(30), || {
        told = TcpStream::connect((address, 22)).and_then(|mut stream| stream.read_exact(&mut start));
        told.is_ok()
    });
    told.unwrap_or_else(|error| panic!("{address}: {error}"));
    String::from_utf8_lossy(&start).into_owned()
}
