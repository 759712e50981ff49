//! `hanse artifact`: software for hosts that is not in this binary. `describe`, `sign` and `verify --manifest` work on files of
//! this machine and need no replica; the others speak of what the platform keeps.

mod content;
mod signature;
mod upload;

use std::path::{Path, PathBuf};
use std::time::Duration;

use hanse_client::{MemberKey, pb};
use serde_json::json;

use super::ListArgs;
use super::context::{Context, Global, PAGE_SIZE};
use super::error::CliError;
use super::key::show;
use super::view::View;
use content::{Content, ContentArgs};
use signature::Signature;

/// Verbs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ArtifactCommand {
    /// Write the manifest of a folder of files: what they are called and the SHA-256 of each.
    Describe {
        /// Folder with the program and everything that must lie beside it, and nothing else.
        folder: PathBuf,
        /// The program, as a path inside the folder.
        #[arg(long)]
        program: String,
        /// The manifest's file; it must not exist yet, and lie outside the folder.
        #[arg(long)]
        out: PathBuf,
    },
    /// Sign content as its publisher, for sites that have pinned the key (`hanse key generate`).
    Sign {
        #[command(flatten)]
        content: ContentArgs,
        /// What people call it: lower-case letters, digits, '-', '.', '_'.
        #[arg(long)]
        name: String,
        /// Which version of it.
        #[arg(long)]
        version: String,
        /// The publisher's key file.
        #[arg(long)]
        key: PathBuf,
        /// The signature's file; it must not exist yet.
        #[arg(long)]
        out: PathBuf,
    },
    /// Bring software to the platform, which keeps it on every replica.
    Import(Box<ImportArgs>),
    /// List what the platform keeps.
    List {
        #[command(flatten)]
        list: ListArgs,
    },
    /// Show an artifact and which replicas have it.
    Get {
        /// Its SHA-256, or name@version.
        artifact: String,
    },
    /// Have every replica read its copy and compare the hashes; with --manifest, compare a folder of this machine.
    Verify {
        /// SHA-256 or name@version of an artifact; with --manifest the folder.
        artifact: String,
        /// Manifest that the folder is compared with.
        #[arg(long)]
        manifest: Option<PathBuf>,
    },
    /// Give up an artifact; the replicas delete their copies.
    Delete {
        /// Its SHA-256, or name@version.
        artifact: String,
    },
    /// Makers of software whose signatures are believed.
    #[command(subcommand)]
    Publisher(PublisherCommand),
}

/// What `import` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct ImportArgs {
    #[command(flatten)]
    content: ContentArgs,
    /// What people call it; a signature says so itself.
    #[arg(long, required_unless_present = "signature")]
    name: Option<String>,
    /// Which version of it; a signature says so itself.
    #[arg(long, required_unless_present = "signature")]
    version: Option<String>,
    /// The publisher's signature (`hanse artifact sign`).
    #[arg(long, conflicts_with_all = ["name", "version"])]
    signature: Option<PathBuf>,
    /// Take it without a signature; only administrators may, and say why with --reason.
    #[arg(long, requires = "reason", conflicts_with = "signature")]
    allow_unsigned: bool,
    /// Why it is right to take it unsigned, for the audit trail.
    #[arg(long, requires = "allow_unsigned")]
    reason: Option<String>,
}

/// Verbs of `hanse artifact publisher`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum PublisherCommand {
    /// Believe a publisher's signatures from now on.
    Pin {
        /// Its name here.
        publisher: String,
        /// Its Ed25519 key in hex, got by a way that can be trusted (`hanse key show`).
        #[arg(long)]
        key: String,
    },
    /// Believe a publisher no more; what it signed and was imported stays.
    Unpin {
        /// Its name here.
        publisher: String,
    },
    /// List publishers.
    List {
        #[command(flatten)]
        list: ListArgs,
    },
}

const ARTIFACT: View = View { key: "artifact", name: "sha256", columns: &[] };
const WITH_COPIES: View = View { key: "", name: "artifact.sha256", columns: &[] };
const ARTIFACTS: View = View {
    key: "artifacts",
    name: "sha256",
    columns: &[
        ("NAME", "title"),
        ("VERSION", "version"),
        ("KIND", "kind"),
        ("BYTES", "size_bytes"),
        ("SHA256", "sha256"),
        ("PUBLISHER", "publisher"),
        ("UNSIGNED", "unsigned_reason"),
        ("IMPORTED", "imported_at_ms"),
    ],
};
const COPIES: View = View {
    key: "copies",
    name: "replica",
    columns: &[("REPLICA", "replica"), ("STATE", "state"), ("FILES", "files"), ("REASON", "reason")],
};
const PUBLISHER: View = View { key: "publisher", name: "publisher", columns: &[] };
const PUBLISHERS: View = View {
    key: "publishers",
    name: "publisher",
    columns: &[("PUBLISHER", "publisher"), ("KEY", "public_key"), ("PINNED", "pinned_at_ms")],
};

