//! TemplateService: what chains can be made.

use hanse_proto::v1 as pb;
use hanse_proto::v1::template_service_server::TemplateService;
use hanse_state::chain::template::{Parameter, TEMPLATES, Template};
use tonic::{Request, Response, Status};

use super::Call;
use super::page::{Order, PAGE_DEFAULT, Page};
use crate::context::Context;

/// The kinds of chains.
pub(crate) struct Templates(Context);

impl Templates {
    /// The service of this replica.
    pub(crate) fn new(context: Context) -> Self {
        Self(context)
    }
}

#[tonic::async_trait]
impl TemplateService for Templates {
    async fn list_templates(
        &self,
        request: Request<pb::ListTemplatesRequest>,
    ) -> Result<Response<pb::ListTemplatesResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let page = Page::<String>::parse(it.page_size, &it.page_token, PAGE_DEFAULT)?;
        let items = TEMPLATES.iter().map(|one| (format!("{}/{:010}", one.name, one.version), show(one)));
        let (templates, next_page_token) = page.take(Order::Ascending, items);
        Ok(Response::new(pb::ListTemplatesResponse { header: call.read_header(), templates, next_page_token }))
    }
}

fn show(it: &Template) -> pb::Template {
    pb::Template {
        template: it.name.into(),
        version: it.version,
        engine: it.engine.into(),
        description: it.help.into(),
        parameters: it.parameters.iter().map(parameter).collect(),
        settings: it.settings.iter().map(parameter).collect(),
        nodes_min: u32::try_from(it.nodes_min).unwrap_or(u32::MAX),
        nodes_max: u32::try_from(it.nodes_max).unwrap_or(u32::MAX),
    }
}

fn parameter(it: &Parameter) -> pb::TemplateParameter {
    // The unit is the last word of a parameter's name (STYLE.md 3).
    let unit = if it.name.ends_with("_ms") { "ms" } else { "" };
    pb::TemplateParameter {
        parameter: it.name.into(),
        description: it.help.into(),
        unit: unit.into(),
        value_min: it.min,
        value_max: it.max,
        value_default: it.default,
    }
}
