//! `hanse audit`: reading, exporting and verifying the audit trail.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use hanse_client::{ClientError, Code, pb};
use hanse_trail::{Broken, Head, Verifier};
use serde_json::json;

use super::ListArgs;
use super::anchored::{self, Wanted};
use super::context::{Context, Global, PAGE_SIZE};
use super::error::CliError;
use super::view::View;
use super::witness;
use crate::output::{self, Format};

/// No record's line is longer; a file that is none of ours must not be read into memory.
const LINE_BYTES_MAX: u64 = 4 << 20;

/// Verbs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum AuditCommand {
    /// List records, newest first.
    List {
        #[command(flatten)]
        list: ListArgs,
        /// Leave out the platform's bookkeeping: metering, intents and what it saw.
        #[arg(long)]
        changes_only: bool,
    },
    /// Show the trail's count and last hash.
    Head,
    /// Print the trail as JSON lines, oldest first.
    Export {
        /// Only records after this number.
        #[arg(long, default_value_t = 0)]
        after: u64,
    },
    /// Print a signed checkpoint of the trail: its size, the root of its Merkle tree and its last hash.
    Checkpoint,
    /// Prove that a record is in the trail, or that the trail still begins as it did; the proof is checked before it is printed.
    Prove(ProveArgs),
    /// Recompute hash chain and Merkle tree of exported lines (or of the server's trail) and compare them with a head or
    /// checkpoints; with --witness and no file, watch the trail from outside.
    Verify(VerifyArgs),
}

/// What `prove` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct ProveArgs {
    /// Number of the record that is in the trail.
    #[arg(long, value_name = "N", required_unless_present = "since", conflicts_with = "since")]
    pub(super) seq: Option<u64>,
    /// Size of an earlier checkpoint that the trail continues.
    #[arg(long, value_name = "OLD_SIZE")]
    pub(super) since: Option<u64>,
    /// Root of that checkpoint (64 hex digits); the proof is then checked with it.
    #[arg(long, value_name = "HEX", requires = "since")]
    pub(super) root: Option<String>,
}

/// What `verify` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct VerifyArgs {
    /// Exported lines (`-` for stdin); without it the server's trail is read.
    file: Option<PathBuf>,
    /// Hash of the last record to expect; by default the server is asked for its head.
    #[arg(long, value_name = "HEX", requires = "count")]
    head_hash: Option<String>,
    /// How many records that head has.
    #[arg(long, requires = "head_hash")]
    count: Option<u64>,
    /// File with a checkpoint that the trail must contain.
    #[arg(long, value_name = "FILE", group = "signed", conflicts_with = "head_hash")]
    checkpoint: Option<PathBuf>,
    /// File of a witness: all its checkpoints must be in FILE; without FILE the trail is asked for a checkpoint, which is added if
    /// it continues the last one.
    #[arg(long, value_name = "FILE", group = "signed", conflicts_with = "head_hash")]
    witness: Option<PathBuf>,
    /// Compare with what the members' chains hold of the trail: FILE is computed anew; without FILE the platform has to prove that
    /// its trail begins with each head.
    #[arg(long, group = "signed", conflicts_with = "head_hash")]
    anchored: bool,
    /// Only this chain, CONSORTIUM/CHAIN; may be repeated. By default all that record the trail.
    #[arg(long = "chain", value_name = "CHAIN", requires = "anchored")]
    chains: Vec<String>,
    /// Ask this node (`http://host:port`) and not the platform what its chain holds; may be repeated.
    #[arg(long, value_name = "URL", requires = "anchored", conflicts_with = "chains")]
    rpc: Vec<String>,
    /// File with the nodes' access token, if they want one.
    #[arg(long, value_name = "FILE", requires = "rpc")]
    rpc_token_file: Option<PathBuf>,
    /// The key of the checkpoints (`audit.vkey` of the certificate authority's folder), as text or as a file.
    #[arg(long, value_name = "KEY", requires = "signed")]
    key: Option<String>,
}

const RECORDS: View = View {
    key: "records",
    name: "seq",
    columns: &[
        ("SEQ", "seq"),
        ("AT", "at_ms"),
        ("ACTOR", "actor"),
        ("ACTION", "action"),
        ("RESOURCE", "resource"),
        ("OUTCOME", "outcome"),
    ],
};

