//! This machine: configuration, data folder, certificates, disk, limits.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use hanse_server::config::Config;

use super::{EXPIRY_ERROR_DAYS, EXPIRY_WARNING_DAYS, Finding};

/// Free space below which a replica will soon stop, and below which somebody should look.
const FREE_BYTES_ERROR: u64 = 256 << 20;
const FREE_BYTES_WARNING: u64 = 2 << 30;
/// Open files that a replica with all its connections and logs may need.
const OPEN_FILES_MIN: u64 = 4_096;
/// Samples of fsync; the median is told.
const FSYNC_SAMPLES: usize = 20;
/// Every write waits for an fsync on a majority.
const FSYNC_WARNING: Duration = Duration::from_millis(10);

/// Looks at the machine of the replica that `path` configures.
pub(super) fn look(path: &Path) -> Vec<Finding> {
    let config = match Config::load(path) {
        Ok(config) => config,
        Err(error) => {
            let mut text = error.to_string();
            if let Some(cause) = std::error::Error::source(&error) {
                text.push_str(&format!(": {cause}"));
            }
            return vec![Finding::error("config", text, "correct the file; the replica would not start")];
        }
    };
    let mut findings = vec![Finding::ok("config", format!("{} is sound", path.display()))];
    findings.extend(data(&config.data));
    for name in ["peer.pem", "api.pem", "peer-ca.pem", "api-ca.pem"] {
        findings.push(certificate(&config.tls.join(name)));
    }
    for name in ["peer.key", "api.key"] {
        findings.push(private("key", &config.tls.join(name)));
    }
    let audit_key = config.tls.join(hanse_server::ca::AUDIT_KEY);
    findings.push(if audit_key.exists() {
        private("key", &audit_key)
    } else {
        let what = format!("{} is missing: this replica signs no checkpoints of the audit trail", audit_key.display());
        Finding::warning("key", what, "issue its certificates again with `hanse ca issue`, which adds it")
    });
    findings.extend(config.cloud_credentials.iter().flat_map(|folder| clouds(folder)));
    findings.push(open_files());
    findings
}

fn data(dir: &Path) -> Vec<Finding> {
    if !dir.exists() {
        let what = format!("{} is not there yet", dir.display());
        return vec![Finding::warning("data", what, "it is made at the first start; is `data` right?")];
    }
    vec![private("data", dir), free_space(dir), fsync(dir), snapshot(dir)]
}

/// Nobody else may read a replica's data or keys.
fn private(check: &'static str, path: &Path) -> Finding {
    match fs::metadata(path) {
        Ok(meta) if meta.mode() & 0o077 == 0 => Finding::ok(check, format!("{} is its owner's alone", path.display())),
        Ok(meta) => {
            let what = format!("{} has mode {:04o}: others may read it", path.display(), meta.mode() & 0o7777);
            Finding::error(check, what, format!("chmod go= {}", path.display()))
        }
        Err(error) => Finding::error(check, format!("{}: {error}", path.display()), "is the path right, and the user?"),
    }
}

/// Files of clouds' credentials, which a replica refuses if others may read them.
fn clouds(folder: &Path) -> Vec<Finding> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            let what = format!("{}: {error}", folder.display());
            return vec![Finding::error("clouds", what, "is `cloud_credentials` right, and the user?")];
        }
    };
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    files
        .iter()
        .filter(|file| file.extension().is_some_and(|it| it == "toml"))
        .map(|file| private("clouds", file))
        .collect()
}

fn free_space(dir: &Path) -> Finding {
    let stat = match rustix::fs::statvfs(dir) {
        Ok(stat) => stat,
        Err(error) => return Finding::error("disk", format!("{}: {error}", dir.display()), "look at the disk"),
    };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let what = format!("{} MiB are free under {}", free >> 20, dir.display());
    let advice = "make room: below 96 MiB a replica takes no new requests";
    match free {
        free if free < FREE_BYTES_ERROR => Finding::error("disk", what, advice),
        free if free < FREE_BYTES_WARNING => Finding::warning("disk", what, advice),
        _ => Finding::ok("disk", what),
    }
}

fn fsync(dir: &Path) -> Finding {
    let path = dir.join(format!(".doctor-{}", uuid::Uuid::now_v7()));
    let measured = measure(&path);
    // Made by us a moment ago; if it never came about there is nothing to remove.
    let _gone = fs::remove_file(&path);
    match measured {
        Err(error) => Finding::error("fsync", format!("{}: {error}", dir.display()), "look at the disk and its rights"),
        Ok(median) => {
            let what = format!("an fsync takes {} µs (median of {FSYNC_SAMPLES})", median.as_micros());
            if median > FSYNC_WARNING {
                Finding::warning(
                    "fsync",
                    what,
                    "every write waits for this: use a faster disk, or give it to nobody else",
                )
            } else {
                Finding::ok("fsync", what)
            }
        }
    }
}

