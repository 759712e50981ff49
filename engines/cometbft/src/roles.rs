//! Validators join and leave: the application's own rules, acted out on the hosts of those who must act.
//!
//! Power is stake, counted in a coin that nothing else is paid with. The stakes of newcomers lie in the application's
//! community pool, which a proposal opens that validators with two thirds of the power take part in and more than half
//! agree to. So the consortium's vote decides, each consenting member's operator key votes for it on its own host, and
//! the chain itself would refuse a platform that acts without them. Then the newcomer's operator claims the seat. Who
//! leaves takes its stake out of validation; the application holds it back for its unbonding time.
//!
//! Every call looks at the chain and does the one act that is due; acts are transactions whose sequence numbers keep
//! them from being done twice.

use hanse_adapters_core::{Adapter, Bundle};
use hanse_engines_core::{ChainPlan, EngineError, Governance, LedgerValidator, NodePlan, Progress, Result, Role, Seat};
use hanse_engines_evm::rpc::Rpc;
use hanse_engines_evm::{nonsense, refused};
use serde_json::{Value, json};

use crate::contribution::{Contribution, STAKE, hex_of_base64, public_key};
use crate::genesis::GAS_MONEY;
use crate::health::number;
use crate::keys;
use crate::profile::Profile;
use crate::tool::Tool;

/// Most validators that are asked for at once; no chain here has more.
const PAGE: usize = crate::genesis::VALIDATORS_MAX;
/// Where a transaction's content lies in the home while it is sent.
const PROPOSAL_FILE: &str = "hanse/proposal.json";
const SEAT_FILE: &str = "hanse/seat.json";

/// The validators of the newest block. Who may change them is the application's own matter, and not shown.
pub(crate) async fn governance(host: &dyn Adapter, node: &NodePlan) -> Result<Governance> {
    let port = crate::port(node, crate::CONSENSUS_RPC)?;
    let calls = [("validators", json!({ "page": "1", "per_page": PAGE.to_string() })), ("status", json!({}))];
    let answers = Rpc::new(host, node).at(port).all(&calls).await?;
    let [list, status] = answers.as_slice() else { return Err(nonsense(node, "a batch", &json!(answers))) };
    read(list, status).ok_or_else(|| nonsense(node, "validators", list))
}

fn read(list: &Value, status: &Value) -> Option<Governance> {
    let validator = |value: &Value| {
        let power = number(&value["voting_power"])?;
        let public_key = hex_of_base64(&value["pub_key"]["value"])?;
        Some(LedgerValidator { node_id: value["address"].as_str()?.to_ascii_lowercase(), public_key, power })
    };
    Some(Governance {
        next_height: number(&list["block_height"])? + 1,
        validators: list["validators"].as_array()?.iter().map(validator).collect::<Option<_>>()?,
        pending: Vec::new(),
        rules: None,
        protocol: number(&status["node_info"]["protocol_version"]["app"])?,
        halted: None,
        evidence: Vec::new(),
    })
}

/// One step of a change.
pub(crate) struct Change<'a> {
    pub(crate) bundle: &'a Bundle,
    pub(crate) profile: &'a Profile,
    pub(crate) chain: &'a ChainPlan,
    pub(crate) seat: &'a Seat<'a>,
    pub(crate) others: &'a [Seat<'a>],
}

fn waits(reason: impl Into<String>) -> Result<Progress> {
    Ok(Progress::Waits { reason: reason.into() })
}

