//! ArtifactService: software that the platform keeps. Content is put to the leader piece by piece; one entry then says that
//! it is kept; every replica fetches its copy by itself (`artifacts::sync`).
//!
//! What this never does: propose an import whose content this leader does not hold whole, or give content to anybody but
//! replicas.

use std::time::Duration;

use hanse_adapters_core::BUNDLE_FILES_MAX;
use hanse_proto::v1 as pb;
use hanse_proto::v1::artifact_service_server::ArtifactService;
use hanse_state::artifact::{Artifact, DeleteArtifact, ImportArtifact, PinPublisher, UnpinPublisher, Word, query};
use hanse_state::ids::PublisherId;
use hanse_state::{Command, Digest, name};
use tonic::{Request, Response, Status};

use super::page::{Order, PAGE_DEFAULT, Page};
use super::{Call, Wish, convert, found, header, matches, replica_only, request_id};
use crate::artifacts::{ArtifactStore, Held, StoreError, sync};
use crate::context::Context;
use crate::error::ApiError;

/// Longest wait for what another replica says of its copy; longer than it waits for a comparison.
const COPY_MAX: Duration = Duration::from_secs(7);
/// Longest text that names a comparison.
const CHECK_CHARS_MAX: usize = 64;

/// Software that the platform keeps.
pub(crate) struct Artifacts(Context);

impl Artifacts {
    /// The service of this replica.
    pub(crate) fn new(context: Context) -> Self {
        Self(context)
    }

    /// Runs what blocks on the disk where that holds nobody up.
    async fn on_disk<T: Send + 'static>(
        &self,
        act: impl FnOnce(&ArtifactStore) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let (store, replica) = (self.0.artifacts().clone(), self.0.member().own);
        let done = tokio::task::spawn_blocking(move || act(&store)).await;
        done.map_err(|error| ApiError::internal("artifact store", error))?.map_err(|error| refused(replica, error))
    }

    /// What this replica has of an artifact; compared with its hashes if `check` is not empty.
    async fn own_copy(&self, artifact: &Artifact, check: &str) -> pb::Copy {
        let store = self.0.artifacts();
        let found = match check {
            "" => {
                let artifact = artifact.clone();
                match self.on_disk(move |store| store.look(&artifact)).await {
                    Ok(found) => found,
                    Err(error) => return convert::artifact::unknown(self.0.member().own, &error.to_string()),
                }
            }
            check => store.checks().ask(store, artifact, check).await,
        };
        convert::artifact::copy(self.0.member().own, found)
    }

    /// What every replica has of an artifact, by replica.
    async fn copies(&self, artifact: &Artifact, check: &str) -> Vec<pb::Copy> {
        let ask = |(id, address): (u64, String)| async move {
            if id == self.0.member().own {
                return self.own_copy(artifact, check).await;
            }
            let Some(channel) = self.0.peers().get(id, &address) else {
                return convert::artifact::unknown(id, "its address cannot be used");
            };
            let mut peer = sync::client(channel);
            let request = pb::GetCopyRequest { sha256: artifact.sha256.to_string(), check: check.to_owned() };
            match tokio::time::timeout(COPY_MAX, peer.get_copy(request)).await {
                Ok(Ok(answer)) => {
                    answer.into_inner().copy.unwrap_or_else(|| convert::artifact::unknown(id, "no answer"))
                }
                Ok(Err(status)) => convert::artifact::unknown(id, status.message()),
                Err(_) => convert::artifact::unknown(id, "no answer in time"),
            }
        };
        futures::future::join_all(self.0.api_addresses().into_iter().map(ask)).await
    }
}

fn refused(replica: u64, error: StoreError) -> ApiError {
    let message = format!("replica {replica}: {error}");
    match error {
        StoreError::Full { .. } => ApiError::store_full(&message),
        StoreError::Busy => ApiError::exhausted("TOO_MANY_UPLOADS", &message, 60),
        StoreError::Hash { .. } => ApiError::invalid(
            "data",
            &error.to_string(),
            "the file changed while it was sent, or was damaged on the way: send it again from its beginning",
        ),
        StoreError::Size(why) => ApiError::invalid("data", &why, "send pieces of at most 2 MiB that follow each other"),
        StoreError::Missing(_) => ApiError::precondition(
            "CONTENT_MISSING",
            &message,
            "put the content first (`hanse artifact import` does); after a change of leader it begins anew",
        ),
        StoreError::Manifest { .. } => {
            ApiError::invalid("sha256", &error.to_string(), "make the manifest with `hanse artifact describe`")
        }
        StoreError::Io { .. } => ApiError::internal("artifact store", error),
    }
}

fn content(sha256: &Digest, held: Held) -> pb::Content {
    pb::Content { sha256: sha256.to_string(), received_bytes: held.bytes, whole: held.whole }
}