/// Longest wait for a majority of copies, and for a comparison, if the command has no time of its own.
const WAIT: Duration = Duration::from_secs(120);
/// Between two questions how far a comparison is.
const CHECK_EVERY: Duration = Duration::from_millis(500);
const CHECKING: &str = "CHECKING";

/// Runs a verb.
///
/// # Errors
/// A file cannot be read or written, or is not what the manifest or signature says; a call failed.
pub(crate) async fn run(command: ArtifactCommand, global: &Global) -> Result<(), CliError> {
    match command {
        ArtifactCommand::Describe { folder, program, out } => describe(global, &folder, &program, &out),
        ArtifactCommand::Sign { content, name, version, key, out } => {
            sign(global, &content, &name, &version, &key, &out)
        }
        ArtifactCommand::Verify { artifact, manifest: Some(manifest) } => {
            compare(global, Path::new(&artifact), &manifest)
        }
        command => on_platform(command, &Context::new(global)?).await,
    }
}

async fn on_platform(command: ArtifactCommand, context: &Context) -> Result<(), CliError> {
    match command {
        ArtifactCommand::Describe { .. } | ArtifactCommand::Sign { .. } => Ok(()),
        ArtifactCommand::Import(args) => import(*args, context).await,
        ArtifactCommand::List { list } => {
            let filter = list.filter();
            let request =
                |page_token| pb::ListArtifactsRequest { page_size: PAGE_SIZE, page_token, filter: filter.clone() };
            context.show_pages(ARTIFACTS, request, list.limit).await
        }
        ArtifactCommand::Get { artifact } => {
            let sha256 = resolve(context, &artifact).await?;
            context.show(pb::GetArtifactRequest { sha256 }, WITH_COPIES).await
        }
        ArtifactCommand::Verify { artifact, .. } => verify(context, &artifact).await,
        ArtifactCommand::Delete { artifact } => {
            let sha256 = resolve(context, &artifact).await?;
            context.confirm_by_name(&format!("Delete {artifact} from every replica?"), &artifact)?;
            let validate_only = context.global.dry_run;
            let view = View { key: "", name: "header.revision", columns: &[] };
            context.show(pb::DeleteArtifactRequest { request_id: String::new(), validate_only, sha256 }, view).await
        }
        ArtifactCommand::Publisher(command) => publishers(command, context).await,
    }
}

async fn publishers(command: PublisherCommand, context: &Context) -> Result<(), CliError> {
    let (request_id, validate_only) = (String::new(), context.global.dry_run);
    match command {
        PublisherCommand::Pin { publisher, key } => {
            context.confirm(&format!("Believe software that is signed with {key}?"))?;
            let request = pb::PinPublisherRequest { request_id, validate_only, publisher, public_key: key };
            context.show(request, PUBLISHER).await
        }
        PublisherCommand::Unpin { publisher } => {
            context.confirm(&format!("Believe {publisher} no more?"))?;
            let view = View { key: "", name: "header.revision", columns: &[] };
            context.show(pb::UnpinPublisherRequest { request_id, validate_only, publisher }, view).await
        }
        PublisherCommand::List { list } => {
            let filter = list.filter();
            let request =
                |page_token| pb::ListPublishersRequest { page_size: PAGE_SIZE, page_token, filter: filter.clone() };
            context.show_pages(PUBLISHERS, request, list.limit).await
        }
    }
}

async fn import(args: ImportArgs, context: &Context) -> Result<(), CliError> {
    let content = Content::read(&args.content)?;
    let mut request = pb::ImportArtifactRequest {
        request_id: String::new(),
        validate_only: true,
        sha256: content.sha256.clone(),
        title: args.name.unwrap_or_default(),
        version: args.version.unwrap_or_default(),
        kind: content.kind.wire().into(),
        size_bytes: content.size,
        files: content.files,
        program: content.program.clone(),
        unsigned_reason: args.reason.unwrap_or_default(),
        ..pb::ImportArtifactRequest::default()
    };
    if let Some(path) = &args.signature {
        let signature = Signature::read(path, &content)?;
        request.publisher = publisher_of(context, &signature.public_key).await?;
        (request.title, request.version, request.signature) = (signature.name, signature.version, signature.signature);
    } else if !args.allow_unsigned {
        let advice = "Give --signature FILE; an administrator may take it with --allow-unsigned --reason WHY.";
        return Err(CliError::local("the software has no signature", advice));
    }
    // Everything but the content is judged before it is sent.
    context.call(request.clone()).await?;
    if context.global.dry_run {
        return context.show(request, ARTIFACT).await;
    }
    upload::put(context, &content).await?;
    context.show(pb::ImportArtifactRequest { validate_only: false, ..request }, ARTIFACT).await?;
    if context.global.no_wait {
        return Ok(());
    }
    upload::wait_for_majority(context, &content.sha256, context.global.timeout.unwrap_or(WAIT)).await
}

