//! A scriptable TCP proxy between a gateway and its Redis: every fault of a network, on demand, counted.
//!
//! It passes bytes until it is told otherwise. It splits both directions into RESP values, so that it
//! can count commands, delay or replace single replies; what is not RESP (TLS) is passed as it comes.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use durward::base::clock;
use socket2::SockRef;

use super::resp::{Splitter, words};

/// Commands kept for counting: more than any test sends, and no more than a test may hold.
const KEPT: usize = 2_000_000;

/// A proxy on a port of its own.
pub(crate) struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// A command that came from the gateway.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// When it was here.
    pub(crate) at: Instant,
    /// On which connection, counted from 0.
    pub(crate) connection: usize,
    /// Its name in upper case; `?` for what is not RESP.
    pub(crate) name: String,
    /// Of a look-up by fingerprint: the fingerprint in hex, the first one if there are several.
    pub(crate) lookup: Option<String>,
    /// The other fingerprints that the same command looks up.
    others: Vec<String>,
}

/// What becomes of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Way {
    /// Bytes pass.
    #[default]
    Open,
    /// Nothing passes, and nobody is told. What was held back arrives when it opens again, as from a
    /// network that lost packets.
    Silent,
}

/// What becomes of new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Door {
    /// They are accepted.
    #[default]
    Open,
    /// They are reset at once, and counted.
    Shut,
}

/// What becomes of answers to reads of the event stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Pushes {
    /// They pass.
    #[default]
    Pass,
    /// They never arrive; the connection stays.
    Lost,
}

/// Replaces a reply; `None` leaves it.
pub(crate) type Rewrite = Arc<dyn Fn(&Seen, &[u8]) -> Option<Vec<u8>> + Send + Sync>;

/// What happens now.
#[derive(Clone, Default)]
pub(crate) struct Weather {
    /// New connections.
    pub(crate) door: Door,
    /// From the gateway to Redis.
    pub(crate) up: Way,
    /// From Redis to the gateway.
    pub(crate) down: Way,
    /// How much later replies arrive, and which: one in so many.
    pub(crate) delay: Option<(Duration, u64)>,
    /// Answers to reads of the event stream.
    pub(crate) pushes: Pushes,
    /// What is answered instead.
    pub(crate) rewrite: Option<Rewrite>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    target: SocketAddr,
    weather: Weather,
    cuts: usize,
    replies: u64,
    next_number: usize,
    connects: Vec<Instant>,
    commands: Vec<Seen>,
    open: HashMap<usize, [TcpStream; 2]>,
    stopped: bool,
}

impl FaultProxy {
    /// A proxy in front of a server on this port of this machine.
    pub(crate) fn to_port(port: u16) -> Self {
        Self::to(SocketAddr::from(([127, 0, 0, 1], port)))
    }