impl Change<'_> {
    /// Looks and does what is due.
    pub(crate) async fn step(&self, role: Role) -> Result<Progress> {
        let now = governance(self.seat.host, self.seat.node).await?.validators;
        let is_validator = now.iter().any(|one| one.public_key == self.seat.identity.public_key);
        let done = match role {
            Role::Validator if is_validator => return Ok(Progress::Done),
            // A seat that was claimed, and is not counted yet, is given up all the same.
            Role::Follower if !is_validator && !self.has_stake().await? => return Ok(Progress::Done),
            Role::Follower if now.len() == 1 && is_validator => {
                return Err(refused(self.seat.node, "is the last validator: the chain would end with it".into()));
            }
            // Its operator's key is not here.
            Role::Validator | Role::Follower if self.seat.identity.contribution.is_none() => {
                return Err(EngineError::Unsupported(
                    "change the seat of a node that was taken over: its operator's key stayed with its owner, who lets it in or out by the \
                     ledger's own transactions"
                        .into(),
                ));
            }
            Role::Validator => self.join().await,
            Role::Follower => self.leave().await,
        };
        match done {
            // An earlier act of the same operator is not in a block yet.
            Err(EngineError::NotNow { reason, .. }) => waits(reason),
            other => other,
        }
    }

    fn name(&self) -> String {
        self.profile.chain_name(self.chain.chain_id)
    }

    fn tool<'t>(&'t self, seat: &Seat<'t>) -> Tool<'t> {
        Tool::at(self.bundle, self.profile, seat)
    }

    async fn join(&self) -> Result<Progress> {
        let own = Contribution::of(self.seat.identity, self.profile)
            .map_err(|reason| crate::genesis::invalid("contribution", reason))?;
        let tool = self.tool(self.seat);
        let health = crate::health::health(self.seat.host, self.seat.node).await?;
        if health.syncing {
            return waits(format!("it catches up first, it is at height {}", health.height));
        }
        // In this order: a claim that comes into a block in between is seen as a seat, and not as a stake that is gone.
        let stake = self.stake_at_hand(&tool, &own).await?;
        let known = self.own_seat(&tool).await?;
        let staked = known.as_ref().map_or(0, |seat| amount(&seat["tokens"]));
        match known {
            // It left before, or its stake is not counted while it is jailed.
            Some(seat) if staked >= STAKE && seat["jailed"].as_bool() == Some(true) => {
                tool.send(&self.name(), &["slashing", "unjail"]).await?;
                waits("its seat is opened again; it counts two blocks later")
            }
            Some(_) if staked >= STAKE => waits("it has its seat; it counts two blocks later"),
            Some(seat) if stake >= STAKE => {
                let operator = seat["operator_address"].as_str().unwrap_or_default();
                tool.send(&self.name(), &["staking", "delegate", operator, &self.coins(STAKE)]).await?;
                waits("it stakes for its seat again")
            }
            None if stake >= STAKE => self.claim(&tool).await,
            Some(_) | None => self.grant(&own.operator).await,
        }
    }

    /// Whether it has staked for a seat.
    async fn has_stake(&self) -> Result<bool> {
        let seat = self.own_seat(&self.tool(self.seat)).await?;
        Ok(seat.is_some_and(|seat| amount(&seat["tokens"]) > 0))
    }

    fn coins(&self, amount: u128) -> String {
        format!("{amount}{}", self.profile.bond_denom)
    }

    /// The seat that the operator has claimed, whatever has become of it.
    async fn own_seat(&self, tool: &Tool<'_>) -> Result<Option<Value>> {
        let list = tool.query(&self.name(), &["staking", "validators"]).await?.unwrap_or_default();
        let key = Some(&self.seat.identity.public_key);
        let seats = list["validators"].as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(seats.iter().find(|seat| consensus_key(&seat["consensus_pubkey"]).as_ref() == key).cloned())
    }

    async fn stake_at_hand(&self, tool: &Tool<'_>, own: &Contribution) -> Result<u128> {
        let found = tool.query(&self.name(), &["bank", "balances", &own.operator]).await?.unwrap_or_default();
        let coins = found["balances"].as_array().map(Vec::as_slice).unwrap_or_default();
        let bonds = coins.iter().filter(|coin| coin["denom"].as_str() == Some(&self.profile.bond_denom));
        Ok(bonds.map(|coin| amount(&coin["amount"])).sum())
    }

    /// The operator has the stake: it claims the seat.
    async fn claim(&self, tool: &Tool<'_>) -> Result<Progress> {
        let key = tool.run(&["comet", "show-validator"]).await?;
        let key: Value = serde_json::from_str(key.trim()).map_err(|e| refused(self.seat.node, e.to_string()))?;
        let seat = json!({
            "pubkey": key, "amount": self.coins(STAKE), "moniker": self.seat.node.key.object(),
            "commission-rate": "0", "commission-max-rate": "0", "commission-max-change-rate": "0",
            "min-self-delegation": "1",
        });
        keys::put(tool, SEAT_FILE, seat.to_string().as_bytes()).await?;
        tool.send(&self.name(), &["staking", "create-validator", &format!("{{home}}/{SEAT_FILE}")]).await?;
        waits("it claims its seat")
    }

    /// The operator has no stake: those who validate grant it by a vote on the chain.
    async fn grant(&self, operator: &str) -> Result<Progress> {
        let Some(first) = self.others.first() else {
            return Err(refused(self.seat.node, "has no stake, and nobody who validates is there to grant it".into()));
        };
        let tool = self.tool(first);
        let granted = self.granted();
        // The newest hundred; more are never open at once.
        let open = tool.query(&self.name(), &["gov", "proposals", "--page-reverse"]).await?.unwrap_or_default();
        let list = open["proposals"].as_array().map(Vec::as_slice).unwrap_or_default();
        let is_open = |proposal: &&Value| proposal["status"].as_str() == Some("PROPOSAL_STATUS_VOTING_PERIOD");
        let Some(proposal) = list.iter().filter(is_open).find(|proposal| is_grant(proposal, operator, &granted)) else {
            self.propose(&tool, operator).await?;
            return waits("a vote on the chain is opened that grants its stake");
        };
        let Some(id) = proposal["id"].as_str() else {
            return Err(nonsense(first.node, "gov proposals", proposal));
        };
        let voters = self.voters(&tool, id).await?;
        // One whose host is away keeps nobody else from voting.
        let mut silent = Vec::new();
        for other in self.others {
            let own = Contribution::of(other.identity, self.profile)
                .map_err(|reason| crate::genesis::invalid("contribution", reason))?;
            if !voters.contains(&own.operator)
                && let Err(error) = self.tool(other).send(&self.name(), &["gov", "vote", id, "yes"]).await
            {
                silent.push(error.to_string());
            }
        }
        let end = proposal["voting_end_time"].as_str().unwrap_or("its end");
        let count = format!("{} of {}", voters.len(), self.others.len());
        let silent: String = silent.iter().map(|error| format!("; {error}")).collect();
        waits(format!("{count} have voted on the chain for its stake; the vote ends at {end}{silent}"))
    }

    /// What a newcomer is granted: its stake, and something for gas.
    fn granted(&self) -> Value {
        let mut coins = [(&self.profile.gas_denom, GAS_MONEY), (&self.profile.bond_denom, STAKE)];
        coins.sort();
        coins.iter().map(|(denom, amount)| json!({ "denom": denom, "amount": amount.to_string() })).collect()
    }

    async fn voters(&self, tool: &Tool<'_>, id: &str) -> Result<Vec<String>> {
        let votes = tool.query(&self.name(), &["gov", "votes", id]).await?.unwrap_or_default();
        let list = votes["votes"].as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(list.iter().filter_map(|vote| vote["voter"].as_str().map(str::to_owned)).collect())
    }

    async fn propose(&self, tool: &Tool<'_>, operator: &str) -> Result<()> {
        let account = tool.query(&self.name(), &["auth", "module-account", "gov"]).await?.unwrap_or_default();
        let authority =
            find_text(&account, "address").ok_or_else(|| nonsense(tool.node, "auth module-account gov", &account))?;
        let message = json!({
            "@type": "/cosmos.distribution.v1beta1.MsgCommunityPoolSpend",
            "authority": authority, "recipient": operator, "amount": self.granted(),
        });
        let title = format!("a seat for {}", self.seat.node.key.object());
        let proposal = json!({
            "messages": [message], "metadata": "", "deposit": format!("1{}", self.profile.gas_denom),
            "title": title, "summary": "as the consortium decided", "expedited": false,
        });
        keys::put(tool, PROPOSAL_FILE, proposal.to_string().as_bytes()).await?;
        tool.send(&self.name(), &["gov", "submit-proposal", &format!("{{home}}/{PROPOSAL_FILE}")]).await
    }

    /// Takes the whole stake out of validation: without it the application closes the seat at once.
    async fn leave(&self) -> Result<Progress> {
        let tool = self.tool(self.seat);
        let Some(seat) = self.own_seat(&tool).await? else {
            return Err(refused(
                self.seat.node,
                "validates and has no seat: the program does not count power in stake".into(),
            ));
        };
        let (tokens, operator) = (amount(&seat["tokens"]), seat["operator_address"].as_str().unwrap_or_default());
        if tokens == 0 {
            return waits("its stake is out; it counts until two blocks later");
        }
        tool.send(&self.name(), &["staking", "unbond", operator, &self.coins(tokens)]).await?;
        waits("it takes its stake out of validation")
    }
}

