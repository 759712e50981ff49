//! The cluster, as the first replica that answers sees it.

use std::collections::BTreeMap;

use hanse_client::pb;

use super::{DAY_MS, EXPIRY_ERROR_DAYS, EXPIRY_WARNING_DAYS, Finding};
use crate::cli::{Global, findings_of, status_of};

/// Entries a replica may be behind before somebody should look.
const LAG_WARNING: u64 = 1_000;
/// Age of a backup after which somebody should look.
const BACKUP_AGE_WARNING_MS: i64 = 7 * 24 * 3_600 * 1_000;

/// Asks the cluster.
pub(super) async fn look(global: &Global) -> Vec<Finding> {
    if global.endpoint.is_empty() {
        let advice = "give --endpoint HOST:PORT and --ca FILE";
        return vec![Finding::warning("cluster", "the cluster was not asked", advice)];
    }
    match status_of(global).await {
        Ok(status) => {
            let mut findings = judge(&status, i64::try_from(hanse_server::context::clock().0).unwrap_or(i64::MAX));
            if !status.replicas.is_empty() {
                findings.extend(about_keys(findings_of(global).await));
            }
            findings
        }
        Err(words) => vec![Finding::error("cluster", words, "is a replica running, and is --endpoint right?")],
    }
}

fn judge(status: &pb::GetStatusResponse, now_ms: i64) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.push(match status.leader_id.as_str() {
        "" => Finding::error("leader", "no replica leads", "bring a majority of the replicas back"),
        id => Finding::ok("leader", format!("replica {id} leads")),
    });
    if status.replicas.is_empty() {
        let advice = "log in with `hanse login` and look again";
        findings.push(Finding::warning("replicas", "without a session the replicas are not shown", advice));
        return findings;
    }
    findings.push(quorum(&status.replicas));
    findings.push(certificates(&status.replicas, now_ms));
    findings.push(digests(&status.replicas));
    findings.extend(lag(&status.replicas));
    findings.push(versions(&status.replicas));
    findings.extend(cluster_version(status));
    findings.push(backup(status, now_ms));
    if status.paused {
        let advice = "stop the old cluster for good, then `hanse cluster resume`";
        findings.push(Finding::warning("paused", "restored from a backup, no host is touched", advice));
    }
    findings
}

fn answers(replica: &pb::Replica) -> bool {
    replica.role() != pb::ReplicaRole::Unreachable
}

fn quorum(replicas: &[pb::Replica]) -> Finding {
    let up = replicas.iter().filter(|replica| answers(replica)).count();
    let what = format!("{up} of {} replicas answer", replicas.len());
    let down: Vec<String> = replicas
        .iter()
        .filter(|replica| !answers(replica))
        .map(|replica| format!("{} ({})", replica.id, replica.state_reason))
        .collect();
    let advice = format!("look at replica {}", down.join(", "));
    match up {
        up if up == replicas.len() => Finding::ok("quorum", what),
        up if up * 2 > replicas.len() => Finding::warning("quorum", what, advice),
        _ => Finding::error("quorum", what, advice),
    }
}

/// Of the replicas' own certificates the one that ends first.
fn certificates(replicas: &[pb::Replica], now_ms: i64) -> Finding {
    let said = replicas.iter().filter(|replica| replica.certificate_until_ms > 0);
    let Some(first) = said.min_by_key(|replica| replica.certificate_until_ms) else {
        return Finding::ok("certificates", "no replica says when its certificates end");
    };
    let left = first.certificate_until_ms.saturating_sub(now_ms);
    let what = match left {
        left if left <= 0 => format!("a certificate of replica {} has ended", first.id),
        left => format!("the first certificate to end is of replica {}, in {} days", first.id, left / DAY_MS),
    };
    let renew = format!(
        "`hanse ca issue` makes new ones for replica {}: put them into its `tls` folder and start it again",
        first.id
    );
    match left {
        left if left < EXPIRY_ERROR_DAYS * DAY_MS => Finding::error("certificates", what, renew),
        left if left < EXPIRY_WARNING_DAYS * DAY_MS => Finding::warning("certificates", what, renew),
        _ => Finding::ok("certificates", what),
    }
}

