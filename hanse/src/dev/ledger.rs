//! The part of the story that happens on the chain: a contract, a transfer; and what it costs.

use std::path::Path;

use alloy_primitives::{Address, U256, keccak256};
use anyhow::{Context as _, Result, bail};
use hanse_client::{Client, Code, pb};

use super::people::{People, TENANTS};
use super::story::{CHAIN, CHAIN_ID, CONSORTIUM, follow, found, wait_for};
use super::teller::note;
use crate::wallet::{Order, TRANSFER_GAS, Wallet};

/// The demo's contract: remembers when a document's hash was first recorded (fixtures/contracts/Notary.sol).
const NOTARY_CODE: &str = include_str!("../../../fixtures/contracts/Notary.bin");
/// Gas that the contract's creation and its calls may use.
const CONTRACT_GAS: u64 = 1_000_000;
/// What the new account is funded with: one ether in wei.
const GRANT_WEI: u64 = 1_000_000_000_000_000_000;

/// The key kept at `path`, made on first use.
pub(crate) fn wallet(path: &Path) -> Result<Wallet> {
    if path.exists() {
        return Wallet::load(path);
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    }
    let wallet = Wallet::generate()?;
    wallet.save_new(path)?;
    Ok(wallet)
}

/// Deploys the contract, records a document and reads it back. Returns the contract's address.
pub(crate) async fn contract(people: &People, treasury: &Wallet) -> Result<String> {
    let client = people.founder()?;
    let name = "notary";
    let get = || async {
        let request =
            pb::GetContractRequest { consortium: CONSORTIUM.into(), chain: CHAIN.into(), contract: name.into() };
        found(client.call(request).await)
    };
    if get().await?.is_none() {
        let code = hex::decode(NOTARY_CODE.trim()).context("the demo contract's code is hex")?;
        let raw_transaction = treasury.sign(order(client, treasury, None, 0, code, CONTRACT_GAS).await?)?;
        let request = pb::DeployContractRequest {
            consortium: CONSORTIUM.into(),
            chain: CHAIN.into(),
            contract: name.into(),
            raw_transaction,
            ..Default::default()
        };
        let operation = client.call(request).await?.operation;
        follow(client, &operation).await?;
    }
    let deployed = get().await?.and_then(|response| response.contract).context("the contract is there")?;
    let nonce = account(client, &treasury.address()).await?.nonce;
    let document = keccak256(format!("bill of lading {nonce}"));
    let input = [&selector("record(bytes32)")[..], document.as_slice()].concat();
    let to: Address = deployed.address.parse().context("the contract's address")?;
    let sent = send(client, &treasury.sign(order(client, treasury, Some(to), 0, input, CONTRACT_GAS).await?)?).await?;
    note(format_args!("notary at {}: document {document} recorded in block {}", deployed.address, sent.block));
    let request = pb::CallContractRequest {
        consortium: CONSORTIUM.into(),
        chain: CHAIN.into(),
        to: deployed.address.clone(),
        data: [&selector("find(bytes32)")[..], document.as_slice()].concat(),
    };
    let answer = client.call(request).await?.output;
    let by = answer.get(12..32).map(Address::from_slice).context("the contract answers with an address")?;
    if format!("{by:#x}") != treasury.address() {
        bail!("the contract says that {by:#x} recorded the document, not {}", treasury.address());
    }
    note("and read back with a call: recorded by the treasury's account");
    Ok(deployed.address)
}

/// Funds a new account and looks the transfer up by its hash. Returns the transaction as the explorer shows it.
pub(crate) async fn transfer(people: &People, treasury: &Wallet) -> Result<pb::Transaction> {
    let client = people.founder()?;
    let receiver = Wallet::generate()?.address();
    let to: Address = receiver.parse().context("a fresh address")?;
    let raw = treasury.sign(order(client, treasury, Some(to), GRANT_WEI, Vec::new(), TRANSFER_GAS).await?)?;
    let found = send(client, &raw).await?;
    let balance = account(client, &receiver).await?.balance_wei;
    if found.to != receiver || balance != GRANT_WEI.to_string() {
        bail!("{receiver} holds {balance} wei after a transfer of {GRANT_WEI} to {}", found.to);
    }
    note(format_args!("{} in block {}: {receiver} holds {balance} wei", found.hash, found.block));
    Ok(found)
}

/// Waits until usage was metered and shows the draft invoice of the first tenant.
pub(crate) async fn bill(people: &People, month: &str) -> Result<pb::GetInvoiceDraftResponse> {
    let (tenant, _) = TENANTS[0];
    let client = people.founder()?;
    let draft = wait_for("metered usage", || async {
        let draft = client.call(pb::GetInvoiceDraftRequest { tenant: tenant.into(), month: month.into() }).await?;
        Ok((draft.usage_records > 0).then_some(draft))
    })
    .await?;
    let amount =
        |money: &Option<pb::Money>| money.as_ref().map(|m| format!("{} {}", m.amount, m.currency)).unwrap_or_default();
    let (total, again) = (amount(&draft.total), amount(&draft.recomputed_total));
    if total.is_empty() || total != again {
        bail!("the draft says {total}, recomputed from {} usage records it is {again}", draft.usage_records);
    }
    note(format_args!("{}: {total}, and the same recomputed from {} usage records", draft.name, draft.usage_records));
    Ok(draft)
}

async fn order(
    client: &Client,
    from: &Wallet,
    to: Option<Address>,
    value: u64,
    input: Vec<u8>,
    gas_limit: u64,
) -> Result<Order> {
    let nonce = account(client, &from.address()).await?.nonce;
    Ok(Order { chain_id: CHAIN_ID, nonce, to, value: U256::from(value), input, gas_limit, gas_price: 0 })
}

async fn account(client: &Client, address: &str) -> Result<pb::LedgerAccount> {
    let (consortium, chain, address) = (CONSORTIUM.into(), CHAIN.into(), address.into());
    let request = pb::GetAccountRequest { consortium, chain, address };
    client.call(request).await?.account.context("the account is there")
}

/// Sends a signed transaction and waits until it is in a block and succeeded.
async fn send(client: &Client, raw: &[u8]) -> Result<pb::Transaction> {
    let request = pb::SendTransactionRequest {
        consortium: CONSORTIUM.into(),
        chain: CHAIN.into(),
        raw_transaction: raw.to_vec(),
        ..Default::default()
    };
    let hash = client.call(request).await?.transaction_hash;
    let mined = wait_for("the transaction in a block", || async {
        let (consortium, chain, hash) = (CONSORTIUM.into(), CHAIN.into(), hash.clone());
        match client.call(pb::GetTransactionRequest { consortium, chain, hash }).await {
            Ok(response) => Ok(response.transaction.filter(|t| t.state() != pb::TransactionState::Pending)),
            // Another node may be asked than the one that took it.
            Err(error) if error.code == Code::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    })
    .await?;
    if mined.state() != pb::TransactionState::Succeeded {
        bail!("transaction {hash} was reverted in block {}", mined.block);
    }
    Ok(mined)
}

fn selector(signature: &str) -> [u8; 4] {
    let hash = keccak256(signature);
    [hash[0], hash[1], hash[2], hash[3]]
}
