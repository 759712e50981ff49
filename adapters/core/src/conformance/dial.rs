//! The way to a port of a node.

use std::collections::BTreeSet;
use std::time::Instant;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Bench, LIMIT, POLL, pid, that};
use crate::{AdapterError, InstanceSpec, Ports};

pub(super) async fn dial(b: &Bench<'_>) -> Result<(), String> {
    // Free now; a stranger taking it before the program does would fail the check, not pass it.
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).map_err(|e| e.to_string())?.port();
    let refused = b.host.dial(port).await;
    that(matches!(refused, Err(AdapterError::Transient { .. })), "nothing listens: Transient")?;
    b.host.put_artifact(b.artifact).await.map_err(|e| e.to_string())?;
    let ports = Ports { public: BTreeSet::new(), local: [port].into() };
    let spec = InstanceSpec { ports, ..b.spec("listener", 1, &["listen", &port.to_string()])? };
    pid(&b.host.ensure(&spec).await.map_err(|e| e.to_string())?)?;
    let deadline = Instant::now() + LIMIT;
    let mut stream = loop {
        match b.host.dial(port).await {
            Ok(stream) => break stream,
            Err(e) => that(Instant::now() < deadline, &format!("the port opens: {e}"))?,
        }
        tokio::time::sleep(POLL).await;
    };
    let sent = vec![7; 200_000];
    let (mut reader, mut writer) = tokio::io::split(&mut stream);
    let mut back = vec![0; sent.len()];
    let (wrote, read) = tokio::join!(writer.write_all(&sent), reader.read_exact(&mut back));
    wrote.map_err(|e| e.to_string())?;
    read.map_err(|e| e.to_string())?;
    that(back == sent, "bytes come back as sent")
}
