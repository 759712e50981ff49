//! Lists, retries, previews, and that a foreign tenant's object is like none at all.

use hanse_proto::v1 as pb;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::harness::*;

pub fn consortium(id: &str, key: &str) -> pb::CreateConsortiumRequest {
    pb::CreateConsortiumRequest {
        request_id: request_id(),
        validate_only: false,
        consortium: id.into(),
        display_name: "Trade".into(),
        charter: Some(pb::Charter {
            policies: vec![pb::PolicyRule {
                action: pb::ActionKind::CreateChain.into(),
                policy: pb::Policy::Majority.into(),
            }],
            voting_period_ms: 600_000,
        }),
        member_key: key.into(),
        weight: 0,
    }
}

#[tokio::test]
async fn pages_hold_every_tenant_once() {
    let cluster = Cluster::start(1).await;
    let root = cluster.bootstrapped().await;
    let names = ["acme", "bank", "cargo", "dock", "east"];
    for name in names {
        root.tenants().create_tenant(create_tenant(name)).await.unwrap();
    }
    let (mut token, mut seen) = (String::new(), Vec::new());
    loop {
        let request = pb::ListTenantsRequest { page_size: 2, page_token: token, filter: String::new() };
        let answer = root.tenants().list_tenants(request).await.unwrap().into_inner();
        assert!(answer.tenants.len() <= 2 && answer.header.is_some());
        seen.extend(answer.tenants.into_iter().map(|tenant| tenant.tenant));
        token = answer.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, names);
    let request = pb::ListTenantsRequest { filter: "ar".into(), ..Default::default() };
    let found = root.tenants().list_tenants(request).await.unwrap().into_inner().tenants;
    assert_eq!(found.len(), 1);
    let request = pb::ListTenantsRequest { page_token: "nonsense".into(), ..Default::default() };
    let bad = root.tenants().list_tenants(request).await.unwrap_err();
    assert_eq!((bad.code(), metadata(&bad, "field").as_str()), (Code::InvalidArgument, "page_token"));
    cluster.stop().await;
}

#[tokio::test]
async fn whoever_writes_many_values_may_have_the_header_alone() {
    let cluster = Cluster::start(1).await;
    let root = cluster.bootstrapped().await;
    root.tenants().create_tenant(create_tenant("acme")).await.unwrap();
    let request = |key: &str, header_only| pb::SetTenantMetadataRequest {
        request_id: request_id(),
        tenant: "acme".into(),
        set: [(key.into(), "17:00 to 08:00".into())].into(),
        header_only,
        ..Default::default()
    };
    let whole = root.tenants().set_tenant_metadata(request("on-call", false)).await.unwrap().into_inner();
    assert_eq!(whole.tenant.unwrap().metadata["on-call"], "17:00 to 08:00");
    let brief = root.tenants().set_tenant_metadata(request("on-call/2", true)).await.unwrap().into_inner();
    assert!(brief.tenant.is_none() && brief.header.unwrap().revision > whole.header.unwrap().revision);
    let read = root.tenants().get_tenant(pb::GetTenantRequest { tenant: "acme".into() }).await.unwrap().into_inner();
    assert_eq!(read.tenant.unwrap().metadata.len(), 2);
    cluster.stop().await;
}

