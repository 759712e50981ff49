//! Effects as calls of the client.

use std::time::Duration;

use hanse_client::{CallOptions, Client, pb};

use crate::app::model::data::{Failure, Found, Loaded, Payload, Query};
use crate::convert;

/// A read that takes longer is as good as none: the console says so and asks again.
const READ_LIMIT: Duration = Duration::from_secs(4);
/// A look at a host may put our program there first.
pub(super) const LOOK_LIMIT: Duration = Duration::from_secs(120);
/// Items of a page.
const PAGE_SIZE: i32 = 500;
/// Pages of a list; nobody reads more than this on a screen, and a filter finds the rest.
const PAGES_MAX: usize = 8;
/// Operations and audit entries that are shown.
const RECENT_MAX: i32 = 100;
/// Changes asked for the overview: a panel's worth on a tall screen.
const CHANGES_MAX: i32 = 30;
/// Blocks that are shown; each is one question to a ledger node, and they are asked every other second.
const BLOCKS_MAX: i32 = 30;
/// Consortiums whose proposals are listed together.
const CONSORTIUMS_MAX: usize = 100;

pub(super) fn revision(header: Option<pb::ResponseHeader>) -> u64 {
    header.map(|h| h.revision).unwrap_or_default()
}

fn loaded(payload: Payload, revision: u64) -> Box<Loaded> {
    Box::new(Loaded { payload, revision })
}

async fn read<C: hanse_client::Call>(client: &Client, request: C) -> Result<C::Response, Failure> {
    let options = CallOptions { overall: Some(READ_LIMIT), ..CallOptions::default() };
    client.call_with(request, options).await.map_err(|e| convert::failure(&e))
}

/// As [`read`], for what takes as long as a host does.
async fn look<C: hanse_client::Call>(client: &Client, request: C) -> Result<C::Response, Failure> {
    let options = CallOptions { overall: Some(LOOK_LIMIT), ..CallOptions::default() };
    client.call_with(request, options).await.map_err(|e| convert::failure(&e))
}

/// Reads every page of a list, up to `PAGES_MAX`, into (items, revision of the first page).
macro_rules! list {
    ($client:expr, $request:ident { $($field:ident: $value:expr),* }, $items:ident, $convert:path) => {{
        let mut request = pb::$request { page_size: PAGE_SIZE, $($field: $value,)* ..pb::$request::default() };
        let (mut items, mut first) = (Vec::new(), None);
        for _ in 0..PAGES_MAX {
            let page = read($client, request.clone()).await?;
            first = first.or(page.header.as_ref().map(|h| h.revision));
            items.extend(page.$items.into_iter().map($convert));
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                break;
            }
        }
        (items, first.unwrap_or_default())
    }};
}

/// Returns the (consortium, rest) of a resource name below a consortium.
pub(super) fn within<'a>(name: &'a str, collection: &str) -> Result<(String, &'a str), Failure> {
    let mut parts = name.splitn(4, '/');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some("consortiums"), Some(c), Some(kind), Some(rest)) if kind == collection => Ok((c.to_owned(), rest)),
        _ => Err(Failure {
            reason: "INVALID_NAME".to_owned(),
            message: format!("{name:?} is no name within consortiums/.../{collection}"),
            ..Failure::default()
        }),
    }
}

/// Consortium, id and reason of an order about a chain.
pub(super) fn order_of(chain: &str) -> Result<(String, String, String), Failure> {
    within(chain, "chains").map(|(consortium, id)| (consortium, id.to_owned(), "console".to_owned()))
}

pub(super) fn id(name: &str) -> String {
    crate::screens::short(name)
}