/// What the platform found about keys: certificates of hosts and of the platform, and keys that signed two things at once.
fn about_keys(found: Result<Vec<pb::Finding>, String>) -> Vec<Finding> {
    let all = match found {
        Ok(all) => all,
        Err(words) => {
            let advice = "log in with `hanse login` and look again";
            return vec![Finding::warning("keys", format!("the platform's findings were not told: {words}"), advice)];
        }
    };
    let of_keys = all.iter().filter(|it| it.code == "DOUBLE_SIGN" || it.code.starts_with("CERTIFICATE_"));
    // Those of replicas are told above, of each and not of the leader alone.
    let of_keys: Vec<&pb::Finding> = of_keys.filter(|it| !it.resource.starts_with("replicas/")).collect();
    if of_keys.is_empty() {
        return vec![Finding::ok(
            "keys",
            "no certificate of a host ends soon, and no validator is known to have signed twice",
        )];
    }
    let tell = |it: &&pb::Finding| {
        let what = format!("{}: {}", it.resource, it.what);
        match it.severity() {
            pb::FindingSeverity::Critical => Finding::error("keys", what, it.recipe.clone()),
            _ => Finding::warning("keys", what, it.recipe.clone()),
        }
    };
    of_keys.iter().map(tell).collect()
}

/// Two digests of one revision that differ mean that one of the two replicas is wrong.
fn digests(replicas: &[pb::Replica]) -> Finding {
    let mut by_revision: BTreeMap<u64, &pb::Replica> = BTreeMap::new();
    for replica in replicas.iter().filter(|replica| !replica.digest.is_empty()) {
        if let Some(other) = by_revision.insert(replica.digest_revision, replica)
            && other.digest != replica.digest
        {
            let what = format!(
                "replicas {} and {} hold different states at revision {}",
                other.id, replica.id, replica.digest_revision
            );
            return Finding::error("digest", what, "stop writing, make a backup, and compare both with the third");
        }
    }
    Finding::ok("digest", format!("no two replicas differ ({} revisions were compared)", by_revision.len()))
}

fn lag(replicas: &[pb::Replica]) -> Vec<Finding> {
    let newest = replicas.iter().map(|replica| replica.applied_index).max().unwrap_or(0);
    let behind = replicas.iter().filter(|replica| answers(replica) && newest - replica.applied_index > LAG_WARNING);
    let tell = |replica: &pb::Replica| {
        let what = format!("replica {} is {} entries behind", replica.id, newest - replica.applied_index);
        Finding::warning("lag", what, "it catches up by itself unless its disk or network is too slow")
    };
    behind.map(tell).collect()
}

fn versions(replicas: &[pb::Replica]) -> Finding {
    let mut found: Vec<&str> =
        replicas.iter().filter(|replica| answers(replica)).map(|replica| replica.version.as_str()).collect();
    found.sort_unstable();
    found.dedup();
    match found.as_slice() {
        [one] => Finding::ok("version", format!("all replicas that answer run {one}")),
        many => Finding::warning("version", format!("replicas run {}", many.join(" and ")), "end the upgrade"),
    }
}

/// Says what the cluster's version could become, and who is in the way.
fn cluster_version(status: &pb::GetStatusResponse) -> Option<Finding> {
    // A build from before there were versions does not say; its own figure is 1.
    let at = status.cluster_version.max(1);
    let newest = status.replicas.iter().map(|replica| replica.speaks_newest).max()?.max(1);
    let in_the_way = status.replicas.iter().filter(|replica| replica.speaks_newest.max(1) < newest);
    let words: Vec<String> = in_the_way
        .map(|replica| match answers(replica) {
            true => format!("replica {} speaks {}", replica.id, replica.speaks_newest.max(1)),
            false => format!("replica {} does not answer", replica.id),
        })
        .collect();
    if newest <= at {
        return Some(Finding::ok("cluster version", format!("the cluster is at version {at}")));
    }
    let what = format!("the cluster is at version {at}, builds that speak {newest} run");
    Some(match words.as_slice() {
        [] => {
            Finding::warning("cluster version", format!("{what} on every replica"), "`hanse cluster upgrade` raises it")
        }
        words => {
            let advice = "replace their builds, or go back: docs/operations.md, \"Rolling upgrade\"";
            Finding::warning("cluster version", format!("{what}, but {}", words.join(", ")), advice)
        }
    })
}

