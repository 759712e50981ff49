//! The real console against the replica, authority and token file named by the arguments; for the PTY tests.

use std::time::Duration;

use hanse_client::ClientConfig;
use hanse_tui::{ConsoleOptions, run};

fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [endpoint, ca, token, start] = arguments.as_slice() else {
        eprintln!("usage: console_probe ENDPOINT CA-FILE TOKEN-FILE START");
        return 2.into();
    };
    let ca_pem = match std::fs::read_to_string(ca) {
        Ok(pem) => pem,
        Err(error) => {
            eprintln!("{ca}: {error}");
            return 2.into();
        }
    };
    let mut client = ClientConfig::new(vec![endpoint.clone()], ca_pem);
    client.timeouts.watch_silence = Duration::from_secs(60);
    let options = ConsoleOptions {
        client,
        token_path: Some(token.into()),
        lang: None,
        ascii: false,
        read_only: false,
        start: Some(start.clone()),
        key_path: None,
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("{error}");
            return 1.into();
        }
    };
    match runtime.block_on(run(options)) {
        Ok(code) => code.into(),
        Err(error) => {
            eprintln!("{error}");
            1.into()
        }
    }
}