/// Answers a query.
///
/// # Errors
/// The failure of the call, in the console's words.
pub(super) async fn fetch(client: &Client, query: &Query) -> Result<Box<Loaded>, Failure> {
    Ok(match query {
        Query::Status => {
            let answer = read(client, pb::GetStatusRequest {}).await?;
            let revision = answer.revision;
            loaded(Payload::Status(convert::status(answer)), revision)
        }
        Query::Session => {
            let answer = read(client, pb::WhoAmIRequest {}).await?;
            let revision = revision(answer.header.clone());
            loaded(Payload::Session(convert::session(answer)), revision)
        }
        Query::Tenants => {
            let (list, revision) = list!(client, ListTenantsRequest {}, tenants, convert::tenant);
            loaded(Payload::Tenants(list), revision)
        }
        Query::Consortiums => {
            let (list, revision) = list!(client, ListConsortiumsRequest {}, consortiums, convert::consortium);
            loaded(Payload::Consortiums(list), revision)
        }
        Query::Proposals(scope) => proposals(client, scope.as_deref()).await?,
        Query::Proposal(name) => {
            let (consortium, proposal) = within(name, "proposals")?;
            let request = pb::GetProposalRequest { consortium, proposal: proposal.to_owned() };
            let answer = read(client, request).await?;
            let list = answer.proposal.into_iter().map(convert::proposal).collect();
            loaded(Payload::Proposals(list), revision(answer.header))
        }
        Query::Chains => {
            let (list, revision) = list!(client, ListChainsRequest {}, chains, convert::chain);
            loaded(Payload::Chains(list), revision)
        }
        Query::Nodes => {
            let (list, revision) = list!(client, ListNodesRequest {}, nodes, convert::node);
            loaded(Payload::Nodes(list), revision)
        }
        Query::Hosts => {
            let (list, revision) = list!(client, ListHostsRequest {}, hosts, convert::host);
            loaded(Payload::Hosts(list), revision)
        }
        Query::Clouds => {
            let (list, revision) = list!(client, ListCloudsRequest {}, clouds, convert::cloud::cloud);
            loaded(Payload::Clouds(list), revision)
        }
        Query::Machines => {
            let (list, revision) = list!(client, ListMachinesRequest {}, machines, convert::cloud::machine);
            loaded(Payload::Machines(list), revision)
        }
        Query::Findings => {
            let (list, revision) = list!(client, ListFindingsRequest {}, findings, convert::watch::finding);
            loaded(Payload::Findings(list), revision)
        }
        Query::Artifacts => {
            let (list, revision) = list!(client, ListArtifactsRequest {}, artifacts, convert::watch::artifact);
            loaded(Payload::Artifacts(list), revision)
        }
        Query::Series(sought, window) => {
            let answer = read(client, convert::watch::request(sought, *window)).await?;
            let revision = revision(answer.header.clone());
            loaded(Payload::Series(convert::watch::series(answer)?), revision)
        }
        other => fetch_recent(client, other).await?,
    })
}

/// Answers the queries of what grows without end: their last entries, and single resources.
async fn fetch_recent(client: &Client, query: &Query) -> Result<Box<Loaded>, Failure> {
    Ok(match query {
        Query::Operations => {
            let request = pb::ListOperationsRequest { page_size: RECENT_MAX, ..Default::default() };
            let answer = read(client, request).await?;
            let list = answer.operations.into_iter().map(convert::operation).collect();
            loaded(Payload::Operations(list), revision(answer.header))
        }
        Query::Preflight(name) => {
            let answer = look(client, pb::PreflightHostRequest { host: id(name) }).await?;
            let list = answer.findings.into_iter().map(convert::host_check).collect();
            loaded(Payload::Preflight(list), revision(answer.header))
        }
        Query::Operation(name) => {
            let answer = read(client, pb::GetOperationRequest { operation: id(name) }).await?;
            let list = answer.operation.into_iter().map(convert::operation).collect();
            loaded(Payload::Operations(list), revision(answer.header))
        }
        Query::Audit => {
            let request = pb::ListAuditRequest { page_size: RECENT_MAX, ..Default::default() };
            let answer = read(client, request).await?;
            let list = answer.records.into_iter().map(convert::audit).collect();
            loaded(Payload::Audit(list), revision(answer.header))
        }
        Query::AuditTree => audit_tree(client).await?,
        Query::Recent => {
            let request = pb::ListAuditRequest { page_size: CHANGES_MAX, changes_only: true, ..Default::default() };
            let answer = read(client, request).await?;
            let list = answer.records.into_iter().map(convert::audit).collect();
            loaded(Payload::Audit(list), revision(answer.header))
        }
        Query::Invoice(tenant, month) => {
            let request = pb::GetInvoiceDraftRequest { tenant: tenant.clone(), month: month.clone() };
            let answer = read(client, request).await?;
            let revision = revision(answer.header.clone());
            loaded(Payload::Invoice(convert::invoice(answer)?), revision)
        }
        Query::Governance(name) => {
            let (consortium, chain) = within(name, "chains")?;
            let answer = read(client, pb::GetChainGovernanceRequest { consortium, chain: chain.to_owned() }).await?;
            let revision = revision(answer.header.clone());
            loaded(Payload::Governance(convert::governance(answer)), revision)
        }
        Query::Plan(planned) => {
            let unnamed = || Failure { message: format!("{planned:?} names no chain"), ..Failure::default() };
            let answer = read(client, convert::plan::request(planned).ok_or_else(unnamed)?).await?;
            let revision = revision(answer.header.clone());
            loaded(Payload::Plan(convert::plan::plan(answer)), revision)
        }
        Query::Blocks(name) => {
            let (consortium, chain) = within(name, "chains")?;
            let chain = chain.to_owned();
            let request = pb::ListBlocksRequest { page_size: BLOCKS_MAX, consortium, chain, ..Default::default() };
            let answer = read(client, request).await?;
            let list = answer.blocks.into_iter().map(convert::block).collect();
            loaded(Payload::Blocks(list), revision(answer.header))
        }
        Query::Find(name, sought) => find(client, name, sought).await?,
        Query::Status
        | Query::Session
        | Query::Tenants
        | Query::Consortiums
        | Query::Proposals(_)
        | Query::Proposal(_)
        | Query::Chains
        | Query::Nodes
        | Query::Clouds
        | Query::Machines
        | Query::Findings
        | Query::Artifacts
        | Query::Series(..)
        | Query::Hosts => unreachable!("answered by fetch"),
    })
}

