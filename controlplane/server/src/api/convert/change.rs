//! What a change would do, as the planner says it.

use hanse_planner::change::{ChangePlan, CostChange, NodeChange, NodeWork, Standing, ZoneShare};
use hanse_proto::v1 as pb;
use hanse_state::ids::{HostId, TenantId};
use hanse_state::{Rejection, name};

use super::billing::money;

/// A plan; of its costs only those of tenants whose bills are seen.
pub(crate) fn plan(it: &ChangePlan, sees_bills: impl Fn(&TenantId) -> bool) -> pb::ChangePlan {
    let costs = it.costs.iter().filter(|cost| sees_bills(&cost.tenant)).map(cost);
    pb::ChangePlan {
        chain: name::chain(&it.chain),
        nodes: it.nodes.iter().map(node).collect(),
        order: it.order.iter().map(|key| key.node.to_string()).collect(),
        zones: it.zones.iter().map(zone).collect(),
        now: Some(standing(&it.quorum.now)),
        during: it.quorum.during.as_ref().map(standing),
        during_ms: i64::try_from(it.quorum.during_ms).unwrap_or(i64::MAX),
        after: it.quorum.after.as_ref().map(standing),
        words: it.words.clone(),
        risks: it.risks.clone(),
        costs: costs.collect(),
    }
}

/// Why it would be refused.
pub(crate) fn refusal(it: &Rejection) -> pb::Refusal {
    pb::Refusal {
        reason: it.reason().into(),
        field: it.field().into(),
        message: it.message(),
        advice: it.advice().into(),
    }
}

fn node(it: &NodeChange) -> pb::PlannedNode {
    let host = |id: &Option<HostId>| id.as_ref().map(ToString::to_string).unwrap_or_default();
    let work = match it.work {
        NodeWork::Make => pb::NodeWork::Make,
        NodeWork::StartAnew => pb::NodeWork::StartAnew,
        NodeWork::Stop => pb::NodeWork::Stop,
        NodeWork::Start => pb::NodeWork::Start,
        NodeWork::Leave => pb::NodeWork::Leave,
        NodeWork::Remove => pb::NodeWork::Remove,
        NodeWork::Move => pb::NodeWork::Move,
        NodeWork::Seat => pb::NodeWork::Seat,
        NodeWork::Unseat => pb::NodeWork::Unseat,
    };
    pb::PlannedNode {
        node: it.node.node.to_string(),
        owner: it.owner.to_string(),
        work: work.into(),
        from_host: host(&it.from),
        to_host: host(&it.to),
        zone: it.zone.clone(),
        validates: it.validates,
    }
}

fn zone(it: &ZoneShare) -> pb::ZoneShare {
    pb::ZoneShare { zone: it.zone.clone(), nodes: count(it.nodes), validators: count(it.validators) }
}

fn standing(it: &Standing) -> pb::Standing {
    pb::Standing { validators: count(it.validators), well: count(it.well), tolerates: it.tolerates }
}

fn cost(it: &CostChange) -> pb::CostChange {
    let currency = it.price.as_ref().map(|(currency, _)| currency.as_str());
    let amount = |micro: u128| money(currency, i128::try_from(micro).unwrap_or(i128::MAX));
    let amounts = it.per_hour_micro();
    pb::CostChange {
        tenant: it.tenant.to_string(),
        nodes_before: count(it.nodes_before),
        nodes_after: count(it.nodes_after),
        before_per_hour: amounts.map(|(before, _)| amount(before)),
        after_per_hour: amounts.map(|(_, after)| amount(after)),
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
