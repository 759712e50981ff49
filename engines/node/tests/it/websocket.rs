//! A WebSocket client of a few lines (RFC 6455), which can also refuse to read.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

pub(crate) struct WebSocket {
    stream: BufReader<TcpStream>,
    next_id: u64,
}

impl WebSocket {
    /// Connects; the status line if the server says no.
    pub(crate) fn connect(to: SocketAddr, headers: &[(&str, &str)]) -> Result<Self, String> {
        let mut stream = TcpStream::connect(to).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        // The key is the RFC's own example; nothing depends on it.
        let mut head = format!(
            "GET / HTTP/1.1\r\nHost: {to}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        );
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        write!(stream, "{head}\r\n").unwrap();
        let mut stream = BufReader::new(stream);
        let mut status = String::new();
        stream.read_line(&mut status).unwrap();
        if !status.contains(" 101 ") {
            return Err(status);
        }
        let mut line = String::from("more");
        while !line.trim().is_empty() {
            line.clear();
            stream.read_line(&mut line).unwrap();
        }
        Ok(Self { stream, next_id: 1 })
    }

    /// Sends a message of at most 64 KiB.
    pub(crate) fn send(&mut self, text: &str) {
        // A client must mask; a mask of zeros changes nothing.
        let mut frame = vec![0x81];
        match text.len() {
            length @ 0..=125 => frame.push(0x80 | length as u8),
            length => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
            }
        }
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(text.as_bytes());
        self.stream.get_mut().write_all(&frame).unwrap();
    }

    /// Sends a call and gives its answer; notifications before it are left out.
    pub(crate) fn call(&mut self, method: &str, params: Value) -> Value {
        let id = self.next_id;
        self.next_id += 1;
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string());
        loop {
            let message = self.receive().expect("the server closed the connection");
            if message["id"] == json!(id) {
                return message;
            }
        }
    }

    /// The next message; `None` when the server closes.
    pub(crate) fn receive(&mut self) -> Option<Value> {
        let mut text = Vec::new();
        loop {
            let mut head = [0; 2];
            self.stream.read_exact(&mut head).ok()?;
            let length = match head[1] {
                126 => {
                    let mut bytes = [0; 2];
                    self.stream.read_exact(&mut bytes).ok()?;
                    u64::from(u16::from_be_bytes(bytes))
                }
                127 => {
                    let mut bytes = [0; 8];
                    self.stream.read_exact(&mut bytes).ok()?;
                    u64::from_be_bytes(bytes)
                }
                short => u64::from(short),
            };
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            self.stream.read_exact(&mut payload).ok()?;
            match head[0] & 0x0f {
                0 | 1 => text.extend(payload),
                8 => return None,
                // A ping is not answered: no test lasts as long as the server's patience.
                _ => continue,
            }
            if head[0] & 0x80 != 0 {
                return Some(serde_json::from_slice(&text).unwrap());
            }
        }
    }
}
