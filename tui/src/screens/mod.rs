//! The screens: what each asks the API and what it says, as pure functions of the model.

use crate::app::model::data::{FailureKind, Query};
use crate::app::model::watch::Sought;
use crate::app::model::{Model, Slot};
use crate::i18n::T;

use page::{Page, State};

pub mod chart;
mod clouds;
pub mod command;
mod details;
mod explorer;
mod facts;
mod frame_pages;
mod governance;
mod lists;
mod overview;
pub mod page;
mod preflight;
mod watch;

pub use overview::{Tile, needs, recent, tiles};
pub use watch::{chart_of, window_words};

/// A screen with what it is about. Resource names are full names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Screen {
    /// Tiles, what needs a person, replicas, last changes.
    Overview,
    /// The control plane's replicas.
    Replicas,
    /// Tenants.
    Tenants,
    /// Consortiums.
    Consortiums,
    /// One consortium: members, charter, proposals.
    Consortium(String),
    /// Proposals of a consortium, or of all.
    Proposals(Option<String>),
    /// One proposal: tally, ballots, artifact.
    Proposal(String),
    /// Chains.
    Chains,
    /// One chain: nodes, heights.
    Chain(String),
    /// Nodes.
    Nodes,
    /// Hosts.
    Hosts,
    /// Clouds.
    Clouds,
    /// Machines of clouds.
    Machines,
    /// What is wrong.
    Findings,
    /// Figures of a chain, node or host over time.
    Series(String),
    /// Software that the platform keeps.
    Artifacts,
    /// What was found on a host.
    Preflight(String),
    /// Operations.
    Operations,
    /// One operation: steps.
    Operation(String),
    /// Who decides on a chain.
    Governance(String),
    /// Blocks of a chain.
    Explorer(String),
    /// What a search in a chain found.
    Found(String, String),
    /// Audit entries.
    Audit,
    /// Draft invoice of (tenant id, month).
    Invoice(String, String),
    /// Messages of this session.
    Messages,
    /// Keys.
    Help,
    /// Everything about one resource of a query, as text or as JSON.
    Facts {
        /// Where it is.
        query: Query,
        /// Its resource name.
        id: String,
        /// As JSON.
        json: bool,
    },
}

/// A screen without what it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the same names as `Screen`
pub enum Kind {
    Overview,
    Replicas,
    Tenants,
    Consortiums,
    Consortium,
    Proposals,
    Proposal,
    Chains,
    Chain,
    Nodes,
    Hosts,
    Clouds,
    Machines,
    Findings,
    Series,
    Artifacts,
    Preflight,
    Operations,
    Operation,
    Governance,
    Explorer,
    Found,
    Audit,
    Invoice,
    Messages,
    Help,
    Facts,
}

