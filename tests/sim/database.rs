//! The data of a simulated Redis and the commands our scripts use on it.

use std::collections::{BTreeMap, BTreeSet};

use crate::cast::EPOCH;
use crate::resp::{Command, Reply};

type Bytes = Vec<u8>;

/// Milliseconds and a number within them.
pub(crate) type StreamId = (u64, u64);

#[derive(Debug, Clone)]
enum Value {
    Text(Bytes),
    Hash(BTreeMap<Bytes, Bytes>),
    /// A sorted set whose scores are all zero, as ours are.
    Names(BTreeSet<Bytes>),
    Stream(Stream),
}

#[derive(Debug, Clone, Default)]
struct Stream {
    entries: Vec<(StreamId, Vec<Bytes>)>,
    last: StreamId,
}

/// The keys of one server.
#[derive(Debug, Clone, Default)]
pub(crate) struct Database {
    keys: BTreeMap<Bytes, Value>,
    /// Milliseconds of the server's clock, set before each command.
    pub(crate) now: u64,
    /// How far its wall clock is ahead, in milliseconds.
    pub(crate) ahead: i64,
    /// Names the process of the server.
    pub(crate) run: u64,
    /// What was written since it was last taken, as a replica repeats it.
    pub(crate) written: Vec<Command>,
}

impl Database {
    /// Runs one command.
    pub(crate) fn call(&mut self, command: &[Bytes]) -> Reply {
        let name = command[0].to_ascii_uppercase();
        let args = &command[1..];
        let reply = match name.as_slice() {
            b"GET" => self.keys.get(&args[0]).map_or(Reply::Nil, |value| match value {
                Value::Text(text) => Reply::bulk(text),
                _ => wrong_type(),
            }),
            b"EXISTS" => Reply::Int(args.iter().filter(|key| self.keys.contains_key(*key)).count() as i64),
            b"DEL" => Reply::Int(args.iter().filter(|key| self.keys.remove(*key).is_some()).count() as i64),
            b"SET" => {
                self.keys.insert(args[0].clone(), Value::Text(args[1].clone()));
                Reply::Status("OK")
            }
            b"TIME" => {
                let time = EPOCH.0.saturating_add_unsigned(self.now).saturating_add(self.ahead);
                Reply::List(vec![
                    Reply::bulk((time / 1000).to_string()),
                    Reply::bulk((time % 1000 * 1000).to_string()),
                ])
            }
            b"INFO" => Reply::bulk(format!("# Server\r\nrun_id:{:040x}\r\n", self.run)),
            name if name.starts_with(b"H") => self.on_hash(name, args),
            name if name.starts_with(b"Z") => self.on_names(name, args),
            name if name.starts_with(b"X") => self.on_stream(name, args),
            name => panic!("the simulated Redis has no {}", String::from_utf8_lossy(name)),
        };
        let writes = [b"SET".as_slice(), b"DEL", b"HSET", b"HDEL", b"HINCRBY", b"HSETNX", b"ZADD", b"ZREM"];
        if writes.contains(&name.as_slice()) && !matches!(reply, Reply::Error(_)) {
            self.written.push(command.to_vec());
        }
        reply
    }

    /// A field of a hash, for checks from outside.
    pub(crate) fn field(&self, key: &str, field: &str) -> Option<&[u8]> {
        match self.keys.get(key.as_bytes())? {
            Value::Hash(hash) => hash.get(field.as_bytes()).map(Vec::as_slice),
            _ => None,
        }
    }

    /// Keeps only the newest entries of a stream, as `XTRIM` does.
    pub(crate) fn trim(&mut self, key: &str, kept: usize) {
        if let Some(Value::Stream(stream)) = self.keys.get_mut(key.as_bytes()) {
            let cut = stream.entries.len().saturating_sub(kept);
            stream.entries.drain(..cut);
        }
    }

