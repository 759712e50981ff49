//! What containers stand on: the image, the volumes, the network. Each is looked for by its labels and made if missing;
//! what nobody of ours uses any more goes with the last node.

use std::time::Duration;

use bollard::Docker;
use bollard::models::{NetworkCreateRequest, VolumeCreateRequest};
use bollard::query_parameters::{
    CreateImageOptions, ListImagesOptions, ListNetworksOptions, ListVolumesOptions, RemoveImageOptions,
    RemoveVolumeOptions,
};
use futures::TryStreamExt;
use hanse_adapters_core::{AdapterError, Artifact, InstanceKey, Result};
use ring::digest::{Context, SHA256};
use tokio::sync::Mutex;

use crate::engine::{Labels, ROLE, Role, explain, filter, labels, name_of, status};
use crate::target::invalid;
use crate::tool::pieces;
use crate::{image, node};

/// The volume with every artifact of this host, by content.
pub(crate) const STORE: &str = "hanse-artifacts";
/// Repository of our images; the tag is the program's hash.
const REPOSITORY: &str = "hanse";

/// The image of `program`, imported from its file unless it is there.
///
/// # Errors
/// `Invalid` if the file is not what its hash says or its libraries are missing; `Unknown` if no answer came.
pub(crate) async fn image(docker: &Docker, program: &Artifact) -> Result<String> {
    let name = format!("{REPOSITORY}:{}", program.sha256);
    match docker.inspect_image(&name).await {
        Ok(found) => {
            let its = found.config.and_then(|config| config.labels).unwrap_or_default();
            if its.get(ROLE).map(String::as_str) == Some(Role::Image.name()) {
                return Ok(name);
            }
            return Err(invalid(&name, "an image of this name is there and not ours: remove or rename it"));
        }
        Err(error) if status(&error) == Some(404) => {}
        Err(error) => return Err(explain(&name, error, false)),
    }
    check_hash(program).await?;
    let sent = std::sync::Arc::new(std::sync::Mutex::new(Context::new(&SHA256)));
    let (path, hashing) = (program.path.clone(), sent.clone());
    let archive = pieces(move |out| {
        image::write(&path, &mut |piece| {
            hashing.lock().unwrap_or_else(std::sync::PoisonError::into_inner).update(&piece);
            out(piece)
        })
    });
    let options = CreateImageOptions {
        from_src: Some("-".into()),
        repo: Some(REPOSITORY.into()),
        tag: Some(program.sha256.clone()),
        changes: vec![format!("LABEL {ROLE}={}", Role::Image.name())],
        ..Default::default()
    };
    let made = docker.create_image(Some(options), Some(bollard::body_try_stream(archive)), None);
    made.try_collect::<Vec<_>>().await.map_err(|e| explain(&name, e, true))?;
    let digest = sent.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone().finish();
    arrived(docker, &name, &format!("sha256:{}", hex::encode(digest))).await?;
    Ok(name)
}

/// Compares the hash of what the engine says that it has with that of what was sent.
async fn arrived(docker: &Docker, name: &str, sent: &str) -> Result<()> {
    let found = docker.inspect_image(name).await.map_err(|e| explain(name, e, true))?;
    let layers = found.root_fs.and_then(|fs| fs.layers).unwrap_or_default();
    if layers == [sent] {
        return Ok(());
    }
    let options = RemoveImageOptions { force: true, ..Default::default() };
    docker.remove_image(name, Some(options), None).await.map_err(|e| explain(name, e, true))?;
    let reason = format!("what arrived has the hash {layers:?}, {sent} was sent; it was deleted, send it again");
    Err(AdapterError::Transient { subject: name.into(), reason })
}

