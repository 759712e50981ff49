//! Rules of tenants: all checks, then all changes.

use super::{CreateTenant, TENANTS_MAX, Tenant};
use crate::account::{self, Role, TenantRole};
use crate::apply::Cx;
use crate::billing::STANDARD_PLAN;
use crate::check;
use crate::command::Outcome;
use crate::ids::PlanId;
use crate::{Rejection, State, name};

pub(crate) fn create(state: &mut State, cx: &mut Cx<'_>, c: &CreateTenant) -> Result<Outcome, Rejection> {
    let resource = name::tenant(&c.tenant);
    if state.tenants.contains_key(&c.tenant) {
        return Err(Rejection::AlreadyExists { field: "tenant".into(), what: resource });
    }
    check::text("display_name", &c.display_name, check::DISPLAY_NAME_MAX)?;
    check::quota("tenant", "the number of tenants", state.tenants.len(), TENANTS_MAX)?;
    if c.owner.tenant() != Some(&c.tenant) {
        return Err(check::invalid("owner", &c.owner, format!("name@{}", c.tenant)));
    }
    let role = Role::Tenant { tenant: c.tenant.clone(), role: TenantRole::Owner };
    account::apply::check_new(state, &c.owner, &role, "owner_password_hash", &c.owner_password_hash)?;
    let plan = PlanId::parse(STANDARD_PLAN)?;

    let tenant = Tenant { id: c.tenant.clone(), display_name: c.display_name.clone(), plan, created_at: cx.now };
    state.tenants.insert(c.tenant.clone(), tenant);
    cx.created(resource.clone());
    account::apply::add(state, cx, &c.owner, role, &c.owner_password_hash);
    Ok(Outcome::Done { resource })
}
