//! What every command shares: the global flags, the client made of them, printing, asking, waiting.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use hanse_client::{Call, CallOptions, Client, ClientConfig, files, pb};
use serde_json::Value;

use super::error::CliError;
use super::units::parse_duration;
use super::view::{Shown, View};
use crate::output::{self, Format};

/// Answers of a list that are gathered at most; more needs a filter.
const PAGES_MAX: usize = 1_000;
/// Answers asked for at once.
pub(crate) const PAGE_SIZE: i32 = 200;
/// An authority's certificate is a few kilobytes.
const CA_BYTES_MAX: u64 = 1 << 20;

/// Flags that every noun takes.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Global {
    /// Address of a replica's API, host:port; may be repeated or a comma list.
    #[arg(long, global = true, env = "HANSE_ENDPOINT", value_delimiter = ',', value_name = "HOST:PORT")]
    pub(crate) endpoint: Vec<String>,
    /// File with the certificate of the API's authority (PEM).
    #[arg(long, global = true, env = "HANSE_CA", value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// File the session token is kept in.
    #[arg(long, global = true, env = "HANSE_TOKEN_FILE", value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// How answers are printed.
    #[arg(short = 'o', long, global = true, env = "HANSE_OUTPUT", value_enum, value_name = "FORMAT")]
    pub(crate) output: Option<Format>,
    /// UUIDv7 of this write; the same id again gives the first answer and never acts twice.
    #[arg(long, global = true, value_name = "UUID")]
    pub(crate) request_id: Option<String>,
    /// Longest time for the whole command, e.g. 30s or 5m.
    #[arg(long, global = true, value_parser = parse_duration, value_name = "TIME")]
    pub(crate) timeout: Option<Duration>,
    /// Do not ask before acting, except before what cannot be undone.
    #[arg(long, short = 'y', global = true)]
    pub(crate) yes: bool,
    /// Do what cannot be undone to the one with this name (a replica's number, the cluster's name) without asking.
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) confirm: Option<String>,
    /// Wait until the ordered work has ended; the default on a terminal.
    #[arg(long, global = true, overrides_with = "no_wait")]
    pub(crate) wait: bool,
    /// Do not wait for ordered work.
    #[arg(long, global = true)]
    pub(crate) no_wait: bool,
    /// Only check; change nothing.
    #[arg(long, global = true)]
    pub(crate) dry_run: bool,
}

impl Global {
    /// Returns how answers are printed.
    pub(crate) fn format(&self) -> Format {
        self.output.unwrap_or_default()
    }

