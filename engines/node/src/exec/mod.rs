//! Execution: what a block does, and whether it says so truthfully.
//!
//! [`build`] makes a block from waiting transactions, [`validate`] executes someone's block and
//! compares every field that follows from execution.
//! Rules are those of the genesis' [`Fork`]; the base fee is the genesis' too, mostly zero. Nothing
//! here writes to the store.

#[cfg(test)]
mod specification;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use alloy_consensus::proofs::{calculate_receipt_root, calculate_transaction_root};
use alloy_consensus::{EthereumReceipt, Header, Transaction, TxReceipt, TxType};
use alloy_eips::Encodable2718;
use alloy_eips::eip2935::HISTORY_STORAGE_ADDRESS;
use alloy_primitives::{Address, B256, Bloom, Bytes, Log, LogData, U256};
use revm::context::result::{EVMError, InvalidTransaction, ResultAndState};
use revm::context::{BlockEnv, CfgEnv, Context, TxEnv};
use revm::context_interface::block::BlobExcessGasAndPrice;
use revm::context_interface::either::Either;
use revm::primitives::eip7825::TX_GAS_LIMIT_CAP;
use revm::primitives::hardfork::SpecId;
use revm::{ExecuteEvm, MainBuilder, MainContext, SystemCallEvm};

use crate::accounts::{AccountScheme, Ethereum};
use crate::block::{self, BLOCK_BYTES_MAX, Block, Tx};
use crate::genesis::{Fork, Genesis};
use crate::governance::{self, Domain};
use crate::mempool::Mempool;
use crate::native::Precompiles;
use crate::state::{Overlay, StateDiff};
use crate::store::{Snapshot, StateView, StoredLog, StoredReceipt};
use crate::{NodeError, anchor};

/// Room for header and list framing beside the transactions of a block.
const HEADER_BYTES: usize = 2048;
/// Fewer signatures than this are not worth a thread.
const RECOVERIES_MIN: usize = 16;
/// Room for the framing of one transaction.
const TRANSACTION_FRAME: usize = 8;

/// What the chain's genesis fixes for all blocks.
#[derive(Clone, Debug)]
pub(crate) struct ChainRules {
    pub(crate) chain_id: u64,
    pub(crate) block_gas_limit: u64,
    pub(crate) block_bytes_max: usize,
    pub(crate) fork: Fork,
    pub(crate) base_fee: u64,
    pub(crate) fee_recipient: Option<Address>,
    /// How accounts sign.
    pub(crate) accounts: &'static dyn AccountScheme,
    /// Who may stand in a header as beneficiary, on a chain without governance.
    pub(crate) proposers: std::collections::BTreeSet<Address>,
    /// What members sign for, on a chain with governance.
    pub(crate) governance: Option<Domain>,
    /// Whose checkpoints are recorded, on a chain with an audit anchor.
    pub(crate) anchor: Option<Arc<anchor::Rules>>,
}

impl ChainRules {
    pub(crate) fn of(genesis: &Genesis) -> Self {
        Self {
            chain_id: genesis.chain_id,
            block_gas_limit: genesis.block_gas_limit,
            block_bytes_max: usize::try_from(genesis.block_bytes_max).unwrap_or(BLOCK_BYTES_MAX).min(BLOCK_BYTES_MAX),
            fork: genesis.fork,
            base_fee: genesis.base_fee,
            fee_recipient: genesis.fee_recipient,
            accounts: &Ethereum,
            proposers: genesis.validators.iter().map(|v| v.public_key.node_id().0).collect(),
            governance: genesis
                .governance
                .as_ref()
                .map(|_| Domain { chain_id: genesis.chain_id, genesis_hash: genesis.hash() }),
            anchor: anchor::Rules::of(genesis).map(Arc::new),
        }
    }