fn measure(path: &Path) -> std::io::Result<Duration> {
    let mut file = File::options().write(true).create_new(true).open(path)?;
    let mut took = Vec::new();
    for _ in 0..FSYNC_SAMPLES {
        let begun = Instant::now();
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        took.push(begun.elapsed());
    }
    took.sort();
    Ok(took[FSYNC_SAMPLES / 2])
}

fn snapshot(dir: &Path) -> Finding {
    let entries = fs::read_dir(dir.join("raft/snapshots")).into_iter().flatten().filter_map(Result::ok);
    let times = entries.filter(|entry| entry.path().extension().is_some_and(|e| e == "snapshot"));
    match times.filter_map(|entry| entry.metadata().ok()?.modified().ok()).max() {
        Some(at) => {
            let hours = at.elapsed().unwrap_or_default().as_secs() / 3_600;
            Finding::ok("snapshot", format!("the newest snapshot is {hours} h old"))
        }
        None => Finding::ok("snapshot", "there is no snapshot yet: the log is still short"),
    }
}

fn certificate(path: &Path) -> Finding {
    let renew = "issue again with `hanse ca issue` and restart the replica";
    let bad = |why: String| Finding::error("certificate", format!("{}: {why}", path.display()), renew);
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => return bad(error.to_string()),
    };
    let pem = match x509_parser::pem::parse_x509_pem(&bytes) {
        Ok((_, pem)) => pem,
        Err(error) => return bad(error.to_string()),
    };
    let until = match pem.parse_x509() {
        Ok(certificate) => certificate.validity().not_after.timestamp(),
        Err(error) => return bad(error.to_string()),
    };
    let left = until.saturating_sub(now_s());
    let days = left / 86_400;
    match left {
        left if left <= 0 => bad(format!("expired {} days ago", -days)),
        _ if days < EXPIRY_ERROR_DAYS => bad(format!("expires in {days} days")),
        _ if days < EXPIRY_WARNING_DAYS => {
            Finding::warning("certificate", format!("{} expires in {days} days", path.display()), renew)
        }
        _ => Finding::ok("certificate", format!("{} is valid for {days} days", path.display())),
    }
}

fn now_s() -> i64 {
    i64::try_from(hanse_server::context::clock().0 / 1_000).unwrap_or(i64::MAX)
}

fn open_files() -> Finding {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    match limit {
        Some(limit) if limit < OPEN_FILES_MIN => Finding::warning(
            "open-files",
            format!("this session may open {limit} files"),
            format!("give the replica at least {OPEN_FILES_MIN} (systemd: LimitNOFILE)"),
        ),
        Some(limit) => Finding::ok("open-files", format!("this session may open {limit} files")),
        None => Finding::ok("open-files", "open files are not limited"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::PermissionsExt as _;

    use super::super::Severity;
    use super::*;

    fn bad(findings: &[Finding]) -> Vec<&'static str> {
        findings.iter().filter(|finding| finding.severity == Severity::Error).map(|finding| finding.check).collect()
    }

    #[test]
    fn what_is_wrong_is_found_and_named() {
        let dir = tempfile::tempdir().unwrap();
        let (ca, tls, data) = (dir.path().join("ca"), dir.path().join("tls"), dir.path().join("data"));
        hanse_server::ca::create(&ca, "test").unwrap();
        hanse_server::ca::issue(&ca, &tls, "test", 1, &["127.0.0.1".to_owned()]).unwrap();
        fs::create_dir(&data).unwrap();
        fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
        let path = dir.path().join("hanse.toml");
        let clouds = dir.path().join("clouds");
        fs::create_dir(&clouds).unwrap();
        fs::write(clouds.join("east.toml"), "").unwrap();
        fs::set_permissions(clouds.join("east.toml"), fs::Permissions::from_mode(0o600)).unwrap();
        let text = "version = 1\ncluster = \"test\"\nreplica = 1\ncloud_credentials = \"clouds\"\ndata = \"data\"\ntls = \"tls\"\npeer_listen = \"127.0.0.1:0\"\n\
                    api_listen = \"127.0.0.1:0\"\n[[replicas]]\nid = 1\npeer = \"127.0.0.1:1\"\napi = \"127.0.0.1:2\"\n";
        fs::write(&path, text).unwrap();
        // The machine of the test may be short of space; nothing else may be wrong.
        let well = look(&path);
        assert!(bad(&well).iter().all(|check| *check == "disk"), "{well:?}");
        assert!(well.iter().any(|finding| finding.check == "fsync" && finding.what.contains("µs")));
        assert_eq!(fs::read_dir(&data).unwrap().count(), 0, "nothing is left behind");

        fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(tls.join("api.key"), fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(tls.join("api.pem"), "nothing").unwrap();
        fs::set_permissions(clouds.join("east.toml"), fs::Permissions::from_mode(0o640)).unwrap();
        let found = look(&path);
        let mut checks = bad(&found);
        checks.retain(|check| *check != "disk");
        assert_eq!(checks, ["data", "certificate", "key", "clouds"], "{found:?}");

        fs::write(&path, text.replace("replica = 1", "replica = 9")).unwrap();
        assert_eq!(bad(&look(&path)), ["config"]);
    }
}
