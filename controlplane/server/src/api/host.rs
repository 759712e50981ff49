//! HostService: machines under the platform's care.

use hanse_proto::v1 as pb;
use hanse_proto::v1::host_service_server::HostService;
use hanse_state::Command;
use hanse_state::host::care::{BeginHostMaintenance, DrainHost, RetireHost};
use hanse_state::host::way::Way;
use hanse_state::host::{AcceptHostKey, CordonHost, Host, UncordonHost};
use hanse_state::ids::HostId;
use tonic::{Request, Response, Status};

use super::page::{Order, PAGE_DEFAULT, Page};
use super::{Call, Wish, convert, found, matches, node_call, preflight};
use crate::context::Context;
use crate::error::ApiError;

/// Machines under the platform's care.
pub(crate) struct Hosts(Context);

impl Hosts {
    /// The service of this replica.
    pub(crate) fn new(context: Context) -> Self {
        Self(context)
    }
}

async fn change(
    call: &Call,
    wish: Wish<'_>,
    id: &HostId,
    command: Command,
) -> Result<(Option<pb::ResponseHeader>, Option<pb::Host>), ApiError> {
    let done = call.write(wish, command).await?;
    let it = found("host", done.state.hosts.get(id))?;
    Ok((call.header(done.revision), Some(convert::host::host(call.context.observed(), &done.state, it))))
}