impl Screen {
    /// Returns which screen this is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Overview => Kind::Overview,
            Self::Replicas => Kind::Replicas,
            Self::Tenants => Kind::Tenants,
            Self::Consortiums => Kind::Consortiums,
            Self::Consortium(_) => Kind::Consortium,
            Self::Proposals(_) => Kind::Proposals,
            Self::Proposal(_) => Kind::Proposal,
            Self::Chains => Kind::Chains,
            Self::Chain(_) => Kind::Chain,
            Self::Nodes => Kind::Nodes,
            Self::Hosts => Kind::Hosts,
            Self::Clouds => Kind::Clouds,
            Self::Machines => Kind::Machines,
            Self::Findings => Kind::Findings,
            Self::Series(_) => Kind::Series,
            Self::Artifacts => Kind::Artifacts,
            Self::Preflight(_) => Kind::Preflight,
            Self::Operations => Kind::Operations,
            Self::Operation(_) => Kind::Operation,
            Self::Governance(_) => Kind::Governance,
            Self::Explorer(_) => Kind::Explorer,
            Self::Found(..) => Kind::Found,
            Self::Audit => Kind::Audit,
            Self::Invoice(..) => Kind::Invoice,
            Self::Messages => Kind::Messages,
            Self::Help => Kind::Help,
            Self::Facts { .. } => Kind::Facts,
        }
    }

    /// Returns what this screen asks the API; the first is what its list state is about.
    pub fn queries(&self, model: &Model) -> Vec<Query> {
        match self {
            Self::Overview => vec![
                Query::Chains,
                Query::Nodes,
                Query::Hosts,
                Query::Operations,
                Query::Tenants,
                Query::Consortiums,
                Query::Proposals(None),
                Query::Recent,
            ],
            Self::Replicas => vec![Query::Status],
            Self::Tenants => vec![Query::Tenants],
            Self::Consortiums => vec![Query::Consortiums],
            Self::Consortium(name) => vec![Query::Consortiums, Query::Proposals(Some(name.clone()))],
            Self::Proposals(scope) => vec![Query::Proposals(scope.clone())],
            Self::Proposal(name) => vec![Query::Proposal(name.clone())],
            Self::Chains => vec![Query::Chains, Query::Series(Sought::Chains, model.window)],
            Self::Chain(name) => {
                vec![Query::Chains, Query::Nodes, Query::Series(Sought::Own(name.clone()), model.window)]
            }
            Self::Nodes => vec![Query::Nodes],
            Self::Hosts => vec![Query::Hosts],
            Self::Clouds => vec![Query::Clouds],
            // A new machine is of the only cloud, if there is one.
            Self::Machines => vec![Query::Machines, Query::Clouds],
            Self::Findings => vec![Query::Findings],
            Self::Series(of) => vec![Query::Series(Sought::All(of.clone()), model.window)],
            Self::Artifacts => vec![Query::Artifacts],
            Self::Preflight(host) => vec![Query::Preflight(host.clone())],
            Self::Operations => vec![Query::Operations],
            Self::Operation(name) => vec![Query::Operation(name.clone())],
            Self::Governance(chain) => vec![Query::Governance(chain.clone())],
            Self::Explorer(chain) => vec![Query::Blocks(chain.clone())],
            Self::Found(chain, text) => vec![Query::Find(chain.clone(), text.clone())],
            Self::Audit => vec![Query::Audit, Query::AuditTree],
            Self::Invoice(tenant, month) => vec![Query::Invoice(tenant.clone(), month.clone())],
            Self::Messages | Self::Help => Vec::new(),
            Self::Facts { query: query @ (Query::Nodes | Query::Hosts), id, json: false } => {
                vec![query.clone(), Query::Series(Sought::Own(id.clone()), model.window)]
            }
            Self::Facts { query, .. } => vec![query.clone()],
        }
    }

    /// Returns the steps of the breadcrumb.
    pub fn crumbs(&self, model: &Model) -> Vec<String> {
        let t = |text: T| model.t(text).to_owned();
        match self {
            Self::Overview => vec![t(T::Overview)],
            Self::Replicas => vec![t(T::Replicas)],
            Self::Tenants => vec![t(T::Tenants)],
            Self::Consortiums => vec![t(T::Consortiums)],
            Self::Consortium(name) => vec![t(T::Consortiums), short(name)],
            Self::Proposals(None) => vec![t(T::Proposals)],
            Self::Proposals(Some(of)) => vec![t(T::Consortiums), short(of), t(T::Proposals)],
            Self::Proposal(name) => vec![t(T::Proposals), short(name)],
            Self::Chains => vec![t(T::Chains)],
            Self::Chain(name) => vec![t(T::Chains), short(name)],
            Self::Nodes => vec![t(T::Nodes)],
            Self::Hosts => vec![t(T::Hosts)],
            Self::Clouds => vec![t(T::Clouds)],
            Self::Machines => vec![t(T::Clouds), t(T::Machines)],
            Self::Findings => vec![t(T::Findings)],
            Self::Series(of) => vec![short(of), t(T::Monitor), window_words(model)],
            Self::Artifacts => vec![t(T::Artifacts)],
            Self::Preflight(host) => vec![t(T::Hosts), short(host), t(T::Preflight)],
            Self::Operations => vec![t(T::Operations)],
            Self::Operation(name) => vec![t(T::Operations), short(name)],
            Self::Governance(chain) => vec![t(T::Chains), short(chain), t(T::Governance)],
            Self::Explorer(chain) => vec![t(T::Chains), short(chain), t(T::Explorer)],
            Self::Found(chain, text) => {
                vec![t(T::Chains), short(chain), t(T::Explorer), crate::format::short_hash(text)]
            }
            Self::Audit => vec![t(T::Audit)],
            Self::Invoice(tenant, month) => vec![t(T::Billing), tenant.clone(), month.clone()],
            Self::Messages => vec![t(T::Messages)],
            Self::Help => vec![t(T::Help)],
            Self::Facts { id, json, .. } => vec![id.clone(), t(if *json { T::AsJson } else { T::Facts })],
        }
    }

    /// Returns the chain this screen is about, if it is about one.
    pub fn chain(&self) -> Option<&str> {
        match self {
            Self::Chain(name) | Self::Governance(name) | Self::Explorer(name) | Self::Found(name, _) => Some(name),
            _ => None,
        }
    }

    /// Returns whether the rows are drawn in panels instead of from the top.
    pub fn paneled(&self) -> bool {
        matches!(self, Self::Overview)
    }
}