/// A replica that is older, has no key, or is still making the tree of a long trail is no fault of the screen's; that no
/// replica answers is said by the list's own question.
async fn audit_tree(client: &Client) -> Result<Box<Loaded>, Failure> {
    use hanse_client::Code;
    let options = CallOptions { overall: Some(READ_LIMIT), ..CallOptions::default() };
    match client.call_with(pb::GetAuditCheckpointRequest {}, options).await {
        Ok(answer) => {
            let revision = revision(answer.header);
            Ok(loaded(Payload::AuditTree(answer.checkpoint.map(convert::audit_tree)), revision))
        }
        Err(e) => match e.code {
            Code::Unimplemented | Code::FailedPrecondition | Code::DeadlineExceeded | Code::Unavailable => {
                // It says nothing of how new the screen is.
                Ok(loaded(Payload::AuditTree(None), u64::MAX))
            }
            _ => Err(convert::failure(&e)),
        },
    }
}

async fn proposals(client: &Client, scope: Option<&str>) -> Result<Box<Loaded>, Failure> {
    let (names, mut revision) = match scope {
        Some(name) => (vec![id(name)], u64::MAX),
        None => {
            let (list, revision) = list!(client, ListConsortiumsRequest {}, consortiums, convert::consortium);
            (list.iter().take(CONSORTIUMS_MAX).map(|c| id(&c.name)).collect(), revision)
        }
    };
    let mut all = Vec::new();
    for consortium in names {
        let (list, at) = list!(client, ListProposalsRequest { consortium: consortium }, proposals, convert::proposal);
        all.extend(list);
        revision = revision.min(at);
    }
    all.sort_by_key(|p| std::cmp::Reverse(p.opened_at));
    Ok(loaded(Payload::Proposals(all), revision))
}

/// Looks in a chain for a height, a hash of a transaction or block, or an address.
async fn find(client: &Client, name: &str, sought: &str) -> Result<Box<Loaded>, Failure> {
    let (consortium, chain) = within(name, "chains")?;
    let chain = chain.to_owned();
    let sought = sought.trim().to_lowercase();
    let digits = sought.strip_prefix("0x").unwrap_or_default();
    let is_hex = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let height = sought.replace(',', "").parse::<u64>();
    use pb::get_block_request::Block;
    let block = match (height, sought.as_str()) {
        (Ok(height), _) => Some(Block::Height(height)),
        (_, "latest") => Some(Block::Latest(true)),
        _ => None,
    };
    if let Some(block) = block {
        return get_block(client, consortium, chain, block).await;
    }
    match digits.len() {
        64 if is_hex => {
            let hash = sought.clone();
            let request = pb::GetTransactionRequest { consortium: consortium.clone(), chain: chain.clone(), hash };
            match client.call_with(request, CallOptions { overall: Some(READ_LIMIT), ..Default::default() }).await {
                Ok(answer) => {
                    let found = Found::Transaction(convert::transaction(answer.transaction.unwrap_or_default()));
                    Ok(loaded(Payload::Found(found), revision(answer.header)))
                }
                // The same form may be a block's hash; if it is neither, the answer speaks of the block.
                Err(e) if e.code == hanse_client::Code::NotFound => {
                    get_block(client, consortium, chain, Block::Hash(sought)).await
                }
                Err(e) => Err(convert::failure(&e)),
            }
        }
        40 if is_hex => {
            let answer = read(client, pb::GetAccountRequest { consortium, chain, address: sought }).await?;
            let found = Found::Account(convert::account(answer.account.unwrap_or_default()));
            Ok(loaded(Payload::Found(found), revision(answer.header)))
        }
        _ => Err(Failure {
            reason: "INVALID_SEARCH".to_owned(),
            message: format!("{sought:?} is no height, hash or address"),
            advice: "A height is a number, a hash 0x and 64 hex digits, an address 0x and 40.".to_owned(),
            ..Failure::default()
        }),
    }
}

async fn get_block(
    client: &Client,
    consortium: String,
    chain: String,
    block: pb::get_block_request::Block,
) -> Result<Box<Loaded>, Failure> {
    let answer = read(client, pb::GetBlockRequest { consortium, chain, block: Some(block) }).await?;
    let found = Found::Block(convert::block(answer.block.unwrap_or_default()));
    Ok(loaded(Payload::Found(found), revision(answer.header)))
}
