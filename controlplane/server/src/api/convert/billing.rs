//! Plans, usage, drafts; money as an exact decimal.

use hanse_proto::v1 as pb;
use hanse_state::billing::Plan;
use hanse_state::billing::invoice::{InvoiceDraft, InvoiceLine};
use hanse_state::name;

use super::ms;

/// Millionths in a unit of the currency.
const MICRO: u128 = 1_000_000;

/// A plan.
pub(crate) fn plan(it: &Plan) -> pb::Plan {
    let rate = |rate: &hanse_state::billing::Rate| pb::PlanRate {
        rate_micro_per_node_hour: rate.rate_micro_per_node_hour,
        effective_from_ms: ms(rate.effective_from),
    };
    pb::Plan {
        name: name::plan(&it.id),
        plan: it.id.to_string(),
        currency: it.currency.clone(),
        rates: it.rates.iter().map(rate).collect(),
    }
}

/// An amount; without a currency there was no price.
pub(crate) fn money(currency: Option<&str>, micro: i128) -> pb::Money {
    let (whole, part) = (micro.unsigned_abs() / MICRO, micro.unsigned_abs() % MICRO);
    let sign = if micro < 0 { "-" } else { "" };
    pb::Money { currency: currency.unwrap_or_default().into(), amount: format!("{sign}{whole}.{part:06}") }
}

/// A draft's lines.
pub(crate) fn lines(draft: &InvoiceDraft) -> Vec<pb::UsageLine> {
    draft.lines.iter().map(|one| line(draft.currency.as_deref(), one)).collect()
}

fn line(currency: Option<&str>, it: &InvoiceLine) -> pb::UsageLine {
    pb::UsageLine {
        node: name::node(&it.node),
        running_ms: it.ms,
        rate_micro_per_node_hour: it.rate_micro_per_node_hour,
        amount: it.rate_micro_per_node_hour.map(|_| money(currency, it.amount_micro)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact() {
        for (micro, text) in [
            (0, "0.000000"),
            (1, "0.000001"),
            (12_345_678, "12.345678"),
            (-500_000, "-0.500000"),
            (i128::MAX, "170141183460469231731687303715884.105727"),
        ] {
            assert_eq!(money(Some("CNY"), micro).amount, text);
        }
        assert_eq!(money(None, 5).currency, "");
    }
}