    /// Gas that one transaction may ask for: the block's, or less where the fork says so (EIP-7825).
    pub(crate) fn transaction_gas_max(&self) -> u64 {
        match self.fork {
            Fork::Prague => self.block_gas_limit,
            Fork::Osaka => self.block_gas_limit.min(TX_GAS_LIMIT_CAP),
        }
    }

    /// The longest transaction that a block has room for.
    pub(crate) fn transaction_bytes_max(&self) -> usize {
        self.block_bytes_max - HEADER_BYTES - TRANSACTION_FRAME
    }

    /// The header fields of the block after `parent` that are decided before execution.
    fn open(&self, parent: &Block, proposer: Address, time_ms: u64) -> Header {
        let limits = (self.block_gas_limit, self.base_fee);
        block::open_header(parent.hash(), parent.number() + 1, proposer, time_ms, limits)
    }
}

impl Fork {
    pub(crate) fn spec(self) -> SpecId {
        match self {
            Self::Prague => SpecId::PRAGUE,
            Self::Osaka => SpecId::OSAKA,
        }
    }
}

/// A block and what follows from it.
#[derive(Debug)]
pub(crate) struct Executed {
    pub(crate) receipts: Vec<StoredReceipt>,
    pub(crate) diff: StateDiff,
}

/// Why a block cannot be accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BlockError {
    /// The block breaks a rule; every node says so.
    #[error("{0}")]
    Invalid(String),
    /// This node cannot tell.
    #[error("this node failed to execute it")]
    Node(#[source] NodeError),
}

impl From<NodeError> for BlockError {
    fn from(error: NodeError) -> Self {
        Self::Node(error)
    }
}

/// Block 0 and its state.
///
/// # Errors
/// None in practice: there is nothing to read.
pub(crate) fn genesis_block(genesis: &Genesis) -> Result<(Block, StateDiff), NodeError> {
    let (diff, state_root) = Overlay::of_genesis(genesis).finish()?;
    let mut header = block::open_header(
        B256::ZERO,
        0,
        Address::ZERO,
        genesis.genesis_time_ms,
        (genesis.block_gas_limit, genesis.base_fee),
    );
    header.extra_data = Bytes::copy_from_slice(genesis.hash().as_slice());
    header.state_root = state_root;
    header.transactions_root = calculate_transaction_root::<Tx>(&[]);
    header.receipts_root = receipts_root(&[]);
    Ok((Block::new(header, Vec::new()), diff))
}

/// Makes the next block from `candidates`; those that do not fit or do not apply are left out.
///
/// # Errors
/// The store cannot be read.
pub(crate) fn build(
    snapshot: &Snapshot,
    rules: &ChainRules,
    proposer: Address,
    now_ms: u64,
    candidates: impl Iterator<Item = (Tx, Address)>,
) -> Result<(Block, Executed), NodeError> {
    let parent = snapshot.head_block()?;
    let time = now_ms.max(parent.time_ms() + 1);
    let mut header = rules.open(&parent, proposer, time);
    let mut run = Run::new(snapshot, rules, &header)?;
    let mut transactions = Vec::new();
    let mut bytes = HEADER_BYTES;
    for (tx, sender) in candidates {
        let length = tx.encode_2718_len() + TRANSACTION_FRAME;
        if bytes + length > rules.block_bytes_max {
            continue;
        }
        match run.transact(&tx, sender) {
            Ok(()) => {
                bytes += length;
                transactions.push(tx);
            }
            Err(BlockError::Invalid(_)) => {}
            Err(BlockError::Node(error)) => return Err(error),
        }
    }
    header.transactions_root = calculate_transaction_root(&transactions);
    let executed = run.finish(&mut header)?;
    Ok((Block::new(header, transactions), executed))
}

