//! `hanse chain import` and `forget`: chains that were made outside of the platform, watched and never touched.

use hanse_client::pb;

use super::context::Context;
use super::error::CliError;
use super::life::LifeArgs;
use super::view::View;

/// What `chain import` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct ImportArgs {
    /// The consortium.
    consortium: String,
    /// Its name within it from now on.
    chain: String,
    /// The template that its ledger is like, `hanse template list`: cosmos-evm (CometBFT) or evm-standard (embedded).
    #[arg(long)]
    template: String,
    /// EIP-155 chain id.
    #[arg(long)]
    chain_id: u64,
    /// Hash of its first block, 0x-hex: block 0, of CometBFT chains block 1. Left out, the refusal tells what answers, to compare.
    #[arg(long, default_value = "")]
    first_block: String,
    /// Member whose chain it is.
    #[arg(long, value_name = "TENANT")]
    owner: String,
    /// Ethereum's JSON-RPC of a node, http://HOST:PORT; once for each node.
    #[arg(long, value_name = "URL", required = true, value_parser = parse_url)]
    rpc: Vec<(String, u16)>,
    /// The consensus' own RPC of the same nodes in the same order, http://HOST:PORT; for CometBFT.
    #[arg(long, value_name = "URL", value_parser = parse_url)]
    consensus_rpc: Vec<(String, u16)>,
    /// Why, for the audit trail.
    #[arg(long)]
    reason: String,
}

const CHAIN: View = View { key: "chain", name: "name", columns: &[] };

/// Runs `hanse chain import`.
///
/// # Errors
/// The call failed, or the URLs do not fit together.
pub(crate) async fn import(args: ImportArgs, context: &Context) -> Result<(), CliError> {
    let endpoints = endpoints(&args.rpc, &args.consensus_rpc)?;
    let request = pb::ImportChainRequest {
        request_id: String::new(),
        validate_only: context.global.dry_run,
        consortium: args.consortium,
        chain: args.chain,
        template: args.template,
        chain_id: args.chain_id,
        first_block: args.first_block,
        owner: args.owner,
        endpoints,
        reason: args.reason,
    };
    context.show(request, CHAIN).await
}

/// What `chain forget` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct ForgetArgs {
    #[command(flatten)]
    chain: LifeArgs,
    /// A node that was taken over and cannot be given back, because its host is lost for good; once for each.
    #[arg(long, value_name = "NODE")]
    lost: Vec<String>,
}

/// Runs `hanse chain forget`.
///
/// # Errors
/// The call failed, or the user did not agree.
pub(crate) async fn forget(args: ForgetArgs, context: &Context) -> Result<(), CliError> {
    let ForgetArgs { chain: LifeArgs { consortium, chain, reason }, lost } = args;
    let what = match lost.as_slice() {
        [] => "Nothing of the chain itself changes.".to_owned(),
        lost => format!("{} is written off with its host: its owner gets nothing back.", lost.join(", ")),
    };
    context.confirm(&format!("Forget the imported chain {consortium}/{chain}? {what}"))?;
    let (request_id, validate_only) = (String::new(), context.global.dry_run);
    let request = pb::ForgetChainRequest { request_id, validate_only, consortium, chain, reason, lost };
    context.show(request, View { key: "", name: "header", columns: &[] }).await
}

fn endpoints(rpc: &[(String, u16)], consensus: &[(String, u16)]) -> Result<Vec<pb::Endpoint>, CliError> {
    if !consensus.is_empty() && consensus.len() != rpc.len() {
        let what = format!("{} times --rpc and {} times --consensus-rpc", rpc.len(), consensus.len());
        return Err(CliError::local(what, "Give both for each node, in the same order."));
    }
    let one = |(n, (host, port)): (usize, &(String, u16))| {
        let consensus_port = match consensus.get(n) {
            None => 0,
            Some((other, port)) if other == host => (*port).into(),
            Some((other, _)) => {
                let what = format!("node {n} answers at {host} and at {other}");
                return Err(CliError::local(what, "Both must be of one node at one host."));
            }
        };
        Ok(pb::Endpoint { host: host.clone(), rpc_port: (*port).into(), consensus_port })
    };
    rpc.iter().enumerate().map(one).collect()
}

fn parse_url(text: &str) -> Result<(String, u16), String> {
    if text.starts_with("https://") {
        return Err("https is not spoken yet: name a tunnel's end by http://HOST:PORT".into());
    }
    let rest = text.strip_prefix("http://").ok_or("http://HOST:PORT is needed")?.trim_end_matches('/');
    let (host, port) = rest.rsplit_once(':').ok_or("the port is missing: http://HOST:PORT")?;
    let port = port.parse().map_err(|_| format!("{port:?} is not a port"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() || host.contains('/') {
        return Err(format!("{host:?} is not a host"));
    }
    Ok((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn urls_are_read_and_must_fit_together() {
        let url = |text| parse_url(text).unwrap();
        assert_eq!(url("http://ledger.example:8545/"), ("ledger.example".into(), 8_545));
        assert_eq!(url("http://[::1]:80"), ("::1".into(), 80));
        for bad in ["ledger:1", "https://ledger:1", "http://ledger", "http://:1", "http://a/b:1", "http://a:70000"] {
            assert!(parse_url(bad).is_err(), "{bad}");
        }
        let (a, b) = (url("http://a:1"), url("http://b:2"));
        let both = endpoints(std::slice::from_ref(&a), &[("a".into(), 9)]).unwrap();
        assert_eq!((both[0].rpc_port, both[0].consensus_port), (1, 9));
        assert!(endpoints(&[a.clone(), b.clone()], std::slice::from_ref(&a)).is_err(), "one is missing");
        assert!(endpoints(&[a], &[b]).is_err(), "two hosts");
    }
}
