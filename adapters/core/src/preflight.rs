//! What must hold on a host before nodes are placed there: what was seen, judged, with what to do. Pure.
//!
//! An adapter gathers a [`HostReport`]; [`judge`] turns it into findings, all at once, so that a person repairs a host in
//! one go. What this never does: change a host, or stop at the first fault.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// Memory that a node should have.
const MEMORY_PER_NODE: u64 = 256 << 20;
/// Disk that a node should have at first.
const DISK_PER_NODE: u64 = 2 << 30;
/// Disk below which nothing can be put on a host.
const DISK_LEAST: u64 = 512 << 20;
/// Files that one process must be able to open: a ledger's store, its peers and its clients.
const FILES_LEAST: u64 = 1_024;
/// Files that it should be able to open.
const FILES_WISHED: u64 = 65_536;
/// Processes and threads that the account should be able to have, for each node.
const TASKS_PER_NODE: u64 = 256;
/// Free inodes below which a disk is as good as full.
const INODES_LEAST: u64 = 10_000;
/// Clocks may differ by this: blocks carry times.
const SKEW_WISHED_MS: u64 = 500;
/// Clocks that differ by more stop a chain.
const SKEW_MOST_MS: u64 = 5_000;
/// The first kernel on which a process can be signalled by what it is instead of by its number (`pidfd_open`).
const KERNEL_LEAST: (u32, u32) = (5, 3);
/// Nodes of one processor.
const NODES_PER_CPU: u32 = 4;
/// Busy ports that are named.
const PORTS_SHOWN: usize = 8;

/// What a host is wanted for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreflightWish {
    /// First port that nodes may use.
    pub port_first: u16,
    /// How many ports from there.
    pub port_count: u16,
    /// Ports that its own nodes have already: they may be taken.
    pub own_ports: BTreeSet<u16>,
    /// How many nodes it is to take.
    pub slots: u32,
    /// Whether its nodes are to be on a disk of their own.
    pub own_disk: bool,
}

/// Where a folder is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// The folder that its file system is mounted at.
    pub at: String,
    /// What is mounted there, `/dev/nvme1n1`.
    pub device: String,
    /// Kind of file system.
    pub kind: String,
    /// Its size, bytes.
    pub bytes: u64,
    /// Whether the folder is the mounted one itself, and not one below it.
    pub is_own: bool,
}

/// What was seen of a host, unjudged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostReport {
    /// Name of the account.
    pub user: String,
    /// Whether it is root.
    pub is_root: bool,
    /// Whether it becomes root without a password (`sudo -n`).
    pub has_sudo: bool,
    /// `uname` machine.
    pub arch: String,
    /// Kernel release.
    pub kernel: String,
    /// Usable processors.
    pub cpus: u32,
    /// Memory, bytes.
    pub memory_bytes: u64,
    /// Memory that programs could have now, bytes.
    pub memory_available_bytes: u64,
    /// Free bytes for instances.
    pub disk_free_bytes: u64,
    /// Free inodes there; `None` if its file system does not count them.
    pub inodes_free: Option<u64>,
    /// Most files that a process may open, once it has raised its own limit; `None` is without limit.
    pub files_max: Option<u64>,
    /// Most processes and threads of the account; `None` is without limit.
    pub tasks_max: Option<u64>,
    /// Ports of the range that something listens on, but for the host's own nodes'.
    pub busy_ports: Vec<u16>,
    /// The host's clock, milliseconds since 1970.
    pub clock_ms: u64,
    /// Whether systemd is its first process.
    pub has_systemd: bool,
    /// Where the folder of the instances is; `None` if the host does not tell.
    pub mount: Option<Mount>,
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Severity {
    /// As it should be.
    Fine,
    /// Nodes will run; something should be better.
    Warning,
    /// Nodes would not run, or not for long.
    Error,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What: `connection`, `login`, `program`, `processor`, `memory`, ...
    pub check: String,
    /// How much it matters.
    pub severity: Severity,
    /// What was seen, one sentence.
    pub found: String,
    /// What to do; empty if it is fine.
    pub advice: String,
}

impl Finding {
    /// It is as it should be.
    pub fn fine(check: &str, found: impl Into<String>) -> Self {
        Self { check: check.into(), severity: Severity::Fine, found: found.into(), advice: String::new() }
    }

    /// It should be better.
    pub fn warning(check: &str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check: check.into(), severity: Severity::Warning, found: found.into(), advice: advice.into() }
    }

    /// Nodes would not run.
    pub fn error(check: &str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check: check.into(), severity: Severity::Error, found: found.into(), advice: advice.into() }
    }
}