#[tonic::async_trait]
impl HostService for Hosts {
    async fn scan_host_key(
        &self,
        request: Request<pb::ScanHostKeyRequest>,
    ) -> Result<Response<pb::ScanHostKeyResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        // A scan opens a connection from here: only those who enrol hosts may aim it.
        call.sight().manages_hosts()?;
        let it = request.into_inner();
        let address = convert::text("address", it.address)?;
        if address.is_empty() {
            return Err(ApiError::invalid("address", "is missing", "give a name or an address").into());
        }
        let port = convert::host::port("port", it.port)?;
        let (jumps, login) = (convert::host::jumps(it.jumps)?, convert::host::login(it.login)?);
        let way = Way { jumps, login, ..Way::default() };
        let scan = self.0.hosts().scan(&address, port, &way);
        let shown = node_call::within(&self.0, &address, scan).await?;
        let (fingerprint, authority) = (shown.fingerprint, shown.authority.unwrap_or_default());
        Ok(Response::new(pb::ScanHostKeyResponse { header: call.read_header(), fingerprint, authority }))
    }

    async fn scan_docker_engine(
        &self,
        request: Request<pb::ScanDockerEngineRequest>,
    ) -> Result<Response<pb::ScanDockerEngineResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        // As with a host key: it opens a connection from here.
        call.sight().manages_hosts()?;
        let endpoint = convert::text("endpoint", request.into_inner().endpoint)?;
        if endpoint.is_empty() {
            let what = "give unix:///path of the engine's socket, or tcp://127.0.0.1:PORT";
            return Err(ApiError::invalid("endpoint", "is missing", what).into());
        }
        let scan = self.0.hosts().scan_docker(&endpoint);
        let engine_id = node_call::within(&self.0, &endpoint, scan).await?;
        Ok(Response::new(pb::ScanDockerEngineResponse { header: call.read_header(), engine_id }))
    }

    async fn enrol_host(
        &self,
        request: Request<pb::EnrolHostRequest>,
    ) -> Result<Response<pb::EnrolHostResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        call.sight().manages_hosts()?;
        let it = request.into_inner();
        let (request_id, validate_only) = (it.request_id.clone(), it.validate_only);
        let (looks, accepts) = (it.preflight, it.accept_findings);
        let enrol = convert::host::enrol(it)?;
        let id = enrol.host.clone();
        // A retry of what was done already is answered as it was, whatever the host is like by now.
        let is_new = !call.state.hosts.contains_key(&id);
        let mut findings = Vec::new();
        if looks && is_new {
            // What the platform refuses by itself is refused before a connection is opened.
            let check = Wish { request_id: &request_id, validate_only: true };
            change(&call, check, &id, Command::EnrolHost(enrol.clone())).await?;
            findings = preflight::before_enrolment(&self.0, &call.state, &enrol).await?;
        }
        if !accepts {
            preflight::refuse_errors(&id, &findings)?;
        }
        let wish = Wish { request_id: &request_id, validate_only };
        let (header, host) = change(&call, wish, &id, Command::EnrolHost(enrol)).await?;
        let findings = findings.iter().map(convert::host::finding).collect();
        Ok(Response::new(pb::EnrolHostResponse { header, host, findings }))
    }

    async fn preflight_host(
        &self,
        request: Request<pb::PreflightHostRequest>,
    ) -> Result<Response<pb::PreflightHostResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        call.sight().manages_hosts()?;
        let id: HostId = convert::id("host", &request.get_ref().host)?;
        let findings = preflight::of_host(&self.0, &call.state, call.sight().host(&id)?).await?;
        let findings = findings.iter().map(convert::host::finding).collect();
        Ok(Response::new(pb::PreflightHostResponse { header: call.read_header(), findings }))
    }

    async fn get_host(&self, request: Request<pb::GetHostRequest>) -> Result<Response<pb::GetHostResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let id = convert::id("host", &request.get_ref().host)?;
        let host = Some(convert::host::host(self.0.observed(), &call.state, call.sight().host(&id)?));
        Ok(Response::new(pb::GetHostResponse { header: call.read_header(), host }))
    }

    async fn list_hosts(
        &self,
        request: Request<pb::ListHostsRequest>,
    ) -> Result<Response<pb::ListHostsResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let page = Page::<HostId>::parse(it.page_size, &it.page_token, PAGE_DEFAULT)?;
        let seen =
            call.state.hosts.iter().filter(|(id, host)| {
                call.sight().sees_hosts() && matches(&it.filter, &[id.as_str(), &host.peer_address])
            });
        let (found, next_page_token) = page.take(Order::Ascending, seen.map(|(id, host)| (id.clone(), host)));
        let hosts = found.into_iter().map(|host| convert::host::host(self.0.observed(), &call.state, host)).collect();
        Ok(Response::new(pb::ListHostsResponse { header: call.read_header(), hosts, next_page_token }))
    }

    async fn list_orphans(
        &self,
        request: Request<pb::ListOrphansRequest>,
    ) -> Result<Response<pb::ListOrphansResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let page = Page::<String>::parse(it.page_size, &it.page_token, PAGE_DEFAULT)?;
        let mut seen = Vec::new();
        for id in call.state.hosts.keys().filter(|_| call.sight().sees_hosts()) {
            for orphan in self.0.observed().orphans.of(id) {
                if matches(&it.filter, &[id.as_str(), &orphan.object]) {
                    let key = format!("{id}/{}", orphan.object);
                    seen.push((key, convert::host::orphan(id, orphan)));
                }
            }
        }
        seen.sort_by(|(a, _), (b, _)| a.cmp(b));
        let (orphans, next_page_token) = page.take(Order::Ascending, seen.into_iter());
        Ok(Response::new(pb::ListOrphansResponse { header: call.read_header(), orphans, next_page_token }))
    }

    async fn cordon_host(
        &self,
        request: Request<pb::CordonHostRequest>,
    ) -> Result<Response<pb::CordonHostResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let id: HostId = convert::id("host", &it.host)?;
        call.sight().host(&id)?;
        let reason = convert::text("reason", it.reason)?;
        let wish = Wish { request_id: &it.request_id, validate_only: it.validate_only };
        let command = Command::CordonHost(CordonHost { host: id.clone(), reason });
        let (header, host) = change(&call, wish, &id, command).await?;
        Ok(Response::new(pb::CordonHostResponse { header, host }))
    }

    async fn begin_host_maintenance(
        &self,
        request: Request<pb::BeginHostMaintenanceRequest>,
    ) -> Result<Response<pb::BeginHostMaintenanceResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        call.sight().manages_hosts()?;
        let it = request.into_inner();
        let id: HostId = convert::id("host", &it.host)?;
        call.sight().host(&id)?;
        let reason = convert::text("reason", it.reason)?;
        let wish = Wish { request_id: &it.request_id, validate_only: it.validate_only };
        let begin = BeginHostMaintenance { host: id.clone(), reason, forced: it.forced };
        let (header, host) = change(&call, wish, &id, Command::BeginHostMaintenance(begin)).await?;
        Ok(Response::new(pb::BeginHostMaintenanceResponse { header, host }))
    }

    async fn drain_host(
        &self,
        request: Request<pb::DrainHostRequest>,
    ) -> Result<Response<pb::DrainHostResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        call.sight().manages_hosts()?;
        let it = request.into_inner();
        let id: HostId = convert::id("host", &it.host)?;
        call.sight().host(&id)?;
        let reason = convert::text("reason", it.reason)?;
        let wish = Wish { request_id: &it.request_id, validate_only: it.validate_only };
        let command = Command::DrainHost(DrainHost { host: id.clone(), reason, accept_outage: it.accept_outage });
        let (header, host) = change(&call, wish, &id, command).await?;
        let on_it = call.state.nodes.values().filter(|node| node.host.as_ref() == Some(&id));
        let nodes = on_it.map(|node| hanse_state::name::node(&node.key)).collect();
        Ok(Response::new(pb::DrainHostResponse { header, host, nodes }))
    }

    async fn retire_host(
        &self,
        request: Request<pb::RetireHostRequest>,
    ) -> Result<Response<pb::RetireHostResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        call.sight().manages_hosts()?;
        let it = request.into_inner();
        let host: HostId = convert::id("host", &it.host)?;
        let reason = convert::text("reason", it.reason)?;
        let wish = Wish { request_id: &it.request_id, validate_only: it.validate_only };
        // Whether it is there is the state's to say: a retry of what was done finds it gone.
        let done = call.write(wish, Command::RetireHost(RetireHost { host, reason })).await?;
        Ok(Response::new(pb::RetireHostResponse { header: call.header(done.revision) }))
    }

    async fn uncordon_host(
        &self,
        request: Request<pb::UncordonHostRequest>,
    ) -> Result<Response<pb::UncordonHostResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let id: HostId = convert::id("host", &it.host)?;
        call.sight().host(&id)?;
        let wish = Wish { request_id: &it.request_id, validate_only: it.validate_only };
        let command = Command::UncordonHost(UncordonHost { host: id.clone() });
        let (header, host) = change(&call, wish, &id, command).await?;
        Ok(Response::new(pb::UncordonHostResponse { header, host }))
    }

    async fn accept_host_key(
        &self,
        request: Request<pb::AcceptHostKeyRequest>,
    ) -> Result<Response<pb::AcceptHostKeyResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        call.sight().manages_hosts()?;
        let it = request.into_inner();
        let id: HostId = convert::id("host", &it.host)?;
        call.sight().host(&id)?;
        let fingerprint = convert::text("fingerprint", it.fingerprint)?;
        let wish = Wish { request_id: &it.request_id, validate_only: it.validate_only };
        let command = Command::AcceptHostKey(AcceptHostKey { host: id.clone(), fingerprint });
        let (header, host) = change(&call, wish, &id, command).await?;
        Ok(Response::new(pb::AcceptHostKeyResponse { header, host }))
    }

    async fn set_host_properties(
        &self,
        request: Request<pb::SetHostPropertiesRequest>,
    ) -> Result<Response<pb::SetHostPropertiesResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        call.sight().manages_hosts()?;
        let it = request.into_inner();
        let (request_id, validate_only) = (it.request_id.clone(), it.validate_only);
        let properties = convert::host::properties(it)?;
        let id = properties.host.clone();
        call.sight().host(&id)?;
        let wish = Wish { request_id: &request_id, validate_only };
        let (header, host) = change(&call, wish, &id, Command::SetHostProperties(properties)).await?;
        Ok(Response::new(pb::SetHostPropertiesResponse { header, host }))
    }

    async fn set_host_reach(
        &self,
        request: Request<pb::SetHostReachRequest>,
    ) -> Result<Response<pb::SetHostReachResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        call.sight().manages_hosts()?;
        let it = request.into_inner();
        let (request_id, validate_only) = (it.request_id.clone(), it.validate_only);
        let (looks, accepts) = (it.preflight, it.accept_findings);
        let set = convert::host::reach_change(it)?;
        let id = set.host.clone();
        let before = call.sight().host(&id)?;
        let next = Host { reach: set.change.applied(&before.reach), ..before.clone() };
        let mut findings = Vec::new();
        // A retry of what was done already changes nothing and looks at nothing.
        if looks && next.reach != before.reach {
            // What the platform refuses by itself is refused before a connection is opened.
            let check = Wish { request_id: &request_id, validate_only: true };
            change(&call, check, &id, Command::SetHostReach(set.clone())).await?;
            findings = preflight::of_host(&self.0, &call.state, &next).await?;
        }
        if !accepts {
            preflight::refuse_errors(&id, &findings)?;
        }
        let wish = Wish { request_id: &request_id, validate_only };
        let (header, host) = change(&call, wish, &id, Command::SetHostReach(set)).await?;
        let findings = findings.iter().map(convert::host::finding).collect();
        Ok(Response::new(pb::SetHostReachResponse { header, host, findings }))
    }
}
