//! TenantService.

use std::collections::BTreeMap;

use hanse_proto::v1 as pb;
use hanse_proto::v1::tenant_service_server::TenantService;
use hanse_state::ids::TenantId;
use hanse_state::tenant::{CreateTenant, SetTenantMetadata};
use hanse_state::{Command, Secret};
use tonic::{Request, Response, Status};
use zeroize::Zeroizing;

use super::page::{Order, PAGE_DEFAULT, Page};
use super::{Call, Wish, convert, found, matches};
use crate::context::Context;
use crate::error::ApiError;

/// Organisations on the platform.
pub(crate) struct Tenants(Context);

impl Tenants {
    /// The service of this replica.
    pub(crate) fn new(context: Context) -> Self {
        Self(context)
    }
}

#[tonic::async_trait]
impl TenantService for Tenants {
    async fn create_tenant(
        &self,
        mut request: Request<pb::CreateTenantRequest>,
    ) -> Result<Response<pb::CreateTenantResponse>, Status> {
        let password = Zeroizing::new(std::mem::take(&mut request.get_mut().owner_password));
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let tenant: TenantId = convert::id("tenant", &it.tenant)?;
        let owner = convert::account::owner_of(&tenant, &it.owner_account)?;
        let display_name = convert::text("display_name", it.display_name)?;
        let salt = super::account::salt(&call.state, &it.request_id, &owner);
        let order = |hash: String| {
            let (tenant, owner, display_name) = (tenant.clone(), owner.clone(), display_name.clone());
            Command::CreateTenant(CreateTenant { tenant, display_name, owner, owner_password_hash: Secret::new(hash) })
        };
        // Nobody makes this replica hash a password who may not use the result.
        call.may(&order(String::new()))?;
        let command = order(self.0.passwords().hash("owner_password", password, salt).await?);
        let wish = Wish { request_id: &it.request_id, validate_only: it.validate_only };
        let done = call.write(wish, command).await?;
        let made = found("tenant", done.state.tenants.get(&tenant))?;
        let tenant = Some(convert::account::tenant(made));
        Ok(Response::new(pb::CreateTenantResponse { header: call.header(done.revision), tenant }))
    }

    async fn get_tenant(
        &self,
        request: Request<pb::GetTenantRequest>,
    ) -> Result<Response<pb::GetTenantResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let id = convert::id("tenant", &request.get_ref().tenant)?;
        let tenant = Some(convert::account::tenant(call.sight().tenant(&id)?));
        Ok(Response::new(pb::GetTenantResponse { header: call.read_header(), tenant }))
    }

    async fn list_tenants(
        &self,
        request: Request<pb::ListTenantsRequest>,
    ) -> Result<Response<pb::ListTenantsResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let page = Page::<TenantId>::parse(it.page_size, &it.page_token, PAGE_DEFAULT)?;
        let sight = call.sight();
        let keep = |id: &TenantId, name: &str| sight.sees_tenant(id) && matches(&it.filter, &[id.as_str(), name]);
        let items = call.state.tenants.iter().filter(|(id, tenant)| keep(id, &tenant.display_name));
        let (tenants, next_page_token) =
            page.take(Order::Ascending, items.map(|(id, tenant)| (id.clone(), convert::account::tenant(tenant))));
        Ok(Response::new(pb::ListTenantsResponse { header: call.read_header(), tenants, next_page_token }))
    }
    async fn set_tenant_metadata(
        &self,
        request: Request<pb::SetTenantMetadataRequest>,
    ) -> Result<Response<pb::SetTenantMetadataResponse>, Status> {
        let call = Call::enter_to_write(&self.0, &request).await?;
        let it = request.into_inner();
        let tenant: TenantId = convert::id("tenant", &it.tenant)?;
        let mut changes: BTreeMap<String, Option<String>> =
            it.set.into_iter().map(|(key, value)| (key, Some(value))).collect();
        for key in it.remove {
            if changes.insert(key.clone(), None).is_some_and(|set| set.is_some()) {
                let why = format!("{key} is to be both set and removed");
                return Err(ApiError::invalid("remove", &why, "name each key once").into());
            }
        }
        let command = Command::SetTenantMetadata(SetTenantMetadata { tenant: tenant.clone(), changes });
        let wish = Wish { request_id: &it.request_id, validate_only: it.validate_only };
        let done = call.write(wish, command).await?;
        let changed = found("tenant", done.state.tenants.get(&tenant))?;
        let tenant = (!it.header_only).then(|| convert::account::tenant(changed));
        Ok(Response::new(pb::SetTenantMetadataResponse { header: call.header(done.revision), tenant }))
    }
}