/// The asker's side of what is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asker {
    /// `uname` machine that its program was built for.
    pub arch: String,
    /// Its clock when it asked, milliseconds since 1970.
    pub asked_ms: u64,
    /// Its clock when the answer was there.
    pub answered_ms: u64,
}

/// Returns one finding for each thing that was looked at, in a fixed order.
pub fn judge(report: &HostReport, wish: &PreflightWish, asker: &Asker) -> Vec<Finding> {
    let own_disk = wish.own_disk.then(|| own_disk(report));
    let all = [
        processor(report, asker),
        kernel(report),
        cpus(report, wish),
        memory(report, wish),
        disk(report, wish),
        files(report),
        tasks(report, wish),
        ports(report, wish),
        clock(report, asker),
        account(report),
        supervision(report),
    ];
    all.into_iter().chain(own_disk).collect()
}

fn processor(report: &HostReport, asker: &Asker) -> Finding {
    if report.arch == asker.arch {
        return Finding::fine("processor", report.arch.clone());
    }
    let found = format!("the host is {}, this build is for {}", report.arch, asker.arch);
    Finding::error("processor", found, "enrol a host of the same kind, or build the program for this one")
}

fn kernel(report: &HostReport) -> Finding {
    let mut numbers = report.kernel.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= KERNEL_LEAST {
        return Finding::fine("kernel", report.kernel.clone());
    }
    let advice =
        format!("upgrade to Linux {}.{} or newer: processes are signalled by pidfd", KERNEL_LEAST.0, KERNEL_LEAST.1);
    Finding::error("kernel", format!("Linux {} is too old", report.kernel), advice)
}

fn cpus(report: &HostReport, wish: &PreflightWish) -> Finding {
    let found = format!("{} processors for {} nodes", report.cpus, wish.slots);
    if report.cpus.saturating_mul(NODES_PER_CPU) >= wish.slots {
        return Finding::fine("cpu", found);
    }
    let advice = format!("give it at most {} slots, or more processors", report.cpus * NODES_PER_CPU);
    Finding::warning("cpu", found, advice)
}

fn memory(report: &HostReport, wish: &PreflightWish) -> Finding {
    let found = format!("{} of {} MiB available", report.memory_available_bytes >> 20, report.memory_bytes >> 20);
    let wanted = MEMORY_PER_NODE.saturating_mul(u64::from(wish.slots.max(1)));
    if report.memory_available_bytes < MEMORY_PER_NODE {
        return Finding::error("memory", found, "end what else runs there, or add memory: a node takes about 256 MiB");
    }
    if report.memory_available_bytes < wanted {
        let fits = report.memory_available_bytes / MEMORY_PER_NODE;
        return Finding::warning("memory", found, format!("give it at most {fits} slots, or add memory"));
    }
    Finding::fine("memory", found)
}

/// What the look at a disk of its own is called.
pub const DATA_DISK: &str = "data disk";

fn own_disk(report: &HostReport) -> Finding {
    let advice = "look at the machine's log of its first start (/var/log/cloud-init-output.log): what made its disk ready says there \
                  why it did not; then start the machine anew, or delete it";
    match &report.mount {
        Some(it) if it.is_own && it.device.starts_with("/dev/") => Finding::fine(
            DATA_DISK,
            format!("{} ({}, {} MiB) is mounted at {}", it.device, it.kind, it.bytes >> 20, it.at),
        ),
        Some(it) => {
            let found = format!("the root folder is on {} ({}), which is mounted at {}", it.device, it.kind, it.at);
            Finding::error(DATA_DISK, found, advice)
        }
        None => Finding::error(DATA_DISK, "the host does not tell what is mounted at the root folder", advice),
    }
}

fn disk(report: &HostReport, wish: &PreflightWish) -> Finding {
    let found = match report.inodes_free {
        Some(inodes) => format!("{} MiB and {inodes} inodes free", report.disk_free_bytes >> 20),
        None => format!("{} MiB free", report.disk_free_bytes >> 20),
    };
    let wanted = DISK_PER_NODE.saturating_mul(u64::from(wish.slots.max(1)));
    if report.disk_free_bytes < DISK_LEAST || report.inodes_free.is_some_and(|inodes| inodes < INODES_LEAST) {
        return Finding::error("disk", found, "free space, or choose a root folder on a larger file system");
    }
    if report.disk_free_bytes < wanted {
        let fits = report.disk_free_bytes / DISK_PER_NODE;
        return Finding::warning("disk", found, format!("give it at most {fits} slots, or more space: chains grow"));
    }
    Finding::fine("disk", found)
}

