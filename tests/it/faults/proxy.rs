//! The fault proxy does what it says: otherwise the table would prove nothing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use durward::base::clock;

use crate::support::fault_proxy::FaultProxy;
use crate::support::redis::RedisServer;
use crate::support::wait::until;

/// Long against a reply that passes, short for a test that waits for one that does not.
const SOON: Duration = Duration::from_millis(300);

fn connect(proxy: &FaultProxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.address()).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

fn ask(stream: &mut TcpStream, command: &str) {
    let words: Vec<&str> = command.split(' ').collect();
    let mut bytes = format!("*{}\r\n", words.len());
    for word in words {
        bytes.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    stream.write_all(bytes.as_bytes()).unwrap();
}

/// What arrives next; `None` when nothing does, empty when the connection has ended.
fn answer(stream: &mut TcpStream) -> Option<String> {
    let mut buffer = [0; 256];
    match stream.read(&mut buffer) {
        Ok(count) => Some(String::from_utf8_lossy(&buffer[..count]).into_owned()),
        Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => None,
        Err(_) => Some(String::new()),
    }
}

#[test]
fn it_passes_and_counts() {
    let redis = RedisServer::start();
    let proxy = FaultProxy::to_port(redis.port());
    let mut stream = connect(&proxy);
    ask(&mut stream, "ping");
    assert_eq!(answer(&mut stream).as_deref(), Some("+PONG\r\n"));
    let fingerprint = "ab".repeat(32);
    ask(&mut stream, &format!("EVALSHA x 1 key pepper gw/1 {fingerprint}"));
    assert!(answer(&mut stream).unwrap().starts_with("-NOSCRIPT"));
    let names: Vec<String> = proxy.commands().into_iter().map(|seen| seen.name).collect();
    assert_eq!(names, ["PING", "EVALSHA"]);
    assert!(
        proxy
            .commands()
            .iter()
            .all(|seen| seen.connection == 0 && seen.at >= proxy.connects()[0])
    );
    assert_eq!(proxy.lookups()[0].lookup.as_deref(), Some(fingerprint.as_str()));
    assert_eq!((proxy.connects().len(), proxy.open()), (1, 1));
    drop(stream);
    until("the connection's end", SOON * 10, || (proxy.open() == 0).then_some(()));
    proxy.forget();
    assert_eq!((proxy.connects().len(), proxy.commands().len()), (0, 0));
}

#[test]
fn it_refuses_and_ends_what_was_open() {
    let redis = RedisServer::start();
    let proxy = FaultProxy::to_port(redis.port());
    let mut open = connect(&proxy);
    ask(&mut open, "ping");
    assert!(answer(&mut open).is_some());
    proxy.refuse();
    assert_eq!(answer(&mut open).as_deref(), Some(""));
    let mut refused = connect(&proxy);
    assert_eq!(answer(&mut refused).as_deref(), Some(""));
    assert_eq!(proxy.connects().len(), 2);
    proxy.pass();
    let mut again = connect(&proxy);
    ask(&mut again, "ping");
    assert_eq!(answer(&mut again).as_deref(), Some("+PONG\r\n"));
}

#[test]
fn it_is_silent_in_each_direction_and_what_it_held_back_comes_late() {
    let redis = RedisServer::start();
    let proxy = FaultProxy::to_port(redis.port());
    let mut stream = connect(&proxy);
    proxy.half_open();
    ask(&mut stream, "set there yes");
    assert_eq!(answer(&mut stream), None);
    assert_eq!(redis.command::<String>(&["GET", "there"]), "yes", "the command arrived");
    proxy.partition();
    ask(&mut stream, "set there no");
    assert_eq!(answer(&mut stream), None);
    assert_eq!(redis.command::<String>(&["GET", "there"]), "yes", "the command was held back");
    proxy.pass();
    until("the late command", SOON * 10, || {
        (redis.command::<String>(&["GET", "there"]) == "no").then_some(())
    });
    assert!(answer(&mut stream).unwrap().starts_with("+OK\r\n"));
}

#[test]
fn it_delays_cuts_loses_and_replaces_single_replies() {
    let redis = RedisServer::start();
    let proxy = FaultProxy::to_port(redis.port());
    let mut stream = connect(&proxy);
    proxy.delay(SOON / 2, 1);
    let asked = clock::instant();
    ask(&mut stream, "ping");
    assert!(answer(&mut stream).is_some() && asked.elapsed() >= SOON / 2);
    proxy.rewrite(|seen, reply| (seen.name == "ECHO").then(|| [b"+not ", &reply[1..]].concat()));
    ask(&mut stream, "ping");
    assert_eq!(answer(&mut stream).as_deref(), Some("+PONG\r\n"));
    ask(&mut stream, "echo a");
    assert_eq!(answer(&mut stream).as_deref(), Some("+not 1\r\na\r\n"));
    proxy.lose_pushes();
    ask(&mut stream, "xread block 10 streams s 0-0");
    assert_eq!(answer(&mut stream), None);
    proxy.pass();
    proxy.cut_lookups(1);
    ask(&mut stream, &format!("EVALSHA x 1 key pepper gw/1 {}", "ab".repeat(32)));
    let half = answer(&mut stream).unwrap();
    assert!(half.starts_with("-NO") && !half.ends_with('\n'), "{half}");
    assert_eq!(answer(&mut stream).as_deref(), Some(""));
    let other = RedisServer::start();
    redis.command::<()>(&["SET", "name", "one"]);
    other.command::<()>(&["SET", "name", "other"]);
    proxy.retarget(([127, 0, 0, 1], other.port()).into());
    let mut stream = connect(&proxy);
    ask(&mut stream, "get name");
    assert_eq!(answer(&mut stream).as_deref(), Some("$5\r\nother\r\n"));
    assert!(proxy.url().starts_with("redis://127.0.0.1:"));
}