/// Whether a proposal does what was decided and nothing else: anybody may open one, and this one is voted for.
fn is_grant(proposal: &Value, operator: &str, granted: &Value) -> bool {
    let [message] = proposal["messages"].as_array().map(Vec::as_slice).unwrap_or_default() else { return false };
    // Some versions of the command line wrap the message's fields, some do not.
    let (kind, fields) = match message["@type"].as_str() {
        Some(kind) => (kind, message),
        None => (message["type"].as_str().unwrap_or_default(), &message["value"]),
    };
    let pays = fields["recipient"].as_str() == Some(operator) && fields["amount"] == *granted;
    kind.ends_with("MsgCommunityPoolSpend") && pays
}

/// The consensus key of a seat: `{"@type", "key"}` or `{"type", "value"}`, by the version of the command line.
fn consensus_key(value: &Value) -> Option<String> {
    public_key(value).or_else(|| hex_of_base64(&value["value"]))
}

/// The first text called `name`, however deep: versions wrap an account differently.
fn find_text<'v>(value: &'v Value, name: &str) -> Option<&'v str> {
    match value {
        Value::Object(map) => match map.get(name).and_then(Value::as_str) {
            Some(text) if !text.is_empty() => Some(text),
            _ => map.values().find_map(|inner| find_text(inner, name)),
        },
        Value::Array(list) => list.iter().find_map(|inner| find_text(inner, name)),
        _ => None,
    }
}