/// Under which name the platform has pinned that key.
async fn publisher_of(context: &Context, public_key: &str) -> Result<String, CliError> {
    let request =
        pb::ListPublishersRequest { page_size: PAGE_SIZE, page_token: String::new(), filter: public_key.into() };
    let found = context.call(request).await?.publishers;
    found.into_iter().find(|it| it.public_key == public_key).map(|it| it.publisher).ok_or_else(|| {
        let advice = format!(
            "Compare the key with its publisher by another way; an administrator then pins it: \
             hanse artifact publisher pin NAME --key {public_key}"
        );
        CliError::local(format!("the signature is of the key {public_key}, which is not pinned here"), advice)
    })
}

async fn verify(context: &Context, artifact: &str) -> Result<(), CliError> {
    let sha256 = resolve(context, artifact).await?;
    let request_id = context.global.request_id.clone().unwrap_or_else(hanse_client::new_request_id);
    let until = tokio::time::Instant::now() + context.global.timeout.unwrap_or(WAIT);
    loop {
        let request = pb::VerifyArtifactRequest { request_id: request_id.clone(), sha256: sha256.clone() };
        let value = context.json(request).await?;
        let states: Vec<&str> =
            value["copies"].as_array().into_iter().flatten().filter_map(|copy| copy["state"].as_str()).collect();
        let reading = states.iter().any(|state| state.ends_with(CHECKING));
        if reading && tokio::time::Instant::now() < until {
            tokio::time::sleep(CHECK_EVERY).await;
            continue;
        }
        let well = states.iter().all(|state| state.ends_with("WHOLE"));
        context.print(super::view::Shown { value, view: COPIES })?;
        return match (well, reading) {
            (true, _) => Ok(()),
            (false, true) => Err(CliError::StillRunning("some replicas are still reading".into())),
            (false, false) => Err(CliError::Failed(
                "not every replica has it whole; damaged files are fetched again by themselves: ask once more in a moment".into(),
            )),
        };
    }
}

/// The SHA-256 of what is named by it or by name@version.
async fn resolve(context: &Context, artifact: &str) -> Result<String, CliError> {
    let Some((name, version)) = artifact.split_once('@') else { return Ok(artifact.to_owned()) };
    let mut page_token = String::new();
    loop {
        let request = pb::ListArtifactsRequest { page_size: PAGE_SIZE, page_token, filter: name.into() };
        let answer = context.call(request).await?;
        if let Some(found) = answer.artifacts.into_iter().find(|it| it.title == name && it.version == version) {
            return Ok(found.sha256);
        }
        if answer.next_page_token.is_empty() {
            let message = format!("the platform keeps no {artifact}");
            return Err(CliError::local(message, "See what there is with `hanse artifact list`."));
        }
        page_token = answer.next_page_token;
    }
}

fn describe(global: &Global, folder: &Path, program: &str, out: &Path) -> Result<(), CliError> {
    let failed = |reason: String| CliError::local(reason, "Correct it and run the command again.");
    let manifest = hanse_hostrun::describe_bundle(folder, program).map_err(failed)?;
    let text = manifest_text(&manifest).map_err(|e| failed(e.to_string()))?;
    write_new(out, &text).map_err(|e| failed(format!("{}: {e}", out.display())))?;
    let (sha256, files) = (content::sha256_of(text.as_bytes()), manifest.files.len());
    show(global, "sha256", json!({ "manifest": out, "sha256": sha256, "program": program, "files": files }))
}

fn sign(
    global: &Global,
    content: &ContentArgs,
    name: &str,
    version: &str,
    key: &Path,
    out: &Path,
) -> Result<(), CliError> {
    let key = MemberKey::load(key)?;
    let content = Content::read(content)?;
    let signature = Signature::make(&key, &content, name, version);
    let failed = |reason: String| CliError::local(reason, "Correct it and run the command again.");
    let text = serde_json::to_string_pretty(&signature).map_err(|e| failed(e.to_string()))? + "\n";
    write_new(out, &text).map_err(|e| failed(format!("{}: {e}", out.display())))?;
    let public_key = key.public_hex();
    show(global, "sha256", json!({ "signature": out, "sha256": content.sha256, "public_key": public_key }))
}

fn compare(global: &Global, folder: &Path, manifest: &Path) -> Result<(), CliError> {
    let fix = "Put the files back that the manifest was made of, or make a new manifest and tell every replica.";
    let found = hanse_hostrun::load_bundle(manifest, folder).map_err(|reason| CliError::local(reason, fix))?;
    let (sha256, files, program) = (found.manifest.sha256, found.files.len(), found.program);
    show(global, "sha256", json!({ "manifest": manifest, "sha256": sha256, "program": program, "files": files }))
}

/// A manifest as it is written and hashed; the same files give the same bytes.
fn manifest_text(manifest: &hanse_adapters_core::Manifest) -> Result<String, serde_json::Error> {
    Ok(serde_json::to_string_pretty(manifest)? + "\n")
}

fn write_new(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
