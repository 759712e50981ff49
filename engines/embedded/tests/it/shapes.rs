//! What the driver makes of a port behind which something else, or something broken, answers.

use hanse_adapters_core::AdapterError;
use hanse_adapters_local::LocalAdapter;
use hanse_engines_core::{BlockRef, Engine, EngineError};
use hanse_engines_embedded::EmbeddedEngine;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::{artifact, plan, program};

/// Answers the first request on a fresh port with `answer` and closes; returns the port.
async fn serve(answer: Vec<u8>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 64 * 1024];
            if stream.read(&mut request).await.is_ok() {
                // The caller may hang up first.
                let _ = stream.write_all(&answer).await;
            }
        }
    });
    port
}

fn http(status: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len()).into_bytes()
}

#[tokio::test]
async fn every_wrong_answer_has_its_class() {
    let root = tempfile::tempdir().unwrap();
    let host = LocalAdapter::new(root.path().into(), program());
    let engine = EmbeddedEngine::new(artifact());
    let ask = async |answer: Vec<u8>| {
        let node = plan("x", 1, serve(answer).await);
        engine.block(&host, &node, &BlockRef::Latest).await
    };
    for lost in
        [b"".to_vec(), b"SSH-2.0-OpenSSH\r\n".to_vec(), b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{".to_vec()]
    {
        let seen = ask(lost).await;
        assert!(matches!(seen, Err(EngineError::Host(AdapterError::Transient { .. }))), "{seen:?}");
    }
    let inside = r#"{"jsonrpc":"2.0","id":0,"error":{"code":-32603,"message":"internal error"}}"#;
    let seen = ask(http("200 OK", inside)).await;
    assert!(matches!(seen, Err(EngineError::Host(AdapterError::Transient { .. }))), "{seen:?}");
    let refusal = r#"{"jsonrpc":"2.0","id":0,"error":{"code":-32000,"message":"no such thing"}}"#;
    for (answer, word) in [
        (http("404 Not Found", "no"), "404"),
        (http("200 OK", "<html>"), "JSON-RPC"),
        (http("200 OK", r#"{"jsonrpc":"2.0","id":0,"result":{"number":7}}"#), "cannot read"),
        (http("200 OK", refusal), "no such thing"),
    ] {
        match ask(answer).await {
            Err(EngineError::Node { reason, .. }) => assert!(reason.contains(word), "{reason}"),
            other => panic!("{word}: {other:?}"),
        }
    }
    let full = r#"{"jsonrpc":"2.0","id":0,"error":{"code":-32005,"message":"the pool is full"}}"#;
    let busy = [http("200 OK", full), http("429 Too Many Requests", ""), http("503 Service Unavailable", "")];
    for answer in busy.clone() {
        let seen = ask(answer).await;
        assert!(matches!(seen, Err(EngineError::NotNow { .. })), "{seen:?}");
    }
    let send = async |answer: Vec<u8>| {
        let node = plan("x", 1, serve(answer).await);
        engine.send_raw(&host, &node, &[1]).await
    };
    for answer in busy {
        let seen = send(answer).await;
        assert!(matches!(seen, Err(EngineError::NotNow { .. })), "{seen:?}");
    }
    // Sent, and no answer came, or none that can be read: it may be in the pool.
    let no_hash = http("200 OK", r#"{"jsonrpc":"2.0","id":0,"result":7}"#);
    for answer in [Vec::new(), http("200 OK", "<html>"), no_hash] {
        let seen = send(answer).await;
        assert!(matches!(seen, Err(EngineError::Host(AdapterError::Unknown { .. }))), "{seen:?}");
    }
    // Nobody there: nothing happened.
    let node = plan("x", 1, crate::free_ports(1)[0]);
    let seen = engine.send_raw(&host, &node, &[1]).await;
    assert!(matches!(seen, Err(EngineError::Host(AdapterError::Transient { .. }))), "{seen:?}");
}

#[tokio::test]
async fn an_endless_answer_is_cut() {
    let root = tempfile::tempdir().unwrap();
    let host = LocalAdapter::new(root.path().into(), program());
    let mut answer = b"HTTP/1.1 200 OK\r\ncontent-length: 40000000\r\n\r\n".to_vec();
    answer.resize(40_000_000, b' ');
    let node = plan("x", 1, serve(answer).await);
    let seen = EmbeddedEngine::new(artifact()).health(&host, &node).await;
    assert!(matches!(seen, Err(EngineError::Host(AdapterError::Transient { .. }))), "{seen:?}");
}
