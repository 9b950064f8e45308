//! What `scripts/scale` needs beside the gateways: a steady load on several of them, changes at a steady rate, revocations around a
//! fault, and a relay that makes some of the faults.

mod bound;
mod changes;
mod http;
mod load;
mod pace;
mod relay;

use std::io;
use std::path::Path;
use std::time::Duration;

fn main() -> io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["load", keys, rate, seconds, ref gateways @ ..] if !gateways.is_empty() => {
            load::run(&read_keys(keys)?, number(rate)?, Duration::from_secs(number(seconds)?), gateways)
        }
        ["changes", keys, rate, seconds, ref gateways @ ..] if !gateways.is_empty() => {
            changes::run(&read_keys(keys)?, number(rate)?, Duration::from_secs(number(seconds)?), gateways)
        }
        ["bound", keys, rate, ref gateways @ ..] if !gateways.is_empty() => bound::run(&read_keys(keys)?, number(rate)?, gateways),
        ["relay", ref pairs @ ..] if !pairs.is_empty() => relay::run(pairs),
        _ => Err(io::Error::other(
            "scale load KEYS RATE SECONDS PORT:PROBES… | changes KEYS RATE SECONDS PORT:SOCKET… | bound KEYS RATE PORT:SOCKET… | relay PORT:SERVER…",
        )),
    }
}

/// One line of the file that the example `million` writes: `key tenant id`.
struct Key {
    key: String,
    id: String,
}

fn read_keys(path: &str) -> io::Result<Vec<Key>> {
    let text = std::fs::read_to_string(Path::new(path))?;
    let keys = text.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (key, _, id) = (words.next()?, words.next()?, words.next()?);
        Some(Key {
            key: key.to_owned(),
            id: id.to_owned(),
        })
    });
    Ok(keys.collect())
}

fn number(text: &str) -> io::Result<u64> {
    text.parse().map_err(io::Error::other)
}

/// The two parts of `PORT:SOMETHING`.
fn parts(gateway: &str) -> io::Result<(u16, &str)> {
    let (port, rest) = gateway.split_once(':').ok_or_else(|| io::Error::other("PORT:… is expected"))?;
    Ok((port.parse().map_err(io::Error::other)?, rest))
}