#[tokio::test]
async fn a_retry_gets_the_first_answer_and_a_reused_id_is_refused() {
    let cluster = Cluster::start(1).await;
    let root = cluster.bootstrapped().await;
    let request = create_tenant("acme");
    let first = root.tenants().create_tenant(request.clone()).await.unwrap().into_inner();
    root.tenants().create_tenant(create_tenant("bank")).await.unwrap();
    let again = root.tenants().create_tenant(request.clone()).await.unwrap().into_inner();
    assert_eq!(again.header.as_ref().unwrap().revision, first.header.as_ref().unwrap().revision);
    assert_eq!(again.tenant, first.tenant);

    let other = pb::CreateTenantRequest { display_name: "Other".into(), ..request.clone() };
    let reused = root.tenants().create_tenant(other).await.unwrap_err();
    assert_eq!((reused.code(), reason(&reused).as_str()), (Code::InvalidArgument, "REQUEST_ID_REUSED"));
    assert_eq!(metadata(&reused, "request_id"), request.request_id);

    let taken = root.tenants().create_tenant(create_tenant("acme")).await.unwrap_err();
    assert_eq!((taken.code(), reason(&taken).as_str()), (Code::AlreadyExists, "ALREADY_EXISTS"));
    for id in ["", "x", "2f1c1f6e-7a3c-4b51-9e0e-0a8b1c2d3e4f"] {
        let bad = pb::CreateTenantRequest { request_id: id.into(), ..create_tenant("cargo") };
        let bad = root.tenants().create_tenant(bad).await.unwrap_err();
        assert_eq!((bad.code(), metadata(&bad, "field").as_str()), (Code::InvalidArgument, "request_id"), "{id}");
    }
    cluster.stop().await;
}

#[tokio::test]
async fn a_preview_checks_everything_and_changes_nothing() {
    let cluster = Cluster::start(1).await;
    let root = cluster.bootstrapped().await;
    let preview = pb::CreateTenantRequest { validate_only: true, ..create_tenant("acme") };
    let shown = root.tenants().create_tenant(preview.clone()).await.unwrap().into_inner();
    assert_eq!(shown.tenant.unwrap().tenant, "acme");
    let absent = root.tenants().get_tenant(pb::GetTenantRequest { tenant: "acme".into() }).await.unwrap_err();
    assert_eq!(absent.code(), Code::NotFound);
    let wish = pb::CreateTenantRequest { validate_only: false, ..preview.clone() };
    root.tenants().create_tenant(wish).await.unwrap();
    let preview = pb::CreateTenantRequest { request_id: request_id(), ..preview };
    assert_eq!(root.tenants().create_tenant(preview).await.unwrap_err().code(), Code::AlreadyExists);
    cluster.stop().await;
}

#[tokio::test]
async fn a_foreign_object_is_like_none() {
    let cluster = Cluster::start(1).await;
    let root = cluster.bootstrapped().await;
    let (acme, bank) = (root.tenant("acme").await, root.tenant("bank").await);
    let key = "11".repeat(32);
    acme.consortiums().create_consortium(consortium("trade", &key)).await.unwrap();
    let get = |id: &str| pb::GetConsortiumRequest { consortium: id.into() };
    assert!(acme.consortiums().get_consortium(get("trade")).await.is_ok());
    assert!(root.consortiums().get_consortium(get("trade")).await.is_ok());

    let foreign = bank.consortiums().get_consortium(get("trade")).await.unwrap_err();
    let absent = bank.consortiums().get_consortium(get("tradf")).await.unwrap_err();
    alike(&foreign, &absent);
    let invite = |id: &str| pb::InviteMemberRequest {
        request_id: "0193f2a4-0000-7000-8000-000000000001".into(),
        validate_only: false,
        consortium: id.into(),
        tenant: "bank".into(),
        weight: 1,
    };
    let foreign = bank.consortiums().invite_member(invite("trade")).await.unwrap_err();
    let absent = bank.consortiums().invite_member(invite("tradf")).await.unwrap_err();
    alike(&foreign, &absent);
    let tenant = |id: &str| pb::GetTenantRequest { tenant: id.into() };
    let foreign = bank.tenants().get_tenant(tenant("acme")).await.unwrap_err();
    let absent = bank.tenants().get_tenant(tenant("acmf")).await.unwrap_err();
    alike(&foreign, &absent);
    let suspend = |id: &str| pb::SuspendAccountRequest {
        request_id: request_id(),
        validate_only: false,
        account: id.into(),
        reason: "x".into(),
    };
    let foreign = bank.accounts().suspend_account(suspend("owner@acme")).await.unwrap_err();
    let absent = bank.accounts().suspend_account(suspend("owner@acmf")).await.unwrap_err();
    alike(&foreign, &absent);

    let list = bank.consortiums().list_consortiums(pb::ListConsortiumsRequest::default()).await.unwrap().into_inner();
    assert!(list.consortiums.is_empty());
    let tenants = bank.tenants().list_tenants(pb::ListTenantsRequest::default()).await.unwrap().into_inner().tenants;
    assert_eq!(tenants.len(), 1);
    let accounts = bank.accounts().list_accounts(pb::ListAccountsRequest::default()).await.unwrap().into_inner();
    assert!(accounts.accounts.iter().all(|account| account.tenant == "bank"));
    let trail = bank.audit().list_audit(pb::ListAuditRequest::default()).await.unwrap().into_inner().records;
    assert!(!trail.is_empty());
    assert!(trail.iter().all(|it| !format!("{it:?}").contains("acme")), "{trail:?}");
    cluster.stop().await;
}

