//! `hanse key`: key files on this machine. A member key (Ed25519) signs ballots; an account key (secp256k1) signs
//! transactions. Neither is ever sent anywhere.

use std::path::PathBuf;

use hanse_client::MemberKey;
use serde_json::{Value, json};

use super::context::Global;
use super::error::CliError;
use super::view::{Shown, View};
use crate::output::{self, Format};
use crate::wallet::Wallet;

/// Verbs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a member key (Ed25519, PKCS#8 PEM) in a new file.
    Generate {
        /// File that does not exist yet.
        file: PathBuf,
    },
    /// Show the public part of a member key.
    Show {
        /// Its file.
        file: PathBuf,
    },
    /// Make an account key (secp256k1) in a new file.
    AccountGenerate {
        /// File that does not exist yet.
        file: PathBuf,
    },
    /// Show the address of an account key.
    AccountShow {
        /// Its file.
        file: PathBuf,
    },
}

/// Runs a verb; needs no replica.
///
/// # Errors
/// The file cannot be read or written.
pub(crate) fn run(command: KeyCommand, global: &Global) -> Result<(), CliError> {
    match command {
        KeyCommand::Generate { file } => {
            let key = MemberKey::generate()?;
            key.save_new(&file)?;
            show(global, "public_key", json!({ "file": file, "public_key": key.public_hex() }))
        }
        KeyCommand::Show { file } => {
            let key = MemberKey::load(&file)?;
            show(global, "public_key", json!({ "file": file, "public_key": key.public_hex() }))
        }
        KeyCommand::AccountGenerate { file } => {
            let wallet = Wallet::generate().map_err(wallet_error)?;
            wallet.save_new(&file).map_err(wallet_error)?;
            show(global, "address", json!({ "file": file, "address": wallet.address() }))
        }
        KeyCommand::AccountShow { file } => {
            let wallet = Wallet::load(&file).map_err(wallet_error)?;
            show(global, "address", json!({ "file": file, "address": wallet.address() }))
        }
    }
}

/// Returns the error of an account key with its causes.
pub(crate) fn wallet_error(error: anyhow::Error) -> CliError {
    CliError::local(format!("{error:#}"), "Make an account key with `hanse key account-generate FILE`.")
}

/// Prints what was done on this machine.
pub(super) fn show(global: &Global, name: &'static str, value: Value) -> Result<(), CliError> {
    let shown = Shown { value, view: View { key: "", name, columns: &[] } };
    match global.format() {
        Format::Json => output::print_json(&shown.value)?,
        Format::Name => output::print(&shown.names())?,
        Format::Table => output::print(&shown.table())?,
    }
    Ok(())
}
