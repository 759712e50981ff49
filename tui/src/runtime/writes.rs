//! Changes as calls of the client.

use std::path::Path;

use hanse_client::{CallOptions, Client, ClientError, pb};

use super::api::{LOOK_LIMIT, id, order_of, revision, within};
use super::signed::{Shown, cast, log_in};
use crate::app::effect::Write;
use crate::app::model::data::Failure;
use crate::app::msg::Written;
use crate::convert;

/// Carries out a change. The client mints its request id and keeps it over all repeats.
///
/// # Errors
/// The refusal, or that the outcome is not known.
pub(super) async fn write(client: &Client, token_path: Option<&Path>, write: Write) -> Result<Written, Failure> {
    let done = |resource: String, header: Option<pb::ResponseHeader>| Written {
        resource,
        revision: revision(header),
        ..Written::default()
    };
    let call = |e: ClientError| convert::failure(&e);
    match write {
        Write::Login { account, password } => log_in(client, token_path, account, password).await,
        Write::Bootstrap { code, account, password } => {
            let request = pb::BootstrapRequest {
                setup_code: code,
                account: account.clone(),
                password: password.clone(),
                ..Default::default()
            };
            client.call(request).await.map_err(call)?;
            log_in(client, token_path, account, password).await
        }
        Write::CastBallot { proposal, choice, artifact, tenant, cluster_id, key_path } => {
            cast(client, Shown { proposal, artifact, tenant, cluster_id }, choice, key_path.into()).await
        }
        Write::RestartNode { node } => {
            let (consortium, chain, name) = convert::plan::node_parts(&node)?;
            let reason = "console".to_owned();
            let request = pb::RestartNodeRequest { consortium, chain, node: name, reason, ..Default::default() };
            Ok(done(node, client.call(request).await.map_err(call)?.header))
        }
        Write::MoveNode { node } => {
            let (consortium, chain, name) = convert::plan::node_parts(&node)?;
            let reason = "console".to_owned();
            let request = pb::MoveNodeRequest { consortium, chain, node: name, reason, ..Default::default() };
            Ok(done(node, client.call(request).await.map_err(call)?.header))
        }
        Write::PauseChain { chain } => {
            let (consortium, id, reason) = order_of(&chain)?;
            let request = pb::PauseChainRequest { consortium, chain: id, reason, ..Default::default() };
            Ok(done(chain, client.call(request).await.map_err(call)?.header))
        }
        Write::ResumeChain { chain } => {
            let (consortium, id, reason) = order_of(&chain)?;
            let request = pb::ResumeChainRequest { consortium, chain: id, reason, ..Default::default() };
            Ok(done(chain, client.call(request).await.map_err(call)?.header))
        }
        Write::RollChain { chain } => {
            let (consortium, id, reason) = order_of(&chain)?;
            let request = pb::RollChainRequest { consortium, chain: id, reason, ..Default::default() };
            Ok(done(chain, client.call(request).await.map_err(call)?.header))
        }
        Write::RollBackChain { chain } => {
            let (consortium, id, reason) = order_of(&chain)?;
            let request = pb::RollBackChainRequest { consortium, chain: id, reason, ..Default::default() };
            Ok(done(chain, client.call(request).await.map_err(call)?.header))
        }
        Write::ContinueRollout { chain } => {
            let (consortium, id, reason) = order_of(&chain)?;
            let request = pb::ContinueRolloutRequest { consortium, chain: id, reason, ..Default::default() };
            Ok(done(chain, client.call(request).await.map_err(call)?.header))
        }
        Write::SetChainRepair { chain, restarts_per_hour, reason } => {
            let (consortium, id) = within(&chain, "chains")?;
            let id = id.to_owned();
            let request =
                pb::SetChainRepairRequest { consortium, chain: id, restarts_per_hour, reason, ..Default::default() };
            Ok(done(chain, client.call(request).await.map_err(call)?.header))
        }
        Write::ImportChain(import) => {
            let name = format!("consortiums/{}/chains/{}", import.consortium, import.chain);
            let request = convert::import(*import);
            let options = CallOptions { overall: Some(LOOK_LIMIT), ..CallOptions::default() };
            Ok(done(name, client.call_with(request, options).await.map_err(call)?.header))
        }
        Write::AdoptChain { chain, nodes, reason } => {
            let (consortium, id) = within(&chain, "chains")?;
            let node = |(node, host, home, stop)| pb::AdoptedNode { node, host, home, stop };
            let (id, nodes) = (id.to_owned(), nodes.into_iter().map(node).collect());
            let request = pb::AdoptChainRequest { consortium, chain: id, nodes, reason, ..Default::default() };
            let options = CallOptions { overall: Some(LOOK_LIMIT), whole: true, ..CallOptions::default() };
            Ok(done(chain, client.call_with(request, options).await.map_err(call)?.header))
        }
        Write::ForgetChain { chain, lost } => {
            let (consortium, id, reason) = order_of(&chain)?;
            let request = pb::ForgetChainRequest { consortium, chain: id, reason, lost, ..Default::default() };
            Ok(done(chain, client.call(request).await.map_err(call)?.header))
        }
        Write::GiveBackNode { node } => {
            let (consortium, chain, name) = convert::plan::node_parts(&node)?;
            let reason = "console".to_owned();
            let request = pb::GiveBackNodeRequest { consortium, chain, node: name, reason, ..Default::default() };
            Ok(done(node, client.call(request).await.map_err(call)?.header))
        }
        Write::SetHostReach { host, change } => {
            let wrong = |message| Failure { reason: "INVALID_WAY".to_owned(), message, ..Failure::default() };
            let request = convert::set_reach(id(&host), *change).map_err(wrong)?;
            let options = CallOptions { overall: Some(LOOK_LIMIT), ..CallOptions::default() };
            Ok(done(host, client.call_with(request, options).await.map_err(call)?.header))
        }
        Write::UndeleteChain { chain } => {
            let (consortium, id, reason) = order_of(&chain)?;
            let request = pb::UndeleteChainRequest { consortium, chain: id, reason, ..Default::default() };
            Ok(done(chain, client.call(request).await.map_err(call)?.header))
        }
        Write::CordonHost { host } => {
            let request = pb::CordonHostRequest { host: id(&host), reason: "console".to_owned(), ..Default::default() };
            Ok(done(host, client.call(request).await.map_err(call)?.header))
        }
        Write::MaintainHost { host } => {
            let reason = "console".to_owned();
            let request = pb::BeginHostMaintenanceRequest { host: id(&host), reason, ..Default::default() };
            Ok(done(host, client.call(request).await.map_err(call)?.header))
        }
        Write::DrainHost { host } => {
            let request = pb::DrainHostRequest { host: id(&host), reason: "console".to_owned(), ..Default::default() };
            Ok(done(host, client.call(request).await.map_err(call)?.header))
        }
        Write::RetireHost { host } => {
            let request = pb::RetireHostRequest { host: id(&host), reason: "console".to_owned(), ..Default::default() };
            Ok(done(host, client.call(request).await.map_err(call)?.header))
        }
        Write::AddCloud { cloud } => {
            let answer = client.call(convert::cloud::add(*cloud)).await.map_err(call)?;
            Ok(done(answer.cloud.map(|it| it.name).unwrap_or_default(), answer.header))
        }
        Write::RemoveCloud { cloud } => {
            let request = pb::RemoveCloudRequest { cloud: id(&cloud), ..Default::default() };
            Ok(done(cloud, client.call(request).await.map_err(call)?.header))
        }
        Write::CreateMachine { machine } => {
            // The cloud is looked at first, which takes as long as its answers.
            let options = CallOptions { overall: Some(LOOK_LIMIT), ..CallOptions::default() };
            let answer = client.call_with(convert::cloud::create(*machine), options).await.map_err(call)?;
            Ok(done(answer.machine.map(|it| it.name).unwrap_or_default(), answer.header))
        }
        Write::DeleteMachine { machine } => {
            let reason = "console".to_owned();
            let request = pb::DeleteMachineRequest { machine: id(&machine), reason, ..Default::default() };
            Ok(done(machine, client.call(request).await.map_err(call)?.header))
        }
        Write::UncordonHost { host } => {
            let request = pb::UncordonHostRequest { host: id(&host), ..Default::default() };
            Ok(done(host, client.call(request).await.map_err(call)?.header))
        }
        Write::AcceptHostKey { host, fingerprint } => {
            let request = pb::AcceptHostKeyRequest { host: id(&host), fingerprint, ..Default::default() };
            Ok(done(host, client.call(request).await.map_err(call)?.header))
        }
        Write::TransferLeader { replica } => {
            let reason = "console".to_owned();
            let request = pb::TransferLeaderRequest { replica: replica.clone(), reason, ..Default::default() };
            Ok(done(replica, client.call(request).await.map_err(call)?.header))
        }
        Write::PromoteReplica { replica } => {
            let reason = "console".to_owned();
            let request = pb::PromoteReplicaRequest { replica: replica.clone(), reason, ..Default::default() };
            Ok(done(replica, client.call(request).await.map_err(call)?.header))
        }
        Write::RemoveReplica { replica } => {
            let reason = "console".to_owned();
            let request = pb::RemoveReplicaRequest { replica: replica.clone(), reason, ..Default::default() };
            Ok(done(replica, client.call(request).await.map_err(call)?.header))
        }
        Write::RaiseVersion => {
            let answer = client.call(pb::RaiseClusterVersionRequest::default()).await.map_err(call)?;
            Ok(done(format!("version {}", answer.version), answer.header))
        }
    }
}