/// Whether a file of this machine is what its name says.
///
/// # Errors
/// `Invalid` if it is missing or differs.
pub(crate) async fn check_hash(artifact: &Artifact) -> Result<()> {
    let path = artifact.path.clone();
    let subject = path.display().to_string();
    let hashed = tokio::task::spawn_blocking(move || hanse_hostrun::file_sha256(&path)).await;
    let hashed = hashed.map_err(|e| AdapterError::Transient { subject: subject.clone(), reason: e.to_string() })?;
    match hashed {
        Ok(found) if found == artifact.sha256 => Ok(()),
        Ok(found) => Err(invalid(subject, format!("has the hash {found}, {} is wanted", artifact.sha256))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(invalid(subject, "is not there")),
        Err(error) => Err(AdapterError::Transient { subject, reason: error.to_string() }),
    }
}

/// The name of the home of `key`, made if missing.
pub(crate) async fn home(docker: &Docker, key: &InstanceKey) -> Result<String> {
    let with = labels(Role::Home, Some(key.cluster()), Some(key.object()));
    volume(docker, name_of("home", key), with).await.map(|(name, _)| name)
}

/// The volume of artifacts, made if missing; its name and when it was made.
pub(crate) async fn store(docker: &Docker) -> Result<(String, String)> {
    volume(docker, STORE.into(), labels(Role::Store, None, None)).await
}

/// The volume of that name, made if missing; one without our labels is a stranger's. Its labels are asked for after it was
/// made as well: an engine that was started again answers a creation of what is there without them.
async fn volume(docker: &Docker, name: String, with: Labels) -> Result<(String, String)> {
    let volume = match docker.inspect_volume(&name).await {
        Ok(volume) => volume,
        Err(error) if status(&error) == Some(404) => {
            let labels = Some(with.clone());
            let request = VolumeCreateRequest { name: Some(name.clone()), labels, ..Default::default() };
            docker.create_volume(request).await.map_err(|e| explain(&name, e, true))?;
            docker.inspect_volume(&name).await.map_err(|e| explain(&name, e, false))?
        }
        Err(error) => return Err(explain(&name, error, false)),
    };
    if with.iter().all(|(label, value)| volume.labels.get(label) == Some(value)) {
        return Ok((name, volume.created_at.unwrap_or_default()));
    }
    Err(invalid(&name, "a volume of this name is there and not ours: remove it"))
}

/// One network is made at a time from here. An engine makes two of one name if it is asked twice at once, and then starts no
/// container on either of them ("is ambiguous").
static MAKING: Mutex<()> = Mutex::const_new(());

/// The id of the network of a cluster's nodes, made if missing. If another controller made one at the same moment, the older
/// one is taken by both and the other removed.
pub(crate) async fn network(docker: &Docker, cluster: &str) -> Result<String> {
    let with = labels(Role::Network, Some(cluster), None);
    let _alone = MAKING.lock().await;
    let mut found = networks(docker, &with).await?;
    if found.is_empty() {
        let request =
            NetworkCreateRequest { name: format!("hanse-{cluster}"), labels: Some(with.clone()), ..Default::default() };
        match docker.create_network(request).await {
            Ok(_) => {}
            Err(error) if status(&error) == Some(409) => {}
            Err(error) => return Err(explain(format!("network of {cluster}"), error, true)),
        }
        found = networks(docker, &with).await?;
    }
    let mut found = found.into_iter();
    let oldest = found.next().ok_or_else(|| AdapterError::Transient {
        subject: format!("network of {cluster}"),
        reason: "was made and is not listed: another one of that name is in the way, or it was removed meanwhile"
            .into(),
    })?;
    for younger in found {
        remove_network(docker, &younger).await?;
    }
    Ok(oldest)
}

/// The ids of networks, the oldest first.
async fn networks(docker: &Docker, with: &Labels) -> Result<Vec<String>> {
    let options = ListNetworksOptions { filters: Some(filter(with)) };
    let listed = docker.list_networks(Some(options)).await.map_err(|e| explain("networks", e, false))?;
    let mut found: Vec<(Option<jiff::Timestamp>, String)> = listed
        .into_iter()
        .filter_map(|network| Some((network.created.and_then(|at| at.parse().ok()), network.id?)))
        .collect();
    found.sort();
    Ok(found.into_iter().map(|(_, id)| id).collect())
}

/// Removes a network unless somebody is on it.
async fn remove_network(docker: &Docker, id: &str) -> Result<()> {
    match docker.remove_network(id).await {
        Ok(()) => Ok(()),
        // Gone, or in use.
        Err(error) if matches!(status(&error), Some(403 | 404 | 409)) => Ok(()),
        Err(error) => Err(explain(id, error, true)),
    }
}

/// Removes the home of `key`; not there is a success.
pub(crate) async fn remove_home(docker: &Docker, key: &InstanceKey) -> Result<()> {
    for name in node::homes(docker, key.cluster(), Some(key.object())).await?.into_values() {
        remove_volume(docker, &name).await?;
    }
    Ok(())
}

async fn remove_volume(docker: &Docker, name: &str) -> Result<()> {
    match docker.remove_volume(name, None::<RemoveVolumeOptions>).await {
        Ok(()) => Ok(()),
        Err(error) if status(&error) == Some(404) => Ok(()),
        Err(error) => Err(explain(name, error, true)),
    }
}

/// Removes the networks of `cluster` once it has no node on this host, and the images and the store once nobody has one
/// and they are older than `keep`. Returns whether the store may have gone.
///
/// # Errors
/// The engine did not answer; the next removal does it.
pub(crate) async fn sweep(docker: &Docker, cluster: &str, keep: Duration) -> Result<bool> {
    if node::homes(docker, cluster, None).await?.is_empty() {
        for id in networks(docker, &labels(Role::Network, Some(cluster), None)).await? {
            remove_network(docker, &id).await?;
        }
    }
    let anybody = ListVolumesOptions { filters: Some(filter(&labels(Role::Home, None, None))) };
    let homes = docker.list_volumes(Some(anybody)).await.map_err(|e| explain("volumes", e, false))?;
    if homes.volumes.is_some_and(|all| !all.is_empty()) {
        return Ok(false);
    }
    let now = docker.info().await.map_err(|e| explain("the engine's clock", e, false))?.system_time;
    // What does not say when it was made stays.
    let is_old = |made: Option<String>| age(now.as_deref(), made.as_deref()).is_some_and(|age| age >= keep);
    let options = ListImagesOptions { filters: Some(filter(&labels(Role::Image, None, None))), ..Default::default() };
    for found in docker.list_images(Some(options)).await.map_err(|e| explain("images", e, false))? {
        let described = docker.inspect_image(&found.id).await.ok();
        if !is_old(described.and_then(|image| image.created)) {
            continue;
        }
        let removed = docker.remove_image(&found.id, None::<RemoveImageOptions>, None).await;
        if let Err(error) = removed
            && !matches!(status(&error), Some(404 | 409))
        {
            return Err(explain(found.id, error, true));
        }
    }
    let store = match docker.inspect_volume(STORE).await {
        Ok(store) => store,
        Err(error) if status(&error) == Some(404) => return Ok(true),
        Err(error) => return Err(explain(STORE, error, false)),
    };
    if store.labels.get(ROLE).map(String::as_str) != Some(Role::Store.name()) || !is_old(store.created_at) {
        return Ok(false);
    }
    match docker.remove_volume(STORE, None::<RemoveVolumeOptions>).await {
        Ok(()) => Ok(true),
        Err(error) if status(&error) == Some(404) => Ok(true),
        Err(error) if status(&error) == Some(409) => Ok(false),
        Err(error) => Err(explain(STORE, error, true)),
    }
}

/// How long ago something was made, by the engine's own clock; nothing is from the future.
fn age(now: Option<&str>, made: Option<&str>) -> Option<Duration> {
    let read = |text: Option<&str>| text?.parse::<jiff::Timestamp>().ok();
    Some(Duration::try_from(read(now)?.duration_since(read(made)?)).unwrap_or_default())
}
