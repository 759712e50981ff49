//! What stands in the way on a host is told, all of it at once; each fault made for real.
#![allow(clippy::unwrap_used)]

use std::net::TcpListener;
use std::process::Command;

use hanse_adapters_core::Adapter as _;
use hanse_adapters_core::preflight::{Finding, PreflightWish, Severity};
use hanse_fixtures::sshd::{Options, Sshd};

use super::{adapter, sshd};

fn wish(port_first: u16) -> PreflightWish {
    PreflightWish { port_first, port_count: 2, slots: 1, ..PreflightWish::default() }
}

fn of<'a>(findings: &'a [Finding], check: &str) -> &'a Finding {
    findings.iter().find(|finding| finding.check == check).unwrap_or_else(|| panic!("no {check}: {findings:?}"))
}

fn free_port() -> u16 {
    TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_will_do_is_told_so_check_by_check() {
    let dir = tempfile::tempdir().unwrap();
    let sshd = sshd(&dir);
    let findings = adapter(&sshd).preflight(&wish(free_port())).await.unwrap();
    let checks: Vec<&str> = findings.iter().map(|finding| finding.check.as_str()).collect();
    let all = [
        "connection",
        "program",
        "processor",
        "kernel",
        "cpu",
        "memory",
        "disk",
        "files",
        "processes",
        "ports",
        "clock",
        "account",
        "supervision",
    ];
    assert_eq!(checks, all);
    for check in ["connection", "program", "processor", "kernel", "clock"] {
        assert_eq!(of(&findings, check).severity, Severity::Fine, "{findings:?}");
    }
    assert!(of(&findings, "account").found.contains(&sshd.user));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_port_and_a_low_limit_are_found_together() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { files_max: Some(512), ..Options::default() };
    let sshd = Sshd::spawn_with(&dir.path().join("host"), options).unwrap();
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = held.local_addr().unwrap().port();
    let host = adapter(&sshd);
    let findings = host.preflight(&wish(port)).await.unwrap();
    let (ports, files) = (of(&findings, "ports"), of(&findings, "files"));
    // The range has a second port, which anybody may hold; its bounds are named as well.
    let busy = |ports: &Finding| ports.found.split_once("listens on").map(|(_, busy)| busy.contains(&port.to_string()));
    assert!(ports.severity == Severity::Error && busy(ports) == Some(true), "{ports:?}");
    assert!(files.severity == Severity::Error && files.advice.contains("nofile"), "{files:?}");
    // A port of a node of its own is not in the way.
    let own = PreflightWish { own_ports: [port].into(), ..wish(port) };
    let findings = host.preflight(&own).await.unwrap();
    assert_ne!(busy(of(&findings, "ports")), Some(true), "{findings:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_needs_no_sftp_but_an_account_with_a_shell_and_to_be_in_reach() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { without_sftp: true, ..Options::default() };
    let mut sshd = Sshd::spawn_with(&dir.path().join("host"), options).unwrap();
    let findings = adapter(&sshd).preflight(&wish(free_port())).await.unwrap();
    assert_eq!(of(&findings, "program").severity, Severity::Fine, "{findings:?}");
    sshd.kill();
    // A file where the root should be, and an account that may not do anything.
    for (n, config) in ["", "ForceCommand /bin/false\n"].into_iter().enumerate() {
        let options = Options { config: config.into(), ..Options::default() };
        let other = Sshd::spawn_with(&dir.path().join(format!("other{n}")), options).unwrap();
        std::fs::write(&other.root, "no folder").unwrap();
        let findings = adapter(&other).preflight(&wish(free_port())).await.unwrap();
        assert_eq!(of(&findings, "connection").severity, Severity::Fine);
        let program = of(&findings, "program");
        assert!(program.severity == Severity::Error && program.advice.contains("shell"), "{program:?}");
    }
    let findings = adapter(&sshd).preflight(&wish(free_port())).await.unwrap();
    assert!(findings.len() == 1 && of(&findings, "connection").severity == Severity::Error, "{findings:?}");
}

/// Needs root, as mounting does; the machines of the tests give it.
#[tokio::test(flavor = "multi_thread")]
async fn a_root_folder_on_which_nothing_may_be_executed_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let sshd = sshd(&dir);
    std::fs::create_dir_all(&sshd.root).unwrap();
    let mounted = |program: &str, arguments: &[&str]| {
        assert!(Command::new(program).args(arguments).arg(&sshd.root).status().unwrap().success(), "{program}");
    };
    let megabytes = hanse_carried::PROGRAM.len() / 500_000 + 16;
    mounted("mount", &["-t", "tmpfs", "-o", &format!("noexec,size={megabytes}m"), "hanse-test"]);
    let findings = adapter(&sshd).preflight(&wish(free_port())).await;
    mounted("umount", &["-l"]);
    let findings = findings.unwrap();
    let program = of(&findings, "program");
    assert!(program.severity == Severity::Error && program.advice.contains("noexec"), "{program:?}");
}
