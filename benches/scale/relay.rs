//! A relay in front of Redis servers, which cuts the connections that carry what it is told to cut.

use std::io::{self, BufRead, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{number, parts};

/// What connections can be told apart by, and the bytes of a command that nothing else sends. A look-up is the script
/// `find`, the only one that gets these keys one after the other.
const KINDS: [(&str, &[&[u8]]); 3] = [
    ("events", &[b"XREAD\r\n"]),
    (
        "lookups",
        &[
            b"EVALSHA\r\n",
            b"{durward}:f\r\n$11\r\n{durward}:c\r\n$11\r\n{durward}:t\r\n$11\r\n{durward}:r\r\n",
        ],
    ),
    ("replication", &[b"PSYNC\r\n"]),
];

/// Larger than most commands and replies, so that one is rarely split.
const BUFFER: usize = 65_536;

/// The numbers of kinds in [`KINDS`], as bits.
#[derive(Default)]
struct Cuts(AtomicUsize);

impl Cuts {
    fn set(&self, words: &str) {
        let bits = KINDS
            .iter()
            .enumerate()
            .filter(|(_, (name, _))| words.split(' ').any(|word| word == *name));
        self.0.store(bits.fold(0, |all, (kind, _)| all | 1 << kind), Ordering::SeqCst);
    }

    fn has(&self, kinds: usize) -> bool {
        self.0.load(Ordering::SeqCst) & kinds != 0
    }
}

/// Listens on the first port of each pair for the server on the second. Each line of the standard input names what is cut from
/// then on; the end of the input ends the relay.
///
/// # Errors
/// Bad arguments, or a port that is taken.
pub(crate) fn run(pairs: &[&str]) -> io::Result<()> {
    let cuts = Arc::new(Cuts::default());
    for pair in pairs {
        let (port, server) = parts(pair)?;
        let server = u16::try_from(number(server)?).map_err(io::Error::other)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let cuts = Arc::clone(&cuts);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // Without a server the client's connection ends at once.
                let _ = accept(client, (Ipv4Addr::LOCALHOST, server).into(), &cuts);
            }
        });
    }
    for line in io::stdin().lock().lines() {
        cuts.set(&line?);
    }
    Ok(())
}

fn accept(client: TcpStream, server: SocketAddr, cuts: &Arc<Cuts>) -> io::Result<()> {
    let server = TcpStream::connect(server)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let carries = Arc::new(AtomicUsize::new(0));
    let up = (client.try_clone()?, server.try_clone()?);
    let (cuts_up, carries_up) = (Arc::clone(cuts), Arc::clone(&carries));
    std::thread::spawn(move || {
        pass(up, &cuts_up, |bytes| {
            carries_up.fetch_or(kinds_of(bytes), Ordering::SeqCst) | kinds_of(bytes)
        });
    });
    let cuts = Arc::clone(cuts);
    std::thread::spawn(move || pass((server, client), &cuts, |_| carries.load(Ordering::SeqCst)));
    Ok(())
}

/// Passes bytes from one to the other until one of them ends, or the connection carries what is cut. What is cut is never passed.
fn pass((mut from, mut to): (TcpStream, TcpStream), cuts: &Cuts, carries: impl Fn(&[u8]) -> usize) {
    let mut buffer = vec![0; BUFFER];
    while let Ok(read) = from.read(&mut buffer) {
        if read == 0 || cuts.has(carries(&buffer[..read])) || to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    for side in [from, to] {
        let _ = side.shutdown(Shutdown::Both);
    }
}

fn kinds_of(bytes: &[u8]) -> usize {
    let has = |needle: &&[u8]| memchr::memmem::find(bytes, needle).is_some();
    let found = KINDS.iter().enumerate().filter(|(_, (_, needles))| needles.iter().all(has));
    found.fold(0, |all, (kind, _)| all | 1 << kind)
}