    /// Returns where the session token is kept.
    ///
    /// # Errors
    /// Neither flag nor environment say where.
    pub(crate) fn token_path(&self) -> Result<PathBuf, CliError> {
        if let Some(path) = &self.token_file {
            return Ok(path.clone());
        }
        // The XDG specification: a relative path is not valid and is ignored.
        let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        absolute("XDG_STATE_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
            .map(|state| state.join("hanse/token"))
            .ok_or_else(|| CliError::local("there is no home folder to keep the session in", "Give --token-file."))
    }

    /// Returns the client's configuration: endpoints, authority, and the token if there is one.
    ///
    /// # Errors
    /// A flag is missing or a file cannot be read.
    pub(crate) fn client_config(&self) -> Result<ClientConfig, CliError> {
        if self.endpoint.is_empty() {
            return Err(CliError::local("no replica is named", "Give --endpoint HOST:PORT or set HANSE_ENDPOINT."));
        }
        let Some(ca) = &self.ca else {
            return Err(CliError::local("no authority is named", "Give --ca FILE or set HANSE_CA."));
        };
        let size = std::fs::metadata(ca).map_err(|error| CliError::file(ca, &error))?.len();
        if size > CA_BYTES_MAX {
            return Err(CliError::file(ca, &"is too large for a certificate"));
        }
        let pem = std::fs::read_to_string(ca).map_err(|error| CliError::file(ca, &error))?;
        let mut config = ClientConfig::new(self.endpoint.clone(), pem);
        let path = self.token_path()?;
        match files::read(&path) {
            Ok(token) => config.token = Some(token.trim().to_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(CliError::file(&path, &error)),
        }
        if let Some(overall) = self.timeout {
            config.timeouts.overall = overall;
            config.timeouts.attempt = config.timeouts.attempt.min(overall);
        }
        Ok(config)
    }
}

/// A running command.
pub(crate) struct Context {
    /// The global flags.
    pub(crate) global: Global,
    /// The client.
    pub(crate) client: Client,
}

impl Context {
    /// Returns the context of a command; nothing is sent yet.
    ///
    /// # Errors
    /// The flags are not enough or wrong.
    pub(crate) fn new(global: &Global) -> Result<Context, CliError> {
        let client = Client::new(global.client_config()?)?;
        Ok(Context { global: global.clone(), client })
    }

    /// Returns the response of a request; the id of `--request-id` goes with a write that has none.
    ///
    /// # Errors
    /// The call failed.
    pub(crate) async fn call<C: Call>(&self, request: C) -> Result<C::Response, CliError> {
        let options = CallOptions { overall: self.global.timeout, ..CallOptions::default() };
        self.call_with(request, options).await
    }

    /// As [`Context::call`], of an answer that takes long: one attempt may take the whole time, which is `limit` if none is given.
    ///
    /// # Errors
    /// The call failed.
    pub(crate) async fn call_long<C: Call>(&self, request: C, limit: Duration) -> Result<C::Response, CliError> {
        let overall = Some(self.global.timeout.unwrap_or(limit));
        self.call_with(request, CallOptions { overall, whole: true, ..CallOptions::default() }).await
    }

    async fn call_with<C: Call>(&self, mut request: C, options: CallOptions) -> Result<C::Response, CliError> {
        if let (Some(given), Some(id)) = (&self.global.request_id, request.request_id_mut()) {
            given.clone_into(id);
        }
        Ok(self.client.call_with(request, options).await?)
    }

    /// Returns the response of a request as JSON.
    ///
    /// # Errors
    /// The call failed.
    pub(crate) async fn json<C: Call>(&self, request: C) -> Result<Value, CliError> {
        let response = self.call(request).await?;
        Ok(hanse_client::json::response::<C>(&response))
    }

    /// Calls and prints one thing.
    ///
    /// # Errors
    /// The call failed.
    pub(crate) async fn show<C: Call>(&self, request: C, view: View) -> Result<(), CliError> {
        let value = self.json(request).await?;
        self.print(Shown { value, view })
    }

    /// Calls for page after page and prints all items as one answer.
    ///
    /// # Errors
    /// A call failed, or there are too many pages.
    pub(crate) async fn show_pages<C: Call>(
        &self,
        view: View,
        request: impl Fn(String) -> C,
        limit: Option<usize>,
    ) -> Result<(), CliError> {
        let mut all = self.json(request(String::new())).await?;
        for _ in 0..PAGES_MAX {
            let token = all["next_page_token"].as_str().unwrap_or_default().to_owned();
            let enough = limit.is_some_and(|limit| all[view.key].as_array().map_or(0, Vec::len) >= limit);
            if token.is_empty() || enough {
                if let (Some(limit), Some(items)) = (limit, all[view.key].as_array_mut()) {
                    items.truncate(limit);
                }
                return self.print(Shown { value: all, view });
            }
            let mut page = self.json(request(token)).await?;
            if let (Some(items), Some(more)) = (all[view.key].as_array_mut(), page[view.key].as_array_mut()) {
                items.append(more);
            }
            all["next_page_token"] = page["next_page_token"].take();
        }
        Err(CliError::local("the list is too long", "Narrow it with --filter."))
    }

    /// Prints an answer in the wished format.
    ///
    /// # Errors
    /// stdout cannot be written.
    pub(crate) fn print(&self, shown: Shown) -> Result<(), CliError> {
        match self.global.format() {
            Format::Json => output::print_json(&shown.value)?,
            Format::Name => output::print(&shown.names())?,
            Format::Table => output::print(&shown.table())?,
        }
        Ok(())
    }

    /// Says something on the way, on stderr.
    pub(crate) fn say(&self, text: &str) {
        // Progress that cannot be written must not end the work.
        let _ = writeln!(std::io::stderr(), "{}", output::harmless(text));
    }

    /// Returns when the user agrees.
    ///
    /// # Errors
    /// The user does not, or nobody can be asked.
    pub(crate) fn confirm(&self, question: &str) -> Result<(), CliError> {
        if self.global.yes || self.global.dry_run {
            return Ok(());
        }
        if !std::io::stdin().is_terminal() {
            return Err(CliError::local(format!("{question} needs an answer"), "Add --yes."));
        }
        eprint!("{} [y/N] ", output::harmless(question));
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        match answer.trim() {
            "y" | "Y" | "yes" => Ok(()),
            _ => Err(CliError::local("not confirmed; nothing was done", "")),
        }
    }

    /// Returns when the user has named what something irrevocable is done to, by `--confirm` or on the terminal.
    ///
    /// # Errors
    /// The user named something else or nothing, or nobody can be asked.
    pub(crate) fn confirm_by_name(&self, question: &str, name: &str) -> Result<(), CliError> {
        if self.global.dry_run {
            return Ok(());
        }
        let advice = format!("Add --confirm={name}.");
        if let Some(given) = &self.global.confirm {
            let words = || format!("--confirm names {given}, not {name}; nothing was done");
            return if given == name { Ok(()) } else { Err(CliError::local(words(), &advice)) };
        }
        if !std::io::stdin().is_terminal() {
            return Err(CliError::local(format!("{question} needs an answer that --yes does not give"), &advice));
        }
        eprint!("{} Type {} to go on: ", output::harmless(question), output::harmless(name));
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        match answer.trim() == name {
            true => Ok(()),
            false => Err(CliError::local("not confirmed; nothing was done", "")),
        }
    }

    /// Refuses `--dry-run` where the server cannot only check.
    ///
    /// # Errors
    /// `--dry-run` was given.
    pub(crate) fn refuse_dry_run(&self, what: &str) -> Result<(), CliError> {
        if self.global.dry_run {
            return Err(CliError::local(format!("{what} cannot only be checked"), "Leave --dry-run out."));
        }
        Ok(())
    }

    /// Returns whether to wait for ordered work.
    pub(crate) fn waits(&self) -> bool {
        !self.global.dry_run && (self.global.wait || (!self.global.no_wait && std::io::stderr().is_terminal()))
    }

    /// Returns the tenant of the session's account, or the given one.
    ///
    /// # Errors
    /// The account belongs to no tenant, or the call failed.
    pub(crate) async fn tenant(&self, given: Option<String>) -> Result<String, CliError> {
        if let Some(tenant) = given {
            return Ok(tenant);
        }
        let account = self.call(pb::WhoAmIRequest {}).await?.account.unwrap_or_default();
        if account.tenant.is_empty() {
            return Err(CliError::local(
                format!("account {} belongs to no tenant", account.account),
                "Log in with an account of a tenant, or give --tenant.",
            ));
        }
        Ok(account.tenant)
    }
}