fn amount(value: &Value) -> u128 {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_decided_is_voted_for() {
        let granted = json!([{ "denom": "inj", "amount": "1" }, { "denom": "stake", "amount": "9" }]);
        let spend = |to: &str, amount: &Value| {
            json!({
                "@type": "/cosmos.distribution.v1beta1.MsgCommunityPoolSpend", "recipient": to, "amount": amount,
            })
        };
        let is_ours = |messages: Value| is_grant(&json!({ "messages": messages }), "inj1new", &granted);
        let good = spend("inj1new", &granted);
        assert!(is_ours(json!([good])));
        let wrapped = json!({ "type": "cosmos-sdk/distr/MsgCommunityPoolSpend", "value": good });
        assert!(is_ours(json!([wrapped])));
        let more = json!([{ "denom": "inj", "amount": "1" }, { "denom": "stake", "amount": "99" }]);
        let other = json!({ "@type": "/cosmos.bank.v1beta1.MsgSend", "recipient": "inj1new", "amount": granted });
        for bad in [
            json!([]),
            json!([good, spend("inj1thief", &granted)]),
            json!([spend("inj1thief", &granted)]),
            json!([spend("inj1new", &more)]),
            json!([other]),
        ] {
            assert!(!is_ours(bad.clone()), "{bad}");
        }
    }

    #[test]
    fn a_set_of_validators_is_read_and_nonsense_is_not() {
        let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
        let list = json!({ "block_height": "7", "validators": [
            { "address": "AB", "pub_key": { "type": "tendermint/PubKeyEd25519", "value": key }, "voting_power": "1000" },
        ] });
        let status = json!({ "node_info": { "protocol_version": { "app": "0" } } });
        let found = read(&list, &status).expect("a good answer");
        assert_eq!((found.next_height, found.validators.len(), found.rules), (8, 1, None));
        assert_eq!((found.validators[0].node_id.as_str(), found.validators[0].power), ("ab", 1_000));
        assert!(found.validators[0].public_key.starts_with("000102"));
        assert!(read(&json!({}), &status).is_none() && read(&list, &json!({})).is_none());
    }
}