fn backup(status: &pb::GetStatusResponse, now_ms: i64) -> Finding {
    let advice = "make one: docs/operations.md, \"Backups\"";
    match now_ms.saturating_sub(status.backup_at_ms) {
        _ if status.backup_at_ms == 0 => Finding::warning("backup", "no backup was ever asked for", advice),
        age if age > BACKUP_AGE_WARNING_MS => {
            Finding::warning("backup", format!("the last backup was asked for {} days ago", age / 86_400_000), advice)
        }
        age => Finding::ok("backup", format!("the last backup was asked for {} h ago", age / 3_600_000)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::*;

    fn replica(id: &str, digest: &str) -> pb::Replica {
        let role = if id == "1" { pb::ReplicaRole::Leader } else { pb::ReplicaRole::Follower };
        pb::Replica {
            id: id.into(),
            role: role.into(),
            applied_index: 5_000,
            digest: digest.into(),
            digest_revision: 5_000,
            version: "1".into(),
            ..Default::default()
        }
    }

    fn worst(change: impl FnOnce(&mut pb::GetStatusResponse)) -> Vec<(&'static str, Severity)> {
        let mut status = pb::GetStatusResponse {
            leader_id: "1".into(),
            replicas: vec![replica("1", "aa"), replica("2", "aa"), replica("3", "aa")],
            backup_at_ms: 1_000,
            ..Default::default()
        };
        change(&mut status);
        let bad = judge(&status, 2_000).into_iter().filter(|finding| finding.severity > Severity::Ok);
        bad.map(|finding| (finding.check, finding.severity)).collect()
    }

    #[test]
    fn what_is_found_about_keys_is_told_and_nothing_else() {
        let one = |code: &str, severity: pb::FindingSeverity, resource: &str| pb::Finding {
            code: code.into(),
            severity: severity.into(),
            resource: resource.into(),
            ..Default::default()
        };
        let (critical, warning) = (pb::FindingSeverity::Critical, pb::FindingSeverity::Warning);
        let told = |all: Vec<pb::Finding>| -> Vec<Severity> {
            about_keys(Ok(all)).iter().map(|finding| finding.severity).collect()
        };
        let others = [one("STALLED", critical, "c"), one("CERTIFICATE_EXPIRES", critical, "replicas/1")];
        assert_eq!(told(others.to_vec()), [Severity::Ok]);
        let keys = vec![one("DOUBLE_SIGN", critical, "n"), one("CERTIFICATE_EXPIRES", warning, "hosts/h1")];
        assert_eq!(told(keys), [Severity::Error, Severity::Warning]);
        assert_eq!(about_keys(Err("no session".into()))[0].severity, Severity::Warning);
    }

    #[test]
    fn each_trouble_has_its_finding() {
        let down = pb::ReplicaRole::Unreachable;
        assert_eq!(worst(|_| {}), []);
        assert_eq!(worst(|it| it.replicas[2].digest = "bb".into()), [("digest", Severity::Error)]);
        assert_eq!(worst(|it| it.replicas[2].set_role(down)), [("quorum", Severity::Warning)]);
        assert_eq!(worst(|it| it.replicas[2].applied_index = 1), [("lag", Severity::Warning)]);
        assert_eq!(worst(|it| it.replicas[1].version = "2".into()), [("version", Severity::Warning)]);
        let newer =
            |it: &mut pb::GetStatusResponse| it.replicas.iter_mut().for_each(|replica| replica.speaks_newest = 2);
        assert_eq!(worst(newer), [("cluster version", Severity::Warning)]);
        assert_eq!(worst(|it| it.replicas[1].speaks_newest = 2), [("cluster version", Severity::Warning)]);
        let raised = |it: &mut pb::GetStatusResponse| (newer(it), it.cluster_version = 2).0;
        assert_eq!(worst(raised), []);
        let ends = |days: i64| worst(|it| it.replicas[1].certificate_until_ms = 2_000 + days * DAY_MS);
        assert_eq!([ends(31), ends(30)], [[], []]);
        assert_eq!(ends(29), [("certificates", Severity::Warning)]);
        assert_eq!([ends(6), ends(0)], [[("certificates", Severity::Error)]; 2]);
        assert_eq!(worst(|it| it.backup_at_ms = 0), [("backup", Severity::Warning)]);
        assert_eq!(worst(|it| it.paused = true), [("paused", Severity::Warning)]);
        let lost = worst(|it| {
            it.leader_id.clear();
            it.replicas[1].set_role(down);
            it.replicas[2].set_role(down);
        });
        assert_eq!(lost, [("leader", Severity::Error), ("quorum", Severity::Error)]);
    }
}