/// Executes a block on the newest state and compares all that follows from execution. `pool` spares
/// the recovery of senders that it knows already.
///
/// # Errors
/// The rule that the block breaks, or that this node cannot read its store.
pub(crate) fn validate(
    snapshot: &Snapshot,
    rules: &ChainRules,
    pool: Option<&Mempool>,
    block: &Block,
) -> Result<Executed, BlockError> {
    let invalid = |reason: &str| Err(BlockError::Invalid(reason.to_owned()));
    let parent = snapshot.head_block()?;
    let claimed = block.header();
    if claimed.number != parent.number() + 1 || claimed.parent_hash != parent.hash() {
        return invalid("it does not follow this node's newest block");
    }
    let proposer = claimed.beneficiary;
    let known = match rules.governance {
        None => rules.proposers.contains(&proposer),
        Some(_) => governance::is_validator(snapshot.latest(), proposer, claimed.number)?,
    };
    if !known {
        return invalid("its beneficiary is no validator");
    }
    let time = block.time_ms();
    if claimed.extra_data.len() != 8 || time <= parent.time_ms() {
        return invalid("its time is not after its parent's");
    }
    if block.raw().len() > rules.block_bytes_max {
        return invalid("it has more bytes than this chain's block_bytes_max");
    }
    let mut header = rules.open(&parent, claimed.beneficiary, time);
    let mut run = Run::new(snapshot, rules, &header)?;
    for (tx, sender) in block.transactions().iter().zip(senders(rules, pool, block.transactions())) {
        let sender = sender.ok_or_else(|| BlockError::Invalid("a transaction has no valid signature".to_owned()))?;
        run.transact(tx, sender)?;
    }
    header.transactions_root = claimed.transactions_root;
    let executed = run.finish(&mut header)?;
    if header != *claimed {
        return invalid("its header does not follow from its execution");
    }
    Ok(executed)
}

/// The sender of each transaction; those that the pool does not know are recovered on all processors.
fn senders(rules: &ChainRules, pool: Option<&Mempool>, transactions: &[Tx]) -> Vec<Option<Address>> {
    let hashes: Vec<_> = transactions.iter().map(|tx| rules.accounts.transaction_hash(tx)).collect();
    let mut senders = pool.map_or_else(|| vec![None; hashes.len()], |pool| pool.senders(&hashes));
    let mut unknown: Vec<_> = senders.iter_mut().zip(transactions).filter(|(sender, _)| sender.is_none()).collect();
    let recover = |part: &mut [(&mut Option<Address>, &Tx)]| {
        for (sender, tx) in part {
            **sender = rules.accounts.sender(tx);
        }
    };
    if unknown.len() < RECOVERIES_MIN {
        recover(&mut unknown);
        return senders;
    }
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let share = unknown.len().div_ceil(threads);
    std::thread::scope(|scope| {
        for part in unknown.chunks_mut(share) {
            scope.spawn(move || recover(part));
        }
    });
    senders
}

/// One block's execution under way.
struct Run<'a> {
    snapshot: &'a Snapshot,
    height: u64,
    overlay: Overlay<'a>,
    rules: &'a ChainRules,
    block_env: BlockEnv,
    receipts: Vec<StoredReceipt>,
    gas_used: u64,
}

impl<'a> Run<'a> {
    fn new(snapshot: &'a Snapshot, rules: &'a ChainRules, header: &Header) -> Result<Self, NodeError> {
        let block_env = block_env(rules, header);
        let mut overlay = Overlay::new(snapshot.latest());
        if rules.fork >= Fork::Osaka {
            note_parent_hash(&mut overlay, rules, &block_env, header.parent_hash)?;
        }
        Ok(Self { snapshot, height: header.number, overlay, rules, block_env, receipts: Vec::new(), gas_used: 0 })
    }