    fn on_hash(&mut self, name: &[u8], args: &[Bytes]) -> Reply {
        let empty = BTreeMap::new();
        let held = match self.keys.get(&args[0]) {
            None => &empty,
            Some(Value::Hash(hash)) => hash,
            Some(_) => return wrong_type(),
        };
        let value = |field: &Bytes| held.get(field).map_or(Reply::Nil, Reply::bulk);
        match name {
            b"HGET" => return value(&args[1]),
            b"HMGET" => return Reply::List(args[1..].iter().map(value).collect()),
            b"HEXISTS" => return Reply::Int(held.contains_key(&args[1]).into()),
            b"HKEYS" => return Reply::List(held.keys().map(Reply::bulk).collect()),
            b"HLEN" => return Reply::Int(held.len() as i64),
            b"HGETALL" => {
                let pairs = held.iter().flat_map(|(field, value)| [Reply::bulk(field), Reply::bulk(value)]);
                return Reply::List(pairs.collect());
            }
            _ => {}
        }
        let mut hash = held.clone();
        let reply = match name {
            b"HSET" => {
                let fresh = args[1..]
                    .chunks(2)
                    .filter(|pair| hash.insert(pair[0].clone(), pair[1].clone()).is_none());
                Reply::Int(fresh.count() as i64)
            }
            b"HSETNX" => {
                let fresh = !hash.contains_key(&args[1]);
                if fresh {
                    hash.insert(args[1].clone(), args[2].clone());
                }
                Reply::Int(fresh.into())
            }
            b"HDEL" => Reply::Int(args[1..].iter().filter(|field| hash.remove(*field).is_some()).count() as i64),
            b"HINCRBY" => {
                let by = integer(&args[2]);
                let sum = hash.get(&args[1]).map_or(0, |held| integer(held)) + by;
                hash.insert(args[1].clone(), sum.to_string().into_bytes());
                Reply::Int(sum)
            }
            _ => panic!("the simulated Redis has no {}", String::from_utf8_lossy(name)),
        };
        self.keep(&args[0], Value::Hash(hash));
        reply
    }

    fn on_names(&mut self, name: &[u8], args: &[Bytes]) -> Reply {
        let mut names = match self.keys.get(&args[0]) {
            None => BTreeSet::new(),
            Some(Value::Names(names)) => names.clone(),
            Some(_) => return wrong_type(),
        };
        let reply = match name {
            b"ZCARD" => return Reply::Int(names.len() as i64),
            b"ZRANGEBYLEX" => {
                let (kind, from) = args[1].split_first().unwrap();
                let after = names.iter().filter(|name| match kind {
                    b'(' => name.as_slice() > from,
                    _ => name.as_slice() >= from,
                });
                let limit = usize::try_from(integer(&args[5])).unwrap();
                return Reply::List(after.take(limit).map(Reply::bulk).collect());
            }
            b"ZADD" if args[1] == b"XX" => Reply::Int(0),
            b"ZADD" => Reply::Int(names.insert(args[2].clone()).into()),
            b"ZREM" => Reply::Int(names.remove(&args[1]).into()),
            _ => panic!("the simulated Redis has no {}", String::from_utf8_lossy(name)),
        };
        self.keep(&args[0], Value::Names(names));
        reply
    }

    /// An empty collection is no key.
    fn keep(&mut self, key: &Bytes, value: Value) {
        let is_empty = match &value {
            Value::Hash(hash) => hash.is_empty(),
            Value::Names(names) => names.is_empty(),
            Value::Text(_) | Value::Stream(_) => false,
        };
        if is_empty {
            self.keys.remove(key);
        } else {
            self.keys.insert(key.clone(), value);
        }
    }