/// Runs a verb.
///
/// # Errors
/// The call failed, a file cannot be read, or the trail is broken.
pub(crate) async fn run(command: AuditCommand, global: &Global) -> Result<(), CliError> {
    match command {
        AuditCommand::List { list, changes_only } => {
            let request = |page_token| pb::ListAuditRequest {
                page_size: PAGE_SIZE,
                page_token,
                filter: list.filter(),
                changes_only,
            };
            Context::new(global)?.show_pages(RECORDS, request, list.limit).await
        }
        AuditCommand::Head => {
            let view = View { key: "", name: "head_hash", columns: &[] };
            Context::new(global)?.show(pb::GetAuditHeadRequest {}, view).await
        }
        AuditCommand::Export { after } => {
            let context = Context::new(global)?;
            let print = |line: &str| output::print(&format!("{line}\n")).map_err(cannot_print);
            let count = context.client.export_audit(after, print).await?;
            context.say(&format!("{count} records"));
            Ok(())
        }
        AuditCommand::Checkpoint => witness::checkpoint(global).await,
        AuditCommand::Prove(args) => witness::prove(args, global).await,
        AuditCommand::Verify(VerifyArgs { file: None, witness: Some(path), key, .. }) => {
            witness::watch(&path, key.as_deref(), global).await
        }
        AuditCommand::Verify(args) => verify(args, global).await,
    }
}

fn cannot_print(error: io::Error) -> ClientError {
    ClientError::local(Code::InvalidArgument, "OUTPUT", format!("cannot write: {error}"), "")
}

/// What the trail is compared with.
async fn verifier(args: &VerifyArgs, global: &Global) -> Result<Verifier, CliError> {
    if let Some(path) = &args.witness {
        return Ok(Verifier::against(&witness::seen(path, args.key.as_deref())?));
    }
    if let Some(path) = &args.checkpoint {
        return Ok(Verifier::against(&[witness::read_checkpoint(path, args.key.as_deref())?]));
    }
    let given = args.head_hash.as_ref().zip(args.count);
    if let Some((hash, count)) = given {
        return Ok(Verifier::new(Head { count, hash: hash.to_lowercase() }));
    }
    // The server's head is read before its lines, so that records made in between are no fault.
    let response = Context::new(global)?.call(pb::GetAuditHeadRequest {}).await?;
    Ok(Verifier::new(Head { count: response.count, hash: response.head_hash }))
}

async fn verify(args: VerifyArgs, global: &Global) -> Result<(), CliError> {
    if args.anchored {
        let wanted = Wanted {
            chains: &args.chains,
            rpc: &args.rpc,
            rpc_token_file: args.rpc_token_file.as_deref(),
            file: args.file.as_ref(),
            key: args.key.as_deref(),
        };
        return anchored::verify(wanted, global).await;
    }
    let mut verifier = verifier(&args, global).await?;
    match &args.file {
        Some(path) => each_line(path, |line| verifier.take(line))?.map_err(broken)?,
        None => {
            let each = |line: &str| {
                verifier
                    .take(line)
                    .map_err(|broken| ClientError::local(Code::DataLoss, "AUDIT_BROKEN", broken.to_string(), ""))
            };
            Context::new(global)?.client.export_audit(0, each).await?;
        }
    }
    let (end, root) = verifier.finish().map_err(broken)?;
    let root = hex::encode(root);
    match global.format() {
        Format::Json => {
            output::print_json(&json!({ "ok": true, "count": end.count, "head_hash": end.hash, "root_hash": root }))?;
        }
        Format::Table | Format::Name => {
            output::print(&format!("{} records, unbroken; head {}, root {root}\n", end.count, end.hash))?;
        }
    }
    Ok(())
}

/// Hands over each line of an export until one is refused.
///
/// # Errors
/// The file cannot be read; the inner error is of the line.
pub(super) fn each_line(
    path: &Path,
    mut take: impl FnMut(&str) -> Result<(), Broken>,
) -> Result<Result<(), Broken>, CliError> {
    let mut input: Box<dyn io::BufRead> = if path == Path::new("-") {
        Box::new(BufReader::new(io::stdin()))
    } else {
        Box::new(BufReader::new(File::open(path).map_err(|error| CliError::file(path, &error))?))
    };
    loop {
        let mut line = Vec::new();
        let read = input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
        if read.map_err(|error| CliError::file(path, &error))? == 0 {
            return Ok(Ok(()));
        }
        // Not-UTF-8 bytes become marks that no hash fits, which is the right verdict.
        let text = String::from_utf8_lossy(&line);
        if let Err(broken) = take(text.trim_end_matches(['\n', '\r'])) {
            return Ok(Err(broken));
        }
    }
}

fn broken(broken: Broken) -> CliError {
    CliError::Failed(broken.to_string())
}
