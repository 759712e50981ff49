//! Whether a block that this node has not executed was decided by its chain.

use alloy_primitives::B256;

use super::cert;
use super::context::{Cx, Validators};
use super::wire::CertificateForm;
use crate::NodeError;
use crate::block::Block;
use crate::genesis::Genesis;
use crate::governance;
use crate::store::Snapshot;
use arc_malachitebft_core_types::CommitCertificate;

/// Whether the block can be believed before anything of it is known: it is the one that the operator
/// trusts, or validators of the genesis with more than two thirds of its power have signed it.
///
/// # Errors
/// Neither is so; what the operator can do.
pub(crate) fn vouched(
    genesis: &Genesis,
    chain: B256,
    block: &Block,
    certificate: &[u8],
    trusted: Option<B256>,
) -> Result<(), NodeError> {
    match trusted {
        Some(hash) if hash == block.hash() => return Ok(()),
        Some(hash) => {
            return Err(refuse(
                "block",
                format!("its block {} is {}, not the trusted {hash}", block.number(), block.hash()),
                "compare block hashes with a member's node",
            ));
        }
        None => {}
    }
    let mut certificate = read(block, certificate)?;
    let validators = Validators::of(&genesis.validators);
    // Validators that came later do not count here; their signatures are checked against the state.
    certificate.commit_signatures.retain(|signed| validators.get(&signed.address).is_some());
    cert::verify_commit(&chain, &certificate, &validators, Default::default()).map_err(|error| {
        refuse(
            "certificate",
            format!("the genesis' validators do not vouch for block {}: {error}", block.number()),
            "if validators have changed since the genesis, ask a member for the block's hash and name it as trusted",
        )
    })
}

/// Whether the validators that the state after the block names have decided it.
///
/// # Errors
/// They have not, or the store cannot be read.
pub(crate) fn decided(
    genesis: &Genesis,
    snapshot: &Snapshot,
    block: &Block,
    certificate: &[u8],
) -> Result<(), NodeError> {
    let validators = governance::validators_at(snapshot.latest(), genesis, block.number())?;
    let chain = snapshot.block_hash(0)?.unwrap_or_default();
    cert::verify_commit(&chain, &read(block, certificate)?, &Validators::of(&validators), Default::default()).map_err(
        |error| {
            refuse(
                "certificate",
                format!("it does not prove block {}: {error}", block.number()),
                "take the snapshot of another node",
            )
        },
    )
}

fn read(block: &Block, certificate: &[u8]) -> Result<CommitCertificate<Cx>, NodeError> {
    let wrong = |reason: String| refuse("certificate", reason, "take the snapshot of another node");
    let certificate = CertificateForm::read(certificate).and_then(|form| form.commit()).map_err(wrong)?;
    if certificate.height.0 != block.number() || certificate.value_id != block.hash() {
        return Err(refuse("certificate", "it is of another block".to_owned(), "take the snapshot of another node"));
    }
    Ok(certificate)
}

fn refuse(field: &str, reason: String, action: &str) -> NodeError {
    NodeError::invalid("snapshot", field, reason, action)
}