/// Returns what the shown screen says in `columns` display columns, filtered.
pub fn page(model: &Model, columns: usize) -> Page {
    let view = model.view();
    let queries = view.screen.queries(model);
    if let Some(state) = queries.first().and_then(|q| waiting(model, q)) {
        return Page::bare(state);
    }
    let mut page = content(model, columns);
    page.filter(&view.filter);
    page
}

fn content(model: &Model, columns: usize) -> Page {
    match &model.view().screen {
        Screen::Overview => Page::of(overview::needs(model)),
        Screen::Replicas => lists::replicas(model, columns),
        Screen::Tenants => lists::tenants(model, columns),
        Screen::Consortiums => lists::consortiums(model, columns),
        Screen::Consortium(name) => details::consortium(model, name, columns),
        Screen::Proposals(scope) => lists::proposals(model, scope.as_deref(), columns),
        Screen::Proposal(name) => details::proposal(model, name, columns),
        Screen::Chains => lists::chains(model, columns),
        Screen::Chain(name) => details::chain(model, name, columns),
        Screen::Nodes => lists::nodes(model, columns),
        Screen::Hosts => lists::hosts(model, columns),
        Screen::Clouds => clouds::clouds(model, columns),
        Screen::Machines => clouds::machines(model, columns),
        Screen::Findings => watch::findings(model, columns),
        Screen::Series(of) => watch::series(model, of, columns),
        Screen::Artifacts => watch::artifacts(model, columns),
        Screen::Preflight(host) => preflight::page(model, host, columns),
        Screen::Operations => lists::operations(model, columns),
        Screen::Operation(name) => details::operation(model, name, columns),
        Screen::Governance(chain) => governance::page(model, chain, columns),
        Screen::Explorer(chain) => explorer::blocks(model, chain, columns),
        Screen::Found(chain, text) => explorer::found(model, chain, text, columns),
        Screen::Audit => lists::audit(model, columns),
        Screen::Invoice(tenant, month) => details::invoice(model, tenant, month, columns),
        Screen::Messages => frame_pages::messages(model, columns),
        Screen::Help => frame_pages::help(model),
        Screen::Facts { query, id, json } => facts::page(model, query, id, *json, columns),
    }
}

/// Returns why a query has no data to show, none if it has some. Old data stays on the screen while the newest try
/// fails, except where the account may no longer see it.
fn waiting(model: &Model, query: &Query) -> Option<State> {
    let empty = Slot::default();
    let slot = model.slots.get(query).unwrap_or(&empty);
    match (&slot.failure, &slot.loaded) {
        (Some(f), _) if f.kind == FailureKind::Denied => Some(State::Denied(f.clone())),
        (_, Some(_)) => None,
        (Some(f), None) => Some(State::Failed(f.clone())),
        (None, None) => Some(State::Loading(slot.asked_at)),
    }
}

/// Returns the name that people read: the ids of a resource name without the collections between them.
pub fn short(name: &str) -> String {
    name.split('/').skip(1).step_by(2).collect::<Vec<_>>().join("/")
}

/// Returns an account as people read it: `owner@acme` of `accounts/owner@acme`.
pub fn who(actor: &str) -> &str {
    actor.strip_prefix("accounts/").unwrap_or(actor)
}

/// Returns the last id of a resource name.
pub fn leaf(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}