    fn transact(&mut self, tx: &Tx, sender: Address) -> Result<(), BlockError> {
        block::check_form(tx, self.rules.chain_id, self.rules.fork).map_err(BlockError::Invalid)?;
        if self.gas_used.saturating_add(tx.gas_limit()) > self.rules.block_gas_limit {
            return Err(BlockError::Invalid("the block's gas is used up".to_owned()));
        }
        // Lists change two blocks after a decision, so the state before this block answers for all of it.
        if self.rules.governance.is_some() {
            let (state, anchor) = (self.snapshot.latest(), self.rules.anchor.as_deref());
            governance::admit(state, anchor, tx, sender, self.height)?.map_err(BlockError::Invalid)?;
        }
        let cfg = cfg(self.rules);
        let outcome = transact(&mut self.overlay, self.rules, cfg, &self.block_env, tx_env(tx, sender))?;
        let gas_used = outcome.result.tx_gas_used();
        self.gas_used += gas_used;
        self.receipts.push(StoredReceipt {
            tx_type: tx.tx_type() as u8,
            success: outcome.result.is_success(),
            gas_used,
            cumulative_gas_used: self.gas_used,
            from: sender,
            contract: outcome.result.created_address(),
            logs: outcome
                .result
                .into_logs()
                .into_iter()
                .map(|log| StoredLog { address: log.address, topics: log.data.topics().to_vec(), data: log.data.data })
                .collect(),
        });
        self.overlay.apply(outcome.state);
        Ok(())
    }

    fn finish(self, header: &mut Header) -> Result<Executed, NodeError> {
        let (diff, state_root) = self.overlay.finish()?;
        header.state_root = state_root;
        header.gas_used = self.gas_used;
        header.receipts_root = receipts_root(&self.receipts);
        header.logs_bloom = self.receipts.iter().map(bloom).fold(Bloom::ZERO, |all, bloom| all | bloom);
        Ok(Executed { receipts: self.receipts, diff })
    }
}

/// State, block and form of transaction `index` of a stored block, as they were when it ran.
///
/// # Errors
/// The transactions before it cannot be executed again, or the store cannot be read.
pub(crate) fn before<'a>(
    parent: StateView<'a>,
    rules: &ChainRules,
    block: &Block,
    senders: &[Address],
    index: usize,
) -> Result<(Overlay<'a>, BlockEnv, TxEnv), BlockError> {
    let block_env = block_env(rules, block.header());
    let mut overlay = Overlay::new(parent);
    if rules.fork >= Fork::Osaka {
        note_parent_hash(&mut overlay, rules, &block_env, block.header().parent_hash)?;
    }
    let mut all = block.transactions().iter().zip(senders).map(|(tx, sender)| tx_env(tx, *sender));
    for tx in all.by_ref().take(index) {
        let outcome = transact(&mut overlay, rules, cfg(rules), &block_env, tx)?;
        overlay.apply(outcome.state);
    }
    let tx = all.next().ok_or_else(|| BlockError::Invalid(format!("it has no transaction {index}")))?;
    Ok((overlay, block_env, tx))
}

/// Writes the parent's hash where contracts can read it (EIP-2935).
fn note_parent_hash(
    overlay: &mut Overlay<'_>,
    rules: &ChainRules,
    block_env: &BlockEnv,
    parent: B256,
) -> Result<(), NodeError> {
    let context = Context::mainnet().with_cfg(cfg(rules)).with_db(&mut *overlay).with_block(block_env.clone());
    let called =
        context.build_mainnet().system_call(HISTORY_STORAGE_ADDRESS, Bytes::copy_from_slice(parent.as_slice()));
    match called {
        Ok(outcome) => {
            overlay.apply(outcome.state);
            Ok(())
        }
        Err(EVMError::Database(error)) => Err(error),
        Err(error) => Err(NodeError::Consensus(format!("the contract of block hashes cannot be called: {error}"))),
    }
}

/// The rules of the chain as the EVM wants them.
pub(crate) fn cfg(rules: &ChainRules) -> CfgEnv {
    CfgEnv::new_with_spec(rules.fork.spec()).with_chain_id(rules.chain_id)
}

