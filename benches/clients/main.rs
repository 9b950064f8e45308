//! The clients of `benches/table.sh` beside wrk and h2load: handshakes, connections that wait, look-ups, and a steady load.

mod handshakes;
#[allow(dead_code, reason = "sockets are asked elsewhere")]
#[path = "../scale/http.rs"]
mod http;
mod idle;
mod load;
#[path = "../scale/pace.rs"]
mod pace;
mod tls;

use std::io::{self, Write};
use std::time::Duration;

use http::{Address, Line, request_of};

/// Longer than any answer takes.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["handshakes", port, keys, seconds, kind @ ("full" | "resumed")] => handshakes::run(
            number(port)?,
            &read_keys(keys)?,
            Duration::from_secs(number(seconds)?),
            kind == "resumed",
        ),
        ["idle", port, keys, count, kind @ ("plain" | "tls" | "h2")] => idle::run(number(port)?, &read_keys(keys)?, number(count)?, kind),
        ["lookups", port, keys] => look_up(number(port)?, &read_keys(keys)?),
        ["load", port, keys, rate, seconds] => load::run(
            number(port)?,
            &read_keys(keys)?,
            number(rate)?,
            Duration::from_secs(number(seconds)?),
        ),
        _ => Err(io::Error::other(
            "clients handshakes PORT KEYS SECONDS full|resumed | idle PORT KEYS COUNT plain|tls|h2 | lookups PORT KEYS | \
             load PORT KEYS RATE SECONDS",
        )),
    }
}

fn number<T: TryFrom<u64>>(text: &str) -> io::Result<T> {
    let number = text.parse::<u64>().map_err(io::Error::other)?;
    T::try_from(number).map_err(|_| io::Error::other(format!("{number} is too large")))
}

/// The first words of the lines that the example `relay` writes.
fn read_keys(path: &str) -> io::Result<Vec<String>> {
    let text = std::fs::read_to_string(path)?;
    let keys: Vec<String> = text.lines().filter_map(|line| line.split(' ').next().map(str::to_owned)).collect();
    if keys.is_empty() {
        Err(io::Error::other(format!("{path} has no keys")))
    } else {
        Ok(keys)
    }
}

/// Each key once, one after the other on one connection.
fn look_up(port: u16, keys: &[String]) -> io::Result<()> {
    let mut line = Line::to(Address::Port(port));
    for key in keys {
        admitted(line.ask(&request_of(key))?)?;
    }
    writeln!(io::stdout(), "{}", keys.len())
}

fn admitted(status: u16) -> io::Result<()> {
    if status == 200 {
        Ok(())
    } else {
        Err(io::Error::other(format!("answered with {status}")))
    }
}
