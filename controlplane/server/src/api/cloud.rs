//! CloudService: clouds of the platform, and the machines that are made there to become hosts.

use std::time::Duration;

use hanse_adapters_core::AdapterError;
use hanse_adapters_core::cloud::{DataDisk, MachineKey, MachineWish, Owner};
use hanse_adapters_core::preflight::Finding;
use hanse_proto::v1 as pb;
use hanse_proto::v1::cloud_service_server::CloudService;
use hanse_state::cloud::{AddCloud, CreateMachine, DeleteMachine, MachineSpec, RemoveCloud};
use hanse_state::ids::{CloudId, HostId};
use hanse_state::{Command, State, name};
use tonic::{Request, Response, Status};

use super::page::{Order, PAGE_DEFAULT, Page};
use super::{Call, Wish, convert, found, matches, preflight};
use crate::context::Context;
use crate::error::ApiError;
use crate::reconcile::machine::wished_disk;

/// Longest look at a cloud, whose calls may wait for their turn.
const LIMIT: Duration = Duration::from_secs(60);

/// Clouds of the platform and their machines.
pub(crate) struct Clouds(Context);

impl Clouds {
    /// The service of this replica.
    pub(crate) fn new(context: Context) -> Self {
        Self(context)
    }

    /// Has a cloud looked at for machines like `spec`, by this replica's own credentials.
    async fn look(&self, state: &State, spec: &MachineSpec) -> Result<Vec<Finding>, ApiError> {
        if state.cluster.as_ref().is_some_and(hanse_state::cluster::Cluster::is_paused) {
            let found = "not looked at: the platform was restored and touches no cloud before it is told to";
            return Ok(vec![Finding::warning("credentials", found, "look again after `hanse cluster resume`")]);
        }
        let record = hanse_state::cloud::query::cloud(state, &spec.cloud)?;
        let owner = Owner {
            cluster: state.cluster.as_ref().map(|it| it.id.to_string()).unwrap_or_default(),
            cloud: spec.cloud.to_string(),
        };
        let wish = MachineWish {
            key: MachineKey { owner, machine: "preflight".into(), token: "0".repeat(64) },
            image: spec.image.clone(),
            machine_type: spec.machine_type.clone(),
            zone: spec.zone.clone(),
            subnet: spec.subnet.clone(),
            disk_gib: spec.disk_gib,
            // A cloud that carries out what it was only to judge leaves no disk behind.
            data_disk: spec.data_disk.as_ref().map(|disk| DataDisk { keep: false, ..wished_disk(disk) }),
            user_data: String::new(),
            login_key: String::new(),
            ingress: Vec::new(),
        };
        let subject = name::cloud(&spec.cloud);
        let work = async { self.0.hosts().cloud(record).await?.preflight(&wish).await };
        match tokio::time::timeout(LIMIT, work).await {
            Ok(Ok(findings)) => Ok(findings),
            // What this replica lacks is a finding as well: it is told with everything else that is wrong.
            Ok(Err(error @ (AdapterError::Invalid { .. } | AdapterError::Denied { .. }))) => {
                Ok(vec![Finding::error("credentials", error.to_string(), "repair what it names on every replica")])
            }
            Ok(Err(error)) => Err(ApiError::node_unavailable(&subject, &error.to_string())),
            Err(_) => Err(ApiError::node_unavailable(&subject, "did not answer in time")),
        }
    }
}

