//! A proxy before a real server that loses answers, refuses, and hides: one request a connection.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What is done with a request.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// It is carried out and the answer is thrown away.
    LoseReply,
    /// It is carried out and answered with this status and code.
    AnswerAfter(u16, &'static str),
    /// It is not carried out and answered with this status and code.
    Refuse(u16, &'static str),
    /// It is answered as if nothing were there.
    ShowNothing,
}

#[derive(Default)]
struct Book {
    faults: Vec<(&'static str, Fault)>,
    seen: Vec<String>,
    orders: BTreeMap<String, Vec<u8>>,
}

/// The proxy; it ends with the process.
pub(crate) struct Proxy {
    pub(crate) endpoint: String,
    book: Arc<Mutex<Book>>,
}

impl Proxy {
    pub(crate) fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://127.0.0.1:{}", listener.local_addr().unwrap().port());
        let book = Arc::new(Mutex::new(Book::default()));
        let shared = Arc::clone(&book);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let book = Arc::clone(&shared);
                std::thread::spawn(move || serve(stream, port, &book));
            }
        });
        Self { endpoint, book }
    }

    /// The next request of `action` that has no fault yet meets this one.
    pub(crate) fn next(&self, action: &'static str, fault: Fault) {
        self.book.lock().unwrap().faults.push((action, fault));
    }

    /// The forms of all requests of `action` so far.
    pub(crate) fn seen(&self, action: &str) -> Vec<String> {
        let head = format!("Action={action}&");
        self.book.lock().unwrap().seen.iter().filter(|form| form.starts_with(&head)).cloned().collect()
    }
}

/// The value of a form's field, as it was sent.
pub(crate) fn field<'a>(form: &'a str, name: &str) -> &'a str {
    form.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default()
}

fn serve(mut stream: TcpStream, port: u16, book: &Mutex<Book>) {
    let request = message(&mut stream);
    let Some(begin) = find(&request, b"\r\n\r\n") else { return };
    let form = String::from_utf8_lossy(&request[begin + 4..]).into_owned();
    let action = field(&form, "Action").to_owned();
    let fault = {
        let mut book = book.lock().unwrap();
        book.seen.push(form.clone());
        let at = book.faults.iter().position(|(on, _)| *on == action);
        at.map(|at| book.faults.remove(at).1)
    };
    // As EC2 does it, and neither server behind does: the same token is the same order.
    let token = field(&form, "ClientToken").to_owned();
    let known = book.lock().unwrap().orders.get(&token).cloned().filter(|_| !token.is_empty());
    let pass = || known.unwrap_or_else(|| ask(port, &request));
    let answer = match fault {
        Some(Fault::Refuse(status, code)) => refusal(status, code),
        Some(Fault::ShowNothing) => {
            written(200, "<DescribeInstancesResponse><reservationSet/></DescribeInstancesResponse>")
        }
        Some(Fault::LoseReply) => {
            let answer = pass();
            book.lock().unwrap().orders.insert(token, answer);
            return;
        }
        Some(Fault::AnswerAfter(status, code)) => {
            let answer = pass();
            book.lock().unwrap().orders.insert(token, answer);
            refusal(status, code)
        }
        None => {
            let answer = pass();
            if !token.is_empty() {
                book.lock().unwrap().orders.insert(token, answer.clone());
            }
            answer
        }
    };
    // Whoever asked may have gone.
    let _ = stream.write_all(&answer);
}

fn ask(port: u16, request: &[u8]) -> Vec<u8> {
    let mut server = TcpStream::connect(("127.0.0.1", port)).unwrap();
    server.write_all(request).unwrap();
    message(&mut server)
}

fn refusal(status: u16, code: &str) -> Vec<u8> {
    let error = format!("<Error><Code>{code}</Code><Message>as the test wishes</Message></Error>");
    written(status, &format!("<Response><Errors>{error}</Errors></Response>"))
}

fn written(status: u16, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len()).into_bytes()
}

/// Reads one message with a known length.
fn message(stream: &mut TcpStream) -> Vec<u8> {
    let (mut all, mut chunk) = (Vec::new(), [0; 8_192]);
    loop {
        if let Some(head) = find(&all, b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&all[..head]).to_lowercase();
            let length = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
            if all.len() >= head + 4 + length.unwrap_or(usize::MAX / 2) {
                return all;
            }
        }
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return all,
            Ok(n) => all.extend_from_slice(&chunk[..n]),
        }
    }
}

fn find(all: &[u8], part: &[u8]) -> Option<usize> {
    all.windows(part.len()).position(|window| window == part)
}