fn transact(
    overlay: &mut Overlay<'_>,
    rules: &ChainRules,
    cfg: CfgEnv,
    block_env: &BlockEnv,
    tx: TxEnv,
) -> Result<ResultAndState, BlockError> {
    let context = Context::mainnet().with_cfg(cfg).with_db(overlay).with_block(block_env.clone());
    let precompiles = Precompiles::new(rules);
    let mut evm = context.build_mainnet().with_precompiles(precompiles);
    evm.transact(tx).map_err(|error: EVMError<NodeError, InvalidTransaction>| match error {
        EVMError::Transaction(reason) => BlockError::Invalid(reason.to_string()),
        EVMError::Header(reason) => BlockError::Invalid(reason.to_string()),
        EVMError::Database(error) => BlockError::Node(error),
        EVMError::Custom(reason) => BlockError::Invalid(reason),
        EVMError::CustomAny(reason) => BlockError::Invalid(reason.to_string()),
    })
}

/// A call without effect after the block of `header`.
#[cfg(test)]
pub(crate) fn call(
    state: StateView<'_>,
    rules: &ChainRules,
    header: &Header,
    tx: TxEnv,
) -> Result<revm::context::result::ExecutionResult, BlockError> {
    let mut cfg = cfg(rules);
    cfg.tx_gas_limit_cap = Some(u64::MAX);
    let mut block_env = block_env(rules, header);
    block_env.basefee = 0;
    Ok(transact(&mut Overlay::new(state), rules, cfg, &block_env, tx)?.result)
}

/// The block that a transaction sees.
pub(crate) fn block_env(rules: &ChainRules, header: &Header) -> BlockEnv {
    BlockEnv {
        number: U256::from(header.number),
        beneficiary: rules.fee_recipient.unwrap_or(header.beneficiary),
        timestamp: U256::from(header.timestamp),
        gas_limit: header.gas_limit,
        basefee: header.base_fee_per_gas.unwrap_or_default(),
        difficulty: U256::ZERO,
        prevrandao: Some(B256::ZERO),
        blob_excess_gas_and_price: Some(BlobExcessGasAndPrice { excess_blob_gas: 0, blob_gasprice: 1 }),
        ..Default::default()
    }
}

fn tx_env(tx: &Tx, caller: Address) -> TxEnv {
    let authorizations = tx.authorization_list().unwrap_or_default();
    TxEnv {
        tx_type: tx.tx_type() as u8,
        caller,
        gas_limit: tx.gas_limit(),
        gas_price: tx.max_fee_per_gas(),
        kind: tx.kind(),
        value: tx.value(),
        data: tx.input().clone(),
        nonce: tx.nonce(),
        chain_id: tx.chain_id(),
        access_list: tx.access_list().cloned().unwrap_or_default(),
        gas_priority_fee: tx.max_priority_fee_per_gas(),
        authorization_list: authorizations.iter().cloned().map(Either::Left).collect(),
        ..Default::default()
    }
}

/// The bloom of a receipt's logs.
pub(crate) fn bloom(receipt: &StoredReceipt) -> Bloom {
    let mut bloom = Bloom::ZERO;
    for log in &receipt.logs {
        bloom.accrue_raw_log(log.address, &log.topics);
    }
    bloom
}

/// The root of a block's receipts.
pub(crate) fn receipts_root(receipts: &[StoredReceipt]) -> B256 {
    let encodable: Vec<_> = receipts
        .iter()
        .map(|receipt| {
            let logs = receipt.logs.iter().map(|log| Log {
                address: log.address,
                data: LogData::new_unchecked(log.topics.clone(), log.data.clone()),
            });
            EthereumReceipt::<TxType> {
                tx_type: TxType::try_from(receipt.tx_type).expect("only admitted types are stored"),
                success: receipt.success,
                cumulative_gas_used: receipt.cumulative_gas_used,
                logs: logs.collect(),
            }
            .into_with_bloom()
        })
        .collect();
    calculate_receipt_root(&encodable)
}