#[tonic::async_trait]
impl CloudService for Clouds {
    async fn add_cloud(&self, request: Request<pb::AddCloudRequest>) -> Result<Response<pb::AddCloudResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        call.sight().manages_hosts()?;
        let it = request.into_inner();
        let cloud: CloudId = convert::id("cloud", &it.cloud)?;
        let spec = convert::cloud::cloud_spec(convert::required("spec", it.spec)?)?;
        let wish = Wish { request_id: &it.request_id, validate_only: it.validate_only };
        let done = call.write(wish, Command::AddCloud(AddCloud { cloud: cloud.clone(), spec })).await?;
        let cloud = found("cloud", done.state.clouds.get(&cloud))?;
        let cloud = Some(convert::cloud::cloud(self.0.observed(), &done.state, cloud));
        Ok(Response::new(pb::AddCloudResponse { header: call.header(done.revision), cloud }))
    }

    async fn get_cloud(&self, request: Request<pb::GetCloudRequest>) -> Result<Response<pb::GetCloudResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let id: CloudId = convert::id("cloud", &request.get_ref().cloud)?;
        let cloud = call.sight().cloud(&id)?;
        let cloud = Some(convert::cloud::cloud(self.0.observed(), &call.state, cloud));
        Ok(Response::new(pb::GetCloudResponse { header: call.read_header(), cloud }))
    }

    async fn list_clouds(
        &self,
        request: Request<pb::ListCloudsRequest>,
    ) -> Result<Response<pb::ListCloudsResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let page = Page::<CloudId>::parse(it.page_size, &it.page_token, PAGE_DEFAULT)?;
        let seen =
            call.state.clouds.iter().filter(|(id, cloud)| {
                call.sight().sees_hosts() && matches(&it.filter, &[id.as_str(), &cloud.spec.region])
            });
        let (found, next_page_token) = page.take(Order::Ascending, seen.map(|(id, cloud)| (id.clone(), cloud)));
        let clouds =
            found.into_iter().map(|cloud| convert::cloud::cloud(self.0.observed(), &call.state, cloud)).collect();
        Ok(Response::new(pb::ListCloudsResponse { header: call.read_header(), clouds, next_page_token }))
    }

    async fn remove_cloud(
        &self,
        request: Request<pb::RemoveCloudRequest>,
    ) -> Result<Response<pb::RemoveCloudResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        call.sight().manages_hosts()?;
        let it = request.into_inner();
        let cloud = convert::id("cloud", &it.cloud)?;
        let wish = Wish { request_id: &it.request_id, validate_only: it.validate_only };
        let done = call.write(wish, Command::RemoveCloud(RemoveCloud { cloud })).await?;
        Ok(Response::new(pb::RemoveCloudResponse { header: call.header(done.revision) }))
    }

    async fn check_cloud(
        &self,
        request: Request<pb::CheckCloudRequest>,
    ) -> Result<Response<pb::CheckCloudResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let spec = convert::cloud::checked(it)?;
        // It calls the cloud in the platform's name: only those who make machines may have it do so.
        let like = CreateMachine { machine: convert::id("machine", "preflight")?, spec };
        call.may(&Command::CreateMachine(like.clone()))?;
        let findings = self.look(&call.state, &like.spec).await?;
        let findings = findings.iter().map(convert::host::finding).collect();
        Ok(Response::new(pb::CheckCloudResponse { header: call.read_header(), findings }))
    }

    async fn create_machine(
        &self,
        request: Request<pb::CreateMachineRequest>,
    ) -> Result<Response<pb::CreateMachineResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        call.sight().manages_hosts()?;
        let it = request.into_inner();
        let machine: HostId = convert::id("machine", &it.machine)?;
        let spec = convert::cloud::machine_spec(convert::required("spec", it.spec)?)?;
        let command = Command::CreateMachine(CreateMachine { machine: machine.clone(), spec: spec.clone() });
        let mut findings = Vec::new();
        // A retry of what was done already is answered as it was, whatever the cloud is like by now.
        if it.preflight && !call.knows(&it.request_id) {
            // What the platform refuses by itself is refused before the cloud is asked.
            call.write(Wish { request_id: &it.request_id, validate_only: true }, command.clone()).await?;
            findings = self.look(&call.state, &spec).await?;
            preflight::refuse_errors_of(&name::cloud(&spec.cloud), &findings)?;
        }
        let wish = Wish { request_id: &it.request_id, validate_only: it.validate_only };
        let done = call.write(wish, command).await?;
        let machine = found("machine", done.state.machines.get(&machine))?;
        let machine = Some(convert::cloud::machine(machine));
        let findings = findings.iter().map(convert::host::finding).collect();
        Ok(Response::new(pb::CreateMachineResponse { header: call.header(done.revision), machine, findings }))
    }

    async fn get_machine(
        &self,
        request: Request<pb::GetMachineRequest>,
    ) -> Result<Response<pb::GetMachineResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let id: HostId = convert::id("machine", &request.get_ref().machine)?;
        let machine = Some(convert::cloud::machine(call.sight().machine(&id)?));
        Ok(Response::new(pb::GetMachineResponse { header: call.read_header(), machine }))
    }

    async fn list_machines(
        &self,
        request: Request<pb::ListMachinesRequest>,
    ) -> Result<Response<pb::ListMachinesResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let page = Page::<HostId>::parse(it.page_size, &it.page_token, PAGE_DEFAULT)?;
        let seen = call.state.machines.iter().filter(|(id, machine)| {
            let instance = machine.instance.as_deref().unwrap_or_default();
            call.sight().sees_hosts() && matches(&it.filter, &[id.as_str(), machine.spec.cloud.as_str(), instance])
        });
        let (found, next_page_token) = page.take(Order::Ascending, seen.map(|(id, machine)| (id.clone(), machine)));
        let machines = found.into_iter().map(convert::cloud::machine).collect();
        Ok(Response::new(pb::ListMachinesResponse { header: call.read_header(), machines, next_page_token }))
    }

    async fn delete_machine(
        &self,
        request: Request<pb::DeleteMachineRequest>,
    ) -> Result<Response<pb::DeleteMachineResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        call.sight().manages_hosts()?;
        let it = request.into_inner();
        let machine = convert::id("machine", &it.machine)?;
        let reason = convert::text("reason", it.reason)?;
        let wish = Wish { request_id: &it.request_id, validate_only: it.validate_only };
        // Whether it is there is the state's to say: a retry of what was done finds it gone.
        let done = call.write(wish, Command::DeleteMachine(DeleteMachine { machine, reason })).await?;
        Ok(Response::new(pb::DeleteMachineResponse { header: call.header(done.revision) }))
    }
}
