//! A stand-in for the one binary, which conformance runs put on hosts: it mounts `host-run` and `host-supervise` as the
//! real one does and has a few commands that behave like nodes. Nothing else uses it.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// Serves the command line of this process.
pub fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["host-run"] => crate::run_stdio(None),
        ["host-run", "--root", root] => crate::run_stdio(Some(root.into())),
        ["host-supervise", dir] => crate::supervise(Path::new(dir)),
        ["sleep"] => sleep(),
        ["exit", code] => ExitCode::from(code.parse().unwrap_or(99)),
        ["print", rest @ ..] => print(rest),
        ["env"] => env(),
        ["hash", path] => exit(crate::file_sha256(Path::new(path)).map(|hash| println!("{hash}"))),
        ["host-run", "--root", root, "--request", request, "--answer", answer] => {
            crate::run_files(Path::new(root), Path::new(request), Path::new(answer))
        }
        ["host-dial", port] => crate::dial_stdio(port.parse().unwrap_or(0)),
        ["show", path] => exit(show(path)),
        ["link", to, path] => exit(std::os::unix::fs::symlink(to, path)),
        ["fill", path, bytes] => exit(std::fs::write(path, vec![b'x'; bytes.parse().unwrap_or(0)])),
        ["write", path, text] => exit(std::fs::write(path, text)),
        ["flood", lines] => flood(lines.parse().unwrap_or(1)),
        ["listen", port] => exit(listen(port.parse().unwrap_or(0))),
        ["eat"] => eat(),
        ["eat_slowly"] => eat_slowly(),
        ["stubborn"] => stubborn(),
        other => {
            eprintln!("unknown command {other:?}");
            ExitCode::from(64)
        }
    }
}

fn exit(result: std::io::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn sleep() -> ExitCode {
    println!("sleeping");
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

fn print(words: &[&str]) -> ExitCode {
    println!("{}", words.join(" "));
    eprintln!("printed");
    ExitCode::SUCCESS
}

/// Mode, inode and content of a file.
fn show(path: &str) -> std::io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::metadata(path)?;
    print!("{:o}\n{}\n{}", meta.mode() & 0o7777, meta.ino(), std::fs::read_to_string(path)?);
    Ok(())
}

fn env() -> ExitCode {
    for (name, value) in std::env::vars() {
        println!("{name}={value}");
    }
    ExitCode::SUCCESS
}

fn flood(lines: u32) -> ExitCode {
    for n in 0..lines {
        println!("line {n} of a program that talks too much");
    }
    ExitCode::SUCCESS
}

/// Takes memory until there is none.
fn eat() -> ExitCode {
    let mut eaten: Vec<Vec<u8>> = Vec::new();
    loop {
        eaten.push(vec![1; 1024 * 1024]);
        // Looked at, so that it is really taken.
        println!("{} MiB of {}", eaten.len(), eaten.iter().filter(|block| block[7] == 1).count());
    }
}

/// Takes a few megabytes once, and half of a processor.
fn eat_slowly() -> ExitCode {
    let eaten = vec![1_u8; 4 * 1024 * 1024];
    let mut sum = 0_u64;
    loop {
        let began = std::time::Instant::now();
        while began.elapsed() < Duration::from_millis(20) {
            sum = eaten.iter().fold(sum, |sum, byte| sum.wrapping_add(u64::from(*byte)));
        }
        // Looked at, so that it is really reckoned.
        if sum == 1 {
            println!("{sum}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Answers every connection with what it sends, until the end of it.
fn listen(port: u16) -> std::io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    println!("listening on {port}");
    for stream in listener.incoming() {
        let mut stream = stream?;
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(n @ 1..) = stream.read(&mut chunk) {
                if stream.write_all(&chunk[..n]).is_err() {
                    return;
                }
            }
        });
    }
    Ok(())
}

/// Starts a process of its own that would outlive it, and sleeps.
fn stubborn() -> ExitCode {
    match std::process::Command::new("/proc/self/exe").arg("sleep").spawn() {
        Ok(child) => println!("left {} behind", child.id()),
        Err(error) => eprintln!("{error}"),
    }
    sleep()
}