fn files(report: &HostReport) -> Finding {
    let Some(most) = report.files_max else { return Finding::fine("files", "no limit of open files") };
    let found = format!("a process may open {most} files");
    let advice =
        format!("raise the account's hard limit (nofile in limits.conf, or LimitNOFILE of sshd) to {FILES_WISHED}");
    match most {
        FILES_WISHED.. => Finding::fine("files", found),
        FILES_LEAST.. => Finding::warning("files", found, advice),
        _ => Finding::error("files", found, advice),
    }
}

fn tasks(report: &HostReport, wish: &PreflightWish) -> Finding {
    let Some(most) = report.tasks_max else { return Finding::fine("processes", "no limit of processes") };
    let found = format!("the account may have {most} processes and threads");
    let wanted = TASKS_PER_NODE.saturating_mul(u64::from(wish.slots.max(1)));
    if most >= wanted {
        return Finding::fine("processes", found);
    }
    let advice = format!("raise the account's hard limit (nproc in limits.conf) to {wanted}, or give it fewer slots");
    if most < TASKS_PER_NODE {
        return Finding::error("processes", found, advice);
    }
    Finding::warning("processes", found, advice)
}

fn ports(report: &HostReport, wish: &PreflightWish) -> Finding {
    let last = u32::from(wish.port_first) + u32::from(wish.port_count.max(1)) - 1;
    let range = format!("{} to {last}", wish.port_first);
    if report.busy_ports.is_empty() {
        let own = wish.own_ports.range(wish.port_first..).take_while(|port| u32::from(**port) <= last).count();
        let but = if own > 0 { format!(" but for {own} of the host's own nodes") } else { String::new() };
        return Finding::fine("ports", format!("{range} are free{but}"));
    }
    let shown: Vec<String> = report.busy_ports.iter().take(PORTS_SHOWN).map(u16::to_string).collect();
    let more = report.busy_ports.len().saturating_sub(PORTS_SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let found = format!("of {range} something listens on {}{more}", shown.join(", "));
    Finding::error("ports", found, "choose another range, or end what listens there")
}

fn clock(report: &HostReport, asker: &Asker) -> Finding {
    // The answer was made at some time between the question and its arrival.
    let early = asker.asked_ms.saturating_sub(report.clock_ms);
    let late = report.clock_ms.saturating_sub(asker.answered_ms);
    let skew = early.max(late);
    let advice = "run a time service (chrony, systemd-timesyncd) on the host and on the replicas";
    let found = match (early, late) {
        (0, 0) => "agrees with the replica's".to_owned(),
        (0, late) => format!("is {late} ms ahead of the replica's"),
        (early, _) => format!("is {early} ms behind the replica's"),
    };
    match skew {
        0..=SKEW_WISHED_MS => Finding::fine("clock", found),
        _ if skew <= SKEW_MOST_MS => Finding::warning("clock", found, advice),
        _ => Finding::error("clock", found, advice),
    }
}

fn account(report: &HostReport) -> Finding {
    match (report.is_root, report.has_sudo) {
        (true, _) => Finding::fine("account", format!("{} is root", report.user)),
        (false, true) => Finding::fine("account", format!("{} may become root by sudo", report.user)),
        (false, false) => {
            Finding::fine("account", format!("{} has no rights but its own, and needs none", report.user))
        }
    }
}

fn supervision(report: &HostReport) -> Finding {
    match (report.has_systemd, report.is_root) {
        (true, true) => Finding::fine("supervision", "systemd keeps the nodes' supervisors"),
        (true, false) => {
            let found = "systemd is there, and the account is not root: nodes end with its sessions if logind says so";
            let advice = format!("run `loginctl enable-linger {}` as root once", report.user);
            Finding::warning("supervision", found, advice)
        }
        (false, _) => Finding::fine("supervision", "no systemd: our own supervisor keeps the nodes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn well() -> (HostReport, PreflightWish, Asker) {
        let report = HostReport {
            user: "hanse".into(),
            is_root: true,
            has_sudo: false,
            arch: "x86_64".into(),
            kernel: "6.1.0-18-amd64".into(),
            cpus: 4,
            memory_bytes: 16 << 30,
            memory_available_bytes: 8 << 30,
            disk_free_bytes: 100 << 30,
            inodes_free: Some(1_000_000),
            files_max: Some(1_048_576),
            tasks_max: None,
            busy_ports: Vec::new(),
            clock_ms: 10_050,
            has_systemd: true,
            mount: None,
        };
        let wish = PreflightWish { port_first: 20_000, port_count: 100, slots: 4, ..PreflightWish::default() };
        (report, wish, Asker { arch: "x86_64".into(), asked_ms: 10_000, answered_ms: 10_100 })
    }

    /// What changes one thing about a good host.
    type Fault = (&'static str, Severity, fn(&mut HostReport));

    #[test]
    fn each_fault_is_found_alone_and_all_are_found_at_once() {
        let (report, wish, asker) = well();
        assert!(judge(&report, &wish, &asker).iter().all(|finding| finding.severity == Severity::Fine));
        let faults: [Fault; 14] = [
            ("processor", Severity::Error, |r| r.arch = "aarch64".into()),
            ("kernel", Severity::Error, |r| r.kernel = "4.19.0".into()),
            ("cpu", Severity::Warning, |r| r.cpus = 0),
            ("memory", Severity::Warning, |r| r.memory_available_bytes = 512 << 20),
            ("memory", Severity::Error, |r| r.memory_available_bytes = 100 << 20),
            ("disk", Severity::Warning, |r| r.disk_free_bytes = 3 << 30),
            ("disk", Severity::Error, |r| r.disk_free_bytes = 1 << 20),
            ("disk", Severity::Error, |r| r.inodes_free = Some(10)),
            ("files", Severity::Warning, |r| r.files_max = Some(4_096)),
            ("files", Severity::Error, |r| r.files_max = Some(256)),
            ("processes", Severity::Warning, |r| r.tasks_max = Some(512)),
            ("ports", Severity::Error, |r| r.busy_ports = vec![20_003]),
            ("clock", Severity::Warning, |r| r.clock_ms = 8_000),
            ("clock", Severity::Error, |r| r.clock_ms = 60_000),
        ];
        let mut all = report.clone();
        for (check, severity, fault) in faults {
            let mut faulty = report.clone();
            fault(&mut faulty);
            fault(&mut all);
            let bad: Vec<_> =
                judge(&faulty, &wish, &asker).into_iter().filter(|f| f.severity != Severity::Fine).collect();
            assert_eq!(bad.len(), 1, "{check}: {bad:?}");
            assert_eq!((bad[0].check.as_str(), bad[0].severity), (check, severity), "{bad:?}");
            assert!(!bad[0].advice.is_empty(), "{check} says what to do");
        }
        let bad = judge(&all, &wish, &asker).into_iter().filter(|finding| finding.severity != Severity::Fine).count();
        assert_eq!(bad, 9, "every check that can fail here, in one answer");
    }

    #[test]
    fn a_disk_of_its_own_is_asked_for_only_where_it_is_wished() {
        let (mut report, mut wish, asker) = well();
        let found = |report: &HostReport, wish: &PreflightWish| {
            let mut all = judge(report, wish, &asker).into_iter().filter(|finding| finding.check == DATA_DISK);
            all.next().map(|finding| finding.severity)
        };
        assert_eq!(found(&report, &wish), None);
        wish.own_disk = true;
        assert_eq!(found(&report, &wish), Some(Severity::Error), "the host does not tell");
        let (at, device, kind) = ("/srv/hanse".to_owned(), "/dev/nvme1n1".to_owned(), "ext4".into());
        let mount = Mount { at, device, kind, bytes: 100 << 30, is_own: true };
        for (mount, severity) in [
            (mount.clone(), Severity::Fine),
            (Mount { is_own: false, ..mount.clone() }, Severity::Error),
            (Mount { device: "tmpfs".into(), ..mount }, Severity::Error),
        ] {
            report.mount = Some(mount);
            assert_eq!(found(&report, &wish), Some(severity), "{report:?}");
        }
    }

    #[test]
    fn a_clock_between_question_and_answer_agrees() {
        let (mut report, wish, asker) = well();
        for (clock, severity) in [(10_000, Severity::Fine), (10_100, Severity::Fine), (9_499, Severity::Warning)] {
            report.clock_ms = clock;
            let found = judge(&report, &wish, &asker).into_iter().find(|finding| finding.check == "clock");
            assert_eq!(found.map(|finding| finding.severity), Some(severity), "{clock}");
        }
    }

    #[test]
    fn an_account_that_loses_its_sessions_is_told_to_linger() {
        let (mut report, wish, asker) = well();
        report.is_root = false;
        let found = judge(&report, &wish, &asker).into_iter().find(|finding| finding.check == "supervision");
        assert!(found.is_some_and(|finding| finding.advice.contains("enable-linger hanse")));
    }
}
