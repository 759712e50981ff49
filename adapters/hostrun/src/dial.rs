//! A port of this host's loopback on standard input and output, for hosts whose instances have a network each.
//!
//! The first line says whether the port was reached ([`REACHED`], or why not on standard error); what follows are the bytes
//! as they are. It ends when the port has ended its side, or [`LINGER`] after the input has ended. It listens to nobody.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

/// The first line of a reached port.
pub const REACHED: &str = "reached\n";
/// How long the loopback may take to connect.
const CONNECT: Duration = Duration::from_secs(5);
/// How long the port may still speak after the input has ended: who asked may have gone away.
const LINGER: Duration = Duration::from_secs(30);

/// Connects the port with standard input and output until the port ends its side.
pub fn dial_stdio(port: u16) -> ExitCode {
    match connect(port) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error is read by whoever asked; one that cannot be written to has nobody left to tell.
            let _ = writeln!(std::io::stderr(), "127.0.0.1:{port}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn connect(port: u16) -> std::io::Result<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, CONNECT)?;
    stream.set_nodelay(true)?;
    let mut out = std::io::stdout().lock();
    out.write_all(REACHED.as_bytes())?;
    out.flush()?;
    let mut up = stream.try_clone()?;
    std::thread::spawn(move || {
        // However the input ends, the port is told that no more comes, and later that nobody listens.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut up);
        let _ = up.shutdown(Shutdown::Write);
        std::thread::sleep(LINGER);
        let _ = up.shutdown(Shutdown::Both);
    });
    let mut chunk = [0; 64 * 1024];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(count) => out.write_all(&chunk[..count]).and_then(|()| out.flush())?,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