/// An import of nothing by an operator, to ask the state's own policy who may bring software.
fn any_import() -> Command {
    let word = Word::Signed {
        publisher: PublisherId::parse("any").expect("a label"),
        signature: hanse_state::Signature([0; 64]),
    };
    Command::ImportArtifact(ImportArtifact {
        sha256: Digest::default(),
        name: String::new(),
        version: String::new(),
        kind: hanse_state::artifact::ArtifactKind::Program,
        size_bytes: 0,
        files: 0,
        program: String::new(),
        word,
    })
}

#[tonic::async_trait]
impl ArtifactService for Artifacts {
    async fn get_content(
        &self,
        request: Request<pb::GetContentRequest>,
    ) -> Result<Response<pb::GetContentResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        call.may(&any_import())?;
        let texts = request.into_inner().sha256;
        if texts.len() > BUNDLE_FILES_MAX + 1 {
            return Err(ApiError::invalid("sha256", "names more than 1001 files", "ask for fewer at once").into());
        }
        let hashes = texts.iter().map(|text| convert::hex("sha256", text)).collect::<Result<Vec<Digest>, _>>()?;
        let look = move |store: &ArtifactStore| {
            hashes.iter().map(|sha256| store.held(sha256).map(|held| content(sha256, held))).collect::<Result<_, _>>()
        };
        let contents = self.on_disk(look).await?;
        Ok(Response::new(pb::GetContentResponse { header: call.read_header(), contents }))
    }

    async fn put_content(
        &self,
        request: Request<pb::PutContentRequest>,
    ) -> Result<Response<pb::PutContentResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        call.may(&any_import())?;
        let it = request.into_inner();
        request_id(&it.request_id, self.0.log_clock())?;
        let sha256: Digest = convert::hex("sha256", &it.sha256)?;
        let held = self.on_disk(move |store| store.put(&sha256, it.size_bytes, it.offset, &it.data)).await?;
        let content = Some(content(&sha256, held));
        Ok(Response::new(pb::PutContentResponse { header: call.read_header(), content }))
    }

    async fn import_artifact(
        &self,
        request: Request<pb::ImportArtifactRequest>,
    ) -> Result<Response<pb::ImportArtifactResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let wish = Wish { request_id: &it.request_id, validate_only: it.validate_only };
        let import = convert::artifact::import(&it)?;
        let (sha256, kind) = (import.sha256, import.kind);
        call.may(&Command::ImportArtifact(import.clone()))?;
        if !it.validate_only && !call.knows(&it.request_id) {
            let measured = self.on_disk(move |store| store.measure(&sha256, kind)).await?;
            let claimed = (import.size_bytes, import.files, import.program.clone());
            if measured != claimed {
                let why = format!("the content has {measured:?} (bytes, files, program), the request says {claimed:?}");
                return Err(ApiError::invalid("size_bytes", &why, "describe the content that was put").into());
            }
        }
        let done = call.write(wish, Command::ImportArtifact(import)).await?;
        let artifact = Some(convert::artifact::artifact(found("artifact", done.state.artifacts.get(&sha256))?));
        Ok(Response::new(pb::ImportArtifactResponse { header: call.header(done.revision), artifact }))
    }

    async fn get_artifact(
        &self,
        request: Request<pb::GetArtifactRequest>,
    ) -> Result<Response<pb::GetArtifactResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        call.sight().platform("artifacts")?;
        let sha256: Digest = convert::hex("sha256", &request.get_ref().sha256)?;
        let artifact = query::get(&call.state, &sha256).map_err(ApiError::from)?;
        let copies = self.copies(artifact, "").await;
        let artifact = Some(convert::artifact::artifact(artifact));
        Ok(Response::new(pb::GetArtifactResponse { header: call.read_header(), artifact, copies }))
    }

    async fn list_artifacts(
        &self,
        request: Request<pb::ListArtifactsRequest>,
    ) -> Result<Response<pb::ListArtifactsResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        call.sight().platform("artifacts")?;
        let it = request.into_inner();
        let page = Page::<Digest>::parse(it.page_size, &it.page_token, PAGE_DEFAULT)?;
        let all = call.state.artifacts.values().map(|one| (one.sha256, convert::artifact::artifact(one)));
        let seen = all.filter(|(_, one)| matches(&it.filter, &[&one.title, &one.version, &one.sha256, &one.publisher]));
        let (artifacts, next_page_token) = page.take(Order::Ascending, seen);
        Ok(Response::new(pb::ListArtifactsResponse { header: call.read_header(), artifacts, next_page_token }))
    }

    async fn verify_artifact(
        &self,
        request: Request<pb::VerifyArtifactRequest>,
    ) -> Result<Response<pb::VerifyArtifactResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        call.may(&any_import())?;
        let it = request.into_inner();
        let check = request_id(&it.request_id, self.0.log_clock())?.to_string();
        let sha256: Digest = convert::hex("sha256", &it.sha256)?;
        let artifact = query::get(&call.state, &sha256).map_err(ApiError::from)?;
        let copies = self.copies(artifact, &check).await;
        Ok(Response::new(pb::VerifyArtifactResponse { header: call.read_header(), copies }))
    }

    async fn delete_artifact(
        &self,
        request: Request<pb::DeleteArtifactRequest>,
    ) -> Result<Response<pb::DeleteArtifactResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let sha256: Digest = convert::hex("sha256", &it.sha256)?;
        let command = Command::DeleteArtifact(DeleteArtifact { sha256 });
        call.may(&command)?;
        if let Some(setting) = self.0.configured_by(&sha256) {
            let message =
                format!("{} is named by `{setting}` in this replica's configuration", name::artifact(&sha256));
            let advice = "name another artifact there on every replica, restart them, then delete this one";
            return Err(ApiError::precondition("ARTIFACT_IN_USE", &message, advice).into());
        }
        let wish = Wish { request_id: &it.request_id, validate_only: it.validate_only };
        let done = call.write(wish, command).await?;
        Ok(Response::new(pb::DeleteArtifactResponse { header: call.header(done.revision) }))
    }

    async fn pin_publisher(
        &self,
        request: Request<pb::PinPublisherRequest>,
    ) -> Result<Response<pb::PinPublisherResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let publisher: PublisherId = convert::id("publisher", &it.publisher)?;
        let pin = PinPublisher { publisher: publisher.clone(), key: convert::hex("public_key", &it.public_key)? };
        let wish = Wish { request_id: &it.request_id, validate_only: it.validate_only };
        let done = call.write(wish, Command::PinPublisher(pin)).await?;
        let pinned = found("publisher", done.state.publishers.get(&publisher))?;
        let publisher = Some(convert::artifact::publisher(pinned));
        Ok(Response::new(pb::PinPublisherResponse { header: call.header(done.revision), publisher }))
    }

    async fn unpin_publisher(
        &self,
        request: Request<pb::UnpinPublisherRequest>,
    ) -> Result<Response<pb::UnpinPublisherResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        let it = request.into_inner();
        let command = Command::UnpinPublisher(UnpinPublisher { publisher: convert::id("publisher", &it.publisher)? });
        let wish = Wish { request_id: &it.request_id, validate_only: it.validate_only };
        let done = call.write(wish, command).await?;
        Ok(Response::new(pb::UnpinPublisherResponse { header: call.header(done.revision) }))
    }

    async fn list_publishers(
        &self,
        request: Request<pb::ListPublishersRequest>,
    ) -> Result<Response<pb::ListPublishersResponse>, Status> {
        let call = Call::enter(&self.0, &request).await?;
        call.sight().platform("publishers")?;
        let it = request.into_inner();
        let page = Page::<PublisherId>::parse(it.page_size, &it.page_token, PAGE_DEFAULT)?;
        let all = call.state.publishers.iter().map(|(id, one)| (id.clone(), convert::artifact::publisher(one)));
        let seen = all.filter(|(_, one)| matches(&it.filter, &[&one.publisher, &one.public_key]));
        let (publishers, next_page_token) = page.take(Order::Ascending, seen);
        Ok(Response::new(pb::ListPublishersResponse { header: call.read_header(), publishers, next_page_token }))
    }

    async fn get_content_piece(
        &self,
        request: Request<pb::GetContentPieceRequest>,
    ) -> Result<Response<pb::GetContentPieceResponse>, Status> {
        replica_only(&self.0, &request)?;
        let it = request.into_inner();
        let sha256: Digest = convert::hex("sha256", &it.sha256)?;
        let (size_bytes, data) = self.on_disk(move |store| store.read(&sha256, it.offset)).await?;
        let header = header(&self.0, &self.0.replica().local(), self.0.replica().local().revision);
        Ok(Response::new(pb::GetContentPieceResponse { header, size_bytes, data }))
    }

    async fn get_copy(&self, request: Request<pb::GetCopyRequest>) -> Result<Response<pb::GetCopyResponse>, Status> {
        replica_only(&self.0, &request)?;
        let it = request.into_inner();
        if it.check.len() > CHECK_CHARS_MAX {
            return Err(ApiError::invalid("check", "is longer than 64 characters", "send a request id").into());
        }
        let sha256: Digest = convert::hex("sha256", &it.sha256)?;
        let state = self.0.replica().local();
        let copy = match state.artifacts.get(&sha256) {
            Some(artifact) => self.own_copy(artifact, &it.check).await,
            None => convert::artifact::unknown(self.0.member().own, "this replica has not heard of it yet"),
        };
        Ok(Response::new(pb::GetCopyResponse { header: header(&self.0, &state, state.revision), copy: Some(copy) }))
    }
}