    fn on_stream(&mut self, name: &[u8], args: &[Bytes]) -> Reply {
        match name {
            b"XADD" => self.add(args),
            b"XLEN" => Reply::Int(self.stream(&args[0]).map_or(0, |s| s.entries.len() as i64)),
            b"XRANGE" | b"XREVRANGE" => {
                let backwards = name == b"XREVRANGE";
                let (first, last) = if backwards { (&args[2], &args[1]) } else { (&args[1], &args[2]) };
                let within = parse_id(first)..=parse_last(last);
                let count = args.get(4).map_or(usize::MAX, |count| usize::try_from(integer(count)).unwrap());
                let entries = self.stream(&args[0]).map(|s| s.entries.as_slice()).unwrap_or_default();
                let inside = entries.iter().filter(|(id, _)| within.contains(id));
                Reply::List(if backwards {
                    inside.rev().take(count).map(encode_entry).collect()
                } else {
                    inside.take(count).map(encode_entry).collect()
                })
            }
            _ => panic!("the simulated Redis has no {}", String::from_utf8_lossy(name)),
        }
    }

    /// `XADD key MAXLEN ~ kept id field value …`; a replica gets the id that was given.
    fn add(&mut self, args: &[Bytes]) -> Reply {
        assert_eq!((args[1].as_slice(), args[2].as_slice()), (b"MAXLEN".as_slice(), b"~".as_slice()));
        let now = self.now;
        let held = self.keys.entry(args[0].clone()).or_insert_with(|| Value::Stream(Stream::default()));
        let Value::Stream(stream) = held else { return wrong_type() };
        let id = match args[4].as_slice() {
            b"*" if now > stream.last.0 => (now, 0),
            b"*" => (stream.last.0, stream.last.1 + 1),
            _ => parse_id(&args[4]),
        };
        stream.last = id;
        stream.entries.push((id, args[5..].to_vec()));
        let id = format_id(id);
        let mut repeated = vec![b"XADD".to_vec()];
        repeated.extend_from_slice(args);
        repeated[5].clone_from(&id);
        self.written.push(repeated);
        Reply::Bulk(id)
    }

    /// `XREAD` without the wait: entries after `id`, at most `count`.
    pub(crate) fn read_stream(&self, key: &[u8], after: StreamId, count: usize) -> Reply {
        let entries = self.stream(key).map(|s| s.entries.as_slice()).unwrap_or_default();
        let fresh: Vec<Reply> = entries.iter().filter(|(id, _)| *id > after).take(count).map(encode_entry).collect();
        if fresh.is_empty() {
            return Reply::NilList;
        }
        Reply::List(vec![Reply::List(vec![Reply::bulk(key), Reply::List(fresh)])])
    }

    fn stream(&self, key: &[u8]) -> Option<&Stream> {
        match self.keys.get(key)? {
            Value::Stream(stream) => Some(stream),
            _ => None,
        }
    }
}

fn encode_entry((id, fields): &(StreamId, Vec<Bytes>)) -> Reply {
    Reply::List(vec![
        Reply::Bulk(format_id(*id)),
        Reply::List(fields.iter().map(Reply::bulk).collect()),
    ])
}

/// Reads an id as `XREAD` has it.
pub(crate) fn parse_id(text: &[u8]) -> StreamId {
    let text = std::str::from_utf8(text).unwrap();
    if text == "-" {
        return (0, 0);
    }
    let (millis, number) = text.split_once('-').unwrap_or((text, "0"));
    (millis.parse().unwrap_or(0), number.parse().unwrap_or(0))
}

/// The end of a range: without a number within its millisecond it takes in all of them.
fn parse_last(text: &[u8]) -> StreamId {
    match text {
        b"+" => (u64::MAX, u64::MAX),
        _ if text.contains(&b'-') => parse_id(text),
        _ => (parse_id(text).0, u64::MAX),
    }
}

fn format_id((millis, number): StreamId) -> Bytes {
    format!("{millis}-{number}").into_bytes()
}

fn integer(text: &[u8]) -> i64 {
    std::str::from_utf8(text).unwrap().parse().unwrap()
}

fn wrong_type() -> Reply {
    Reply::Error("WRONGTYPE Operation against a key holding the wrong kind of value".into())
}
