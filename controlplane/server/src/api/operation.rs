//! OperationService: work in progress.

use hanse_proto::v1 as pb;
use hanse_proto::v1::operation_service_server::OperationService;
use hanse_state::ids::OperationId;
use tonic::{Request, Response, Status};

use super::page::{Order, PAGE_DEFAULT, Page};
use super::{Call, convert, matches};
use crate::context::Context;

/// Work in progress and its history.
pub(crate) struct Operations(Context);

impl Operations {
    /// The service of this replica.
    pub(crate) fn new(context: Context) -> Self {
        Self(context)
    }
}

#[tonic::async_trait]
impl OperationService for Operations {
    async fn get_operation(
        &self,
        request: Request<pb::GetOperationRequest>,
    ) -> Result<Response<pb::GetOperationResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let id = convert::id("operation", &request.get_ref().operation)?;
        let operation = Some(convert::operation::operation(call.sight().operation(id)?, call.sight().sees_hosts()));
        Ok(Response::new(pb::GetOperationResponse { header: call.read_header(), operation }))
    }

    async fn list_operations(
        &self,
        request: Request<pb::ListOperationsRequest>,
    ) -> Result<Response<pb::ListOperationsResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let page = Page::<OperationId>::parse(it.page_size, &it.page_token, PAGE_DEFAULT)?;
        let newest_first = call.state.operations.iter().rev().filter(|(_, one)| call.sight().sees_operation(one));
        let shown = newest_first
            .map(|(id, one)| (*id, convert::operation::operation(one, call.sight().sees_hosts())))
            .filter(|(_, one)| {
                (it.state == 0 || it.state == one.state) && matches(&it.filter, &[&one.operation, &one.target])
            });
        let (operations, next_page_token) = page.take(Order::Descending, shown);
        Ok(Response::new(pb::ListOperationsResponse { header: call.read_header(), operations, next_page_token }))
    }
}