/// The same answer but for the one letter in which the names differ.
fn alike(foreign: &tonic::Status, absent: &tonic::Status) {
    assert_eq!(foreign.code(), absent.code());
    assert_eq!(absent.code(), Code::NotFound);
    let normal = |text: &str| text.replace("tradf", "trade").replace("acmf", "acme");
    assert_eq!(foreign.message(), normal(absent.message()));
    // Metadata is a map whose bytes have no order.
    let details = |status: &tonic::Status| {
        let info = status.get_details_error_info().unwrap();
        let metadata: std::collections::BTreeMap<_, _> = info.metadata.into_iter().collect();
        format!("{} {metadata:?} {:?} {:?}", info.reason, status.get_details_help(), status.details().len())
    };
    assert_eq!(details(foreign), normal(&details(absent)));
}

#[tokio::test]
async fn the_trail_is_whole_and_its_chain_holds() {
    let cluster = Cluster::start(1).await;
    let root = cluster.bootstrapped().await;
    for name in ["acme", "bank", "cargo"] {
        root.tenants().create_tenant(create_tenant(name)).await.unwrap();
    }
    let head = root.audit().get_audit_head(pb::GetAuditHeadRequest {}).await.unwrap().into_inner();
    let mut stream = root.audit().export_audit(pb::ExportAuditRequest { after_seq: 0 }).await.unwrap().into_inner();
    let mut records: Vec<hanse_state::audit::AuditRecord> = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        records.extend(message.lines.iter().map(|line| serde_json::from_str(line).unwrap()));
    }
    let found = hanse_state::audit::verify(records.iter()).unwrap();
    assert_eq!((found.count, found.head.to_string()), (head.count, head.head_hash));

    let (mut token, mut listed) = (String::new(), Vec::new());
    loop {
        let request = pb::ListAuditRequest { page_size: 3, page_token: token, ..Default::default() };
        let answer = root.audit().list_audit(request).await.unwrap().into_inner();
        listed.extend(answer.records.into_iter().map(|record| record.seq));
        token = answer.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    let newest_first: Vec<u64> = (1..=head.count).rev().collect();
    assert_eq!(listed, newest_first);

    // What people did, without the platform's bookkeeping.
    let meter = hanse_state::Command::Meter(hanse_state::billing::Meter { until: now() });
    cluster.leader().await.system_try(meter).await.unwrap();
    let actions = async |changes_only| {
        let request = pb::ListAuditRequest { page_size: 1_000, changes_only, ..Default::default() };
        let records = root.audit().list_audit(request).await.unwrap().into_inner().records;
        records.into_iter().map(|record| record.action).collect::<Vec<_>>()
    };
    let bookkeeping = |action: &String| action.starts_with("Record") || action == "Meter";
    assert!(actions(false).await.iter().any(bookkeeping));
    let changes = actions(true).await;
    assert_eq!(changes.iter().filter(|action| *action == "CreateTenant").count(), 3, "{changes:?}");
    assert!(!changes.iter().any(bookkeeping), "{changes:?}");
    cluster.stop().await;
}
