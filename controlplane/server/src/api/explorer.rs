//! ExplorerService: blocks, transactions, accounts, read from a chain's node.

use hanse_engines_core::BlockRef;
use hanse_proto::v1 as pb;
use hanse_proto::v1::explorer_service_server::ExplorerService;
use tonic::{Request, Response, Status};

use super::chain::chain_key;
use super::convert::ledger::{self, is_hex};
use super::node_call::{Reached, reach_chain};
use super::page::{Page, write_token};
use super::{Call, convert};
use crate::context::Context;
use crate::error::ApiError;

/// Blocks of a page if no size is asked for.
const BLOCKS_DEFAULT: usize = 20;

/// Most blocks of a page: each is one question to the node.
const BLOCKS_MAX: usize = 50;

/// Heads of a page of the audit trail's, if no size is asked for, and at most.
const ANCHORS_DEFAULT: usize = 50;
const ANCHORS_MAX: usize = 500;

/// Hex digits of a hash and of an address.
const HASH_DIGITS: usize = 64;
const ADDRESS_DIGITS: usize = 40;

/// Reads a ledger.
pub(crate) struct Explorer(Context);

impl Explorer {
    /// The service of this replica.
    pub(crate) fn new(context: Context) -> Self {
        Self(context)
    }
}

async fn block(node: &Reached, which: &BlockRef) -> Result<pb::Block, ApiError> {
    let block = node.ask(node.engine.block(&*node.adapter, &node.plan, which)).await?;
    Ok(ledger::block(block))
}

/// A hash or address in the one form that ledgers agree on.
fn hex_of(field: &str, text: &str, digits: usize) -> Result<String, ApiError> {
    if is_hex(text, digits) {
        return Ok(text.to_ascii_lowercase());
    }
    let why = format!("is not 0x and {digits} hex digits");
    Err(ApiError::invalid(field, &why, "copy it whole"))
}

#[tonic::async_trait]
impl ExplorerService for Explorer {
    async fn list_blocks(
        &self,
        request: Request<pb::ListBlocksRequest>,
    ) -> Result<Response<pb::ListBlocksResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let page = Page::<u64>::parse(it.page_size, &it.page_token, BLOCKS_DEFAULT)?;
        let node = reach_chain(&call, &chain_key(&it.consortium, &it.chain)?).await?;
        let first = match page.after {
            None => BlockRef::Latest,
            Some(0) => return Err(ApiError::invalid("page_token", "is past the first block", "start again").into()),
            Some(after) => BlockRef::Height(after - 1),
        };
        let mut blocks = vec![block(&node, &first).await?];
        while let Some(last) = blocks.last().filter(|last| last.height > 0) {
            if blocks.len() >= page.size.min(BLOCKS_MAX) {
                break;
            }
            let next = block(&node, &BlockRef::Height(last.height - 1)).await?;
            blocks.push(next);
        }
        let last = blocks.last().map_or(0, |block| block.height);
        let next_page_token = if last > 0 { write_token(&last) } else { String::new() };
        Ok(Response::new(pb::ListBlocksResponse {
            header: call.read_header(),
            blocks,
            next_page_token,
            node: node.name,
        }))
    }

    async fn get_block(&self, request: Request<pb::GetBlockRequest>) -> Result<Response<pb::GetBlockResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let which = match it.block {
            None | Some(pb::get_block_request::Block::Latest(_)) => BlockRef::Latest,
            Some(pb::get_block_request::Block::Height(height)) => BlockRef::Height(height),
            Some(pb::get_block_request::Block::Hash(hash)) => BlockRef::Hash(hex_of("hash", &hash, HASH_DIGITS)?),
        };
        let node = reach_chain(&call, &chain_key(&it.consortium, &it.chain)?).await?;
        let block = Some(block(&node, &which).await?);
        Ok(Response::new(pb::GetBlockResponse { header: call.read_header(), block, node: node.name }))
    }

    async fn get_transaction(
        &self,
        request: Request<pb::GetTransactionRequest>,
    ) -> Result<Response<pb::GetTransactionResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let hash = hex_of("hash", &it.hash, HASH_DIGITS)?;
        let node = reach_chain(&call, &chain_key(&it.consortium, &it.chain)?).await?;
        let found = node.ask(node.engine.transaction(&*node.adapter, &node.plan, &hash)).await?;
        let transaction = Some(convert::ledger::transaction(found));
        Ok(Response::new(pb::GetTransactionResponse { header: call.read_header(), transaction, node: node.name }))
    }

    async fn get_account(
        &self,
        request: Request<pb::GetAccountRequest>,
    ) -> Result<Response<pb::GetAccountResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let address = hex_of("address", &it.address, ADDRESS_DIGITS)?;
        let node = reach_chain(&call, &chain_key(&it.consortium, &it.chain)?).await?;
        let found = node.ask(node.engine.account(&*node.adapter, &node.plan, &address)).await?;
        let account = Some(convert::ledger::account(found));
        Ok(Response::new(pb::GetAccountResponse { header: call.read_header(), account, node: node.name }))
    }

    async fn list_anchors(
        &self,
        request: Request<pb::ListAnchorsRequest>,
    ) -> Result<Response<pb::ListAnchorsResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let page = Page::<u64>::parse(it.page_size, &it.page_token, ANCHORS_DEFAULT)?;
        let node = reach_chain(&call, &chain_key(&it.consortium, &it.chain)?).await?;
        let size = page.size.min(ANCHORS_MAX);
        let found = node.ask(node.engine.anchors(&*node.adapter, &node.plan, size, page.after)).await?;
        let found = found.ok_or_else(|| {
            let message = format!("{} records no audit trail", it.chain);
            let advice = "only a chain that was ordered with an anchor does (`proposal open-create-chain --anchor`)";
            ApiError::precondition("NO_ANCHOR", &message, advice)
        })?;
        let next = found.older_height.filter(|_| !found.pruned);
        Ok(Response::new(pb::ListAnchorsResponse {
            header: call.read_header(),
            anchors: found.heads.into_iter().map(ledger::anchor).collect(),
            next_page_token: next.map(|height| write_token(&height)).unwrap_or_default(),
            node: node.name,
            key: found.key,
            era: found.era,
            pruned: found.pruned,
        }))
    }
}
