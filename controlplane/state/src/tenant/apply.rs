//! Rules of tenants: all checks, then all changes.

use super::{
    CreateTenant, METADATA_KEY_BYTES_MAX, METADATA_KEYS_MAX, METADATA_VALUE_BYTES_MAX, Note, SetTenantMetadata,
    TENANTS_MAX, Tenant, query,
};
use imbl::OrdMap;

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

    let tenant = Tenant {
        id: c.tenant.clone(),
        display_name: c.display_name.clone(),
        plan,
        created_at: cx.now,
        metadata: OrdMap::new(),
    };
    state.tenants.insert(c.tenant.clone(), tenant);
    cx.created(resource.clone());
    account::apply::add(state, cx, &c.owner, role, &c.owner_password_hash);
    Ok(Outcome::Done { resource })
}

/// A change of a tenant's metadata that was found good.
pub(crate) struct MetadataChange<'a> {
    wanted: &'a SetTenantMetadata,
    resource: String,
    /// Not if it is so already.
    changes: bool,
}

impl MetadataChange<'_> {
    pub(crate) fn carry_out(self, state: &mut State, cx: &mut Cx<'_>) -> Outcome {
        let Self { wanted, resource, changes } = self;
        if !changes {
            return Outcome::Unchanged { resource };
        }
        if let Some(tenant) = state.tenants.get_mut(&wanted.tenant) {
            for (key, value) in &wanted.changes {
                match value {
                    Some(value) => tenant.metadata.insert(key.as_str().into(), value.as_str().into()),
                    None => tenant.metadata.remove(key.as_str()),
                };
            }
        }
        cx.updated(resource.clone());
        Outcome::Done { resource }
    }
}

pub(crate) fn check_metadata_change<'a>(
    state: &State,
    c: &'a SetTenantMetadata,
) -> Result<MetadataChange<'a>, Rejection> {
    let kept = &query::get(state, &c.tenant)?.metadata;
    let resource = name::tenant(&c.tenant);
    if c.changes.is_empty() || c.changes.len() > METADATA_KEYS_MAX {
        return Err(check::invalid(
            "metadata",
            c.changes.len(),
            format!("1 to {METADATA_KEYS_MAX} keys in one request"),
        ));
    }
    let (mut added, mut removed, mut changes) = (0, 0, false);
    for (key, value) in &c.changes {
        check_metadata(key, value.as_deref())?;
        let before = kept.get(key.as_str()).map(Note::as_str);
        added += usize::from(before.is_none() && value.is_some());
        removed += usize::from(before.is_some() && value.is_none());
        changes |= before != value.as_deref();
    }
    if changes {
        // The last allowed key may be there.
        let before_last = (kept.len() + added).saturating_sub(removed + 1);
        check::quota("metadata", "the number of keys of a tenant's metadata", before_last, METADATA_KEYS_MAX)?;
    }
    Ok(MetadataChange { wanted: c, resource, changes })
}

/// A key is a label in the manner of Kubernetes; a value is one piece of text.
fn check_metadata(key: &str, value: Option<&str>) -> Result<(), Rejection> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_key = !key.is_empty()
        && key.len() <= METADATA_KEY_BYTES_MAX
        && key.starts_with(plain)
        && key.chars().all(|c| plain(c) || matches!(c, '.' | '_' | '-' | '/'));
    if !is_key {
        let rule = format!("a key of 1 to {METADATA_KEY_BYTES_MAX} of a-z, 0-9, '.', '_', '-', '/', first a-z or 0-9");
        return Err(check::invalid("metadata", key, rule));
    }
    match value {
        Some(value) if value.len() > METADATA_VALUE_BYTES_MAX || value.chars().any(char::is_control) => {
            let rule = format!("a value of at most {METADATA_VALUE_BYTES_MAX} bytes without control characters");
            Err(check::invalid("metadata", format!("{key}={value}"), rule))
        }
        Some(_) | None => Ok(()),
    }
}