    /// A proxy in front of this address.
    pub(crate) fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                target,
                weather: Weather::default(),
                cuts: 0,
                replies: 0,
                next_number: 0,
                connects: Vec::new(),
                commands: Vec::new(),
                open: HashMap::new(),
                stopped: false,
            }),
            changed: Condvar::new(),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if !accept(&accepting, client) {
                    return;
                }
            }
        });
        Self { address, shared }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens, for `[store] url`.
    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Changes what happens from now on.
    pub(crate) fn set(&self, weather: Weather) {
        self.state().weather = weather;
        self.shared.changed.notify_all();
    }

    /// Everything passes again; what was held back arrives late.
    pub(crate) fn pass(&self) {
        self.set(Weather::default());
    }

    /// As a server whose process has ended: open connections end, new ones are reset.
    pub(crate) fn refuse(&self) {
        self.set(Weather {
            door: Door::Shut,
            ..Weather::default()
        });
        self.sever();
    }

    /// Nothing passes in either direction, and nobody is told.
    pub(crate) fn partition(&self) {
        self.set(Weather {
            up: Way::Silent,
            down: Way::Silent,
            ..Weather::default()
        });
    }

    /// Commands arrive, replies do not.
    pub(crate) fn half_open(&self) {
        self.set(Weather {
            down: Way::Silent,
            ..Weather::default()
        });
    }

    /// One reply in `one_in` arrives so much later; 1 is every one.
    pub(crate) fn delay(&self, by: Duration, one_in: u64) {
        self.set(Weather {
            delay: Some((by, one_in)),
            ..Weather::default()
        });
    }

    /// No answer to a read of the event stream arrives; everything else does.
    pub(crate) fn lose_pushes(&self) {
        self.set(Weather {
            pushes: Pushes::Lost,
            ..Weather::default()
        });
    }

    /// Answers something else from now on, where the function says so.
    pub(crate) fn rewrite(&self, instead: impl Fn(&Seen, &[u8]) -> Option<Vec<u8>> + Send + Sync + 'static) {
        self.set(Weather {
            rewrite: Some(Arc::new(instead)),
            ..Weather::default()
        });
    }

    /// The next so many replies to look-ups end in their middle, and their connections with them.
    pub(crate) fn cut_lookups(&self, count: usize) {
        self.state().cuts = count;
    }

    /// Ends every open connection.
    pub(crate) fn sever(&self) {
        for (_, sides) in self.state().open.drain() {
            for side in sides {
                let _ = side.shutdown(Shutdown::Both);
            }
        }
        self.shared.changed.notify_all();
    }

    /// Leads new connections to another address.
    pub(crate) fn retarget(&self, target: SocketAddr) {
        self.state().target = target;
    }

    /// Every attempt to connect so far, refused ones included.
    pub(crate) fn connects(&self) -> Vec<Instant> {
        self.state().connects.clone()
    }

    /// How many connections are open.
    pub(crate) fn open(&self) -> usize {
        self.state().open.len()
    }

    /// Every command so far.
    pub(crate) fn commands(&self) -> Vec<Seen> {
        self.state().commands.clone()
    }

    /// Every look-up by fingerprint so far, each by itself.
    pub(crate) fn lookups(&self) -> Vec<Seen> {
        let state = self.state();
        let each = state.commands.iter().flat_map(|seen| {
            let all = seen.lookup.iter().chain(&seen.others);
            all.map(|lookup| Seen {
                lookup: Some(lookup.clone()),
                others: Vec::new(),
                ..seen.clone()
            })
        });
        each.collect()
    }

    /// Forgets what was counted.
    pub(crate) fn forget(&self) {
        let mut state = self.state();
        state.connects.clear();
        state.commands.clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.state().stopped = true;
        self.sever();
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a direction is open; `None` when the connection has ended meanwhile.
    fn wait_open(&self, connection: usize, way: impl Fn(&Weather) -> Way) -> Option<()> {
        let mut state = self.lock();
        while state.open.contains_key(&connection) && way(&state.weather) == Way::Silent {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.open.contains_key(&connection).then_some(())
    }

    fn end(&self, connection: usize) {
        if let Some(sides) = self.lock().open.remove(&connection) {
            for side in sides {
                let _ = side.shutdown(Shutdown::Both);
            }
        }
        self.changed.notify_all();
    }
}

/// Takes a connection, or resets it; `false` when the proxy has ended.
fn accept(shared: &Arc<Shared>, client: TcpStream) -> bool {
    let mut state = shared.lock();
    if state.stopped {
        return false;
    }
    state.connects.push(clock::instant());
    let (number, target, door) = (state.next_number, state.target, state.weather.door);
    state.next_number += 1;
    drop(state);
    let server = match door {
        Door::Open => TcpStream::connect_timeout(&target, Duration::from_secs(1)),
        Door::Shut => Err(io::ErrorKind::ConnectionRefused.into()),
    };
    let Ok(server) = server else {
        // A reset and not an end, as from a port where nobody listens.
        let _ = SockRef::from(&client).set_linger(Some(Duration::ZERO));
        return true;
    };
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let sides = [client.try_clone().unwrap(), server.try_clone().unwrap()];
    shared.lock().open.insert(number, sides);
    let asked = Arc::new(Mutex::new(VecDeque::new()));
    let (replies, due) = mpsc::channel();
    let up = (
        Arc::clone(shared),
        client.try_clone().unwrap(),
        server.try_clone().unwrap(),
        Arc::clone(&asked),
    );
    std::thread::spawn(move || {
        let (shared, client, server, asked) = up;
        let _ = pump_up(&shared, number, client, server, &asked);
        shared.end(number);
    });
    let down = Arc::clone(shared);
    std::thread::spawn(move || {
        let _ = pump_down(&down, server, &asked, &replies);
    });
    let out = Arc::clone(shared);
    std::thread::spawn(move || {
        let _ = deliver(&out, number, client, &due);
        out.end(number);
    });
    true
}

/// Commands on their way to Redis.
fn pump_up(
    shared: &Shared,
    connection: usize,
    mut client: TcpStream,
    mut server: TcpStream,
    asked: &Mutex<VecDeque<Seen>>,
) -> io::Result<()> {
    let mut split = Splitter::default();
    while let Some(command) = split.next(&mut client)? {
        let seen = look_at(connection, &command);
        let Some(()) = shared.wait_open(connection, |weather| weather.up) else {
            return Ok(());
        };
        let mut state = shared.lock();
        if state.commands.len() < KEPT {
            state.commands.push(seen.clone());
        }
        drop(state);
        asked.lock().unwrap_or_else(PoisonError::into_inner).push_back(seen);
        server.write_all(&command)?;
    }
    Ok(())
}

/// One reply on its way to the gateway.
struct Reply {
    due: Instant,
    bytes: Vec<u8>,
    then: Then,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    GoOn,
    Cut,
}

/// Replies as they come from Redis, made what the weather makes of them.
fn pump_down(shared: &Shared, mut server: TcpStream, asked: &Mutex<VecDeque<Seen>>, replies: &mpsc::Sender<Reply>) -> io::Result<()> {
    let mut split = Splitter::default();
    while let Some(mut bytes) = split.next(&mut server)? {
        let seen = asked.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let mut state = shared.lock();
        state.replies += 1;
        let mut due = clock::instant();
        if let Some((by, one_in)) = state.weather.delay
            && state.replies.is_multiple_of(one_in)
        {
            due += by;
        }
        let mut then = Then::GoOn;
        let (rewrite, pushes) = (state.weather.rewrite.clone(), state.weather.pushes);
        if seen.as_ref().is_some_and(|seen| seen.lookup.is_some()) && state.cuts > 0 {
            state.cuts -= 1;
            bytes.truncate(bytes.len() / 2);
            then = Then::Cut;
        }
        drop(state);
        if let Some(seen) = &seen {
            if pushes == Pushes::Lost && seen.name == "XREAD" {
                continue;
            }
            if let Some(instead) = rewrite.and_then(|rewrite| rewrite(seen, &bytes)) {
                bytes = instead;
            }
        }
        if replies.send(Reply { due, bytes, then }).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Hands replies over when they are due.
fn deliver(shared: &Shared, connection: usize, mut client: TcpStream, due: &mpsc::Receiver<Reply>) -> io::Result<()> {
    for reply in due {
        super::wait::pause(reply.due.saturating_duration_since(clock::instant()));
        let Some(()) = shared.wait_open(connection, |weather| weather.down) else {
            return Ok(());
        };
        client.write_all(&reply.bytes)?;
        if reply.then == Then::Cut {
            return Ok(());
        }
    }
    // The end is held back as everything else is.
    shared.wait_open(connection, |weather| weather.down);
    Ok(())
}

fn look_at(connection: usize, command: &[u8]) -> Seen {
    let words = words(command);
    let text = |word: &Vec<u8>| String::from_utf8_lossy(word).into_owned();
    let name = words.first().map_or_else(|| "?".to_owned(), |word| text(word).to_ascii_uppercase());
    // A script whose arguments after its keys are the peppers, the gateway's entry in the list (empty for none), and fingerprints.
    let keys = words.get(2).and_then(|word| text(word).parse::<usize>().ok());
    let arguments = keys.filter(|_| name.starts_with("EVAL")).and_then(|keys| words.get(keys + 3..));
    let is_fingerprint = |word: &Vec<u8>| word.len() == 64 && word.iter().all(u8::is_ascii_hexdigit);
    let asked = match arguments {
        Some([_, entry, asked @ ..]) if (entry.is_empty() || entry.contains(&b'/')) && asked.iter().all(is_fingerprint) => asked,
        _ => &[],
    };
    Seen {
        at: clock::instant(),
        connection,
        lookup: asked.first().map(text),
        others: asked.iter().skip(1).map(text).collect(),
        name,
    }
}
