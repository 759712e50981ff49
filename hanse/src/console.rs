//! Opens the operators' console.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use hanse_client::ClientConfig;
use hanse_tui::ConsoleOptions;
use hanse_tui::i18n::Lang;

use crate::cli::Global;

/// What `hanse console` takes besides the global flags.
#[derive(Debug, clap::Args)]
pub(crate) struct ConsoleArgs {
    /// Open this screen first, e.g. `:chains`.
    start: Option<String>,
    /// Language of the console: en or zh; by default the locale's.
    #[arg(long, env = "HANSE_LANG")]
    lang: Option<String>,
    /// Draw with ASCII only.
    #[arg(long)]
    ascii: bool,
    /// Bind no key that changes anything.
    #[arg(long)]
    read_only: bool,
    /// Member key offered when voting.
    #[arg(long)]
    key: Option<PathBuf>,
}

/// Runs the console and returns the program's exit code.
pub(crate) async fn run(global: &Global, args: ConsoleArgs) -> ExitCode {
    match open(global, args).await {
        Ok(code) => ExitCode::from(code),
        Err(words) => {
            eprintln!("{}", words.trim_end());
            ExitCode::from(2)
        }
    }
}

/// The error is what people are told, whole.
async fn open(global: &Global, args: ConsoleArgs) -> Result<u8, String> {
    let lang = match args.lang.as_deref() {
        None => None,
        Some("en") => Some(Lang::En),
        Some("zh" | "zh-CN") => Some(Lang::Zh),
        Some(other) => return Err(format!("hanse console: --lang {other}: the console speaks en and zh")),
    };
    let options = ConsoleOptions {
        client: global.client_config().map_err(|error| error.for_people())?,
        token_path: Some(global.token_path().map_err(|error| error.for_people())?),
        lang,
        ascii: args.ascii,
        read_only: args.read_only,
        start: args.start,
        key_path: args.key,
    };
    hanse_tui::run(options).await.map_err(|error| format!("hanse console: {error}"))
}

/// The console of `hanse dev`: with a session at hand that is not kept in a file.
pub(crate) async fn demo(endpoints: Vec<String>, ca: PathBuf, token: String, key: PathBuf) -> Result<()> {
    let ca = std::fs::read_to_string(&ca).with_context(|| format!("read {}", ca.display()))?;
    let client = ClientConfig { token: Some(token), ..ClientConfig::new(endpoints, ca) };
    let options = ConsoleOptions {
        client,
        token_path: None,
        lang: None,
        ascii: false,
        read_only: false,
        start: None,
        key_path: Some(key),
    };
    hanse_tui::run(options).await?;
    Ok(())
}
