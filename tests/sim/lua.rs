//! Runs our scripts as Redis does: the same text, in the Lua that Redis embeds.

use std::cell::RefCell;
use std::collections::HashMap;

use aws_lc_rs::digest;
use mlua::{Function, Lua, MultiValue, Table, Value, Variadic};

use crate::database::Database;
use crate::resp::Reply;

thread_local! {
    static INTERPRETER: Interpreter = Interpreter::new();
    /// The data of the server whose script runs.
    static DATABASE: RefCell<Database> = RefCell::default();
}

struct Interpreter {
    lua: Lua,
    scripts: RefCell<HashMap<String, Function>>,
}

/// Compiles a script; answers its hash, by which it is called.
pub(crate) fn load(text: &[u8]) -> String {
    let hash = sha1(text);
    INTERPRETER.with(|interpreter| {
        let mut scripts = interpreter.scripts.borrow_mut();
        if !scripts.contains_key(&hash) {
            scripts.insert(hash.clone(), interpreter.lua.load(text).into_function().unwrap());
        }
    });
    hash
}

/// Runs a script that was loaded, on this data.
pub(crate) fn run(hash: &str, database: &mut Database, keys: &[Vec<u8>], args: &[Vec<u8>]) -> Reply {
    DATABASE.with_borrow_mut(|held| std::mem::swap(held, database));
    let reply = INTERPRETER.with(|interpreter| interpreter.run(hash, keys, args));
    DATABASE.with_borrow_mut(|held| std::mem::swap(held, database));
    reply
}

impl Interpreter {
    fn new() -> Self {
        let lua = Lua::new();
        let redis = lua.create_table().unwrap();
        redis.set("call", lua.create_function(call).unwrap()).unwrap();
        redis.set("pcall", lua.create_function(pcall).unwrap()).unwrap();
        let error_reply = lua.create_function(|lua, text: mlua::LuaString| {
            let reply = lua.create_table()?;
            reply.set("err", text)?;
            Ok(reply)
        });
        redis.set("error_reply", error_reply.unwrap()).unwrap();
        lua.globals().set("redis", redis).unwrap();
        Self {
            lua,
            scripts: RefCell::default(),
        }
    }

    fn run(&self, hash: &str, keys: &[Vec<u8>], args: &[Vec<u8>]) -> Reply {
        let words = |words: &[Vec<u8>]| {
            let texts = words.iter().map(|word| self.lua.create_string(word).unwrap());
            self.lua.create_sequence_from(texts).unwrap()
        };
        self.lua.globals().set("KEYS", words(keys)).unwrap();
        self.lua.globals().set("ARGV", words(args)).unwrap();
        let script = self.scripts.borrow()[hash].clone();
        match script.call::<MultiValue>(()) {
            Ok(values) => reply_of(values.into_iter().next().unwrap_or(Value::Nil)),
            Err(mlua::Error::CallbackError { cause, .. }) => Reply::Error(cause.to_string()),
            Err(error) => panic!("a script failed: {error}"),
        }
    }
}

/// `redis.call`.
fn call(lua: &Lua, words: Variadic<Value>) -> mlua::Result<Value> {
    let command: Vec<Vec<u8>> = words
        .iter()
        .map(|word| match word {
            Value::String(text) => text.as_bytes().to_vec(),
            Value::Integer(number) => number.to_string().into_bytes(),
            Value::Number(number) => format!("{number}").into_bytes(),
            other => panic!("redis.call with a {}", other.type_name()),
        })
        .collect();
    let reply = DATABASE.with_borrow_mut(|database| database.call(&command));
    value_of(lua, &reply)
}

/// `redis.pcall`: an error is an answer. Besides `INFO`, and `HGET` of a role, only what tries the gateway's rights asks so, and is
/// refused nothing here.
fn pcall(lua: &Lua, words: Variadic<Value>) -> mlua::Result<Value> {
    let asks = match (words.first(), words.get(2)) {
        (Some(Value::String(name)), field) if name.as_bytes() == b"HGET".as_slice() => {
            !matches!(field, Some(Value::String(field)) if field.as_bytes() == b"f".as_slice())
        }
        (Some(Value::String(name)), _) => name.as_bytes() == b"INFO".as_slice(),
        _ => false,
    };
    if !asks {
        return lua.create_table().map(Value::Table);
    }
    call(lua, words).or_else(|error| {
        let answer = lua.create_table()?;
        answer.set("err", error.to_string())?;
        Ok(Value::Table(answer))
    })
}

fn value_of(lua: &Lua, reply: &Reply) -> mlua::Result<Value> {
    Ok(match reply {
        Reply::Nil | Reply::NilList => Value::Boolean(false),
        Reply::Int(number) => Value::Number(*number as f64),
        Reply::Bulk(bytes) => Value::String(lua.create_string(bytes)?),
        Reply::Status(word) => {
            let table = lua.create_table()?;
            table.set("ok", *word)?;
            Value::Table(table)
        }
        Reply::Error(text) => return Err(mlua::Error::runtime(text)),
        Reply::List(items) => {
            let table = lua.create_table()?;
            for (i, item) in items.iter().enumerate() {
                table.raw_set(i + 1, value_of(lua, item)?)?;
            }
            Value::Table(table)
        }
    })
}

/// What becomes of a script's answer: a list ends at its first nil, a number loses its fraction.
fn reply_of(value: Value) -> Reply {
    match value {
        Value::Boolean(true) => Reply::Int(1),
        Value::Integer(number) => Reply::Int(number),
        Value::Number(number) => Reply::Int(number as i64),
        Value::String(text) => Reply::bulk(text.as_bytes()),
        Value::Table(table) => reply_of_table(&table),
        _ => Reply::Nil,
    }
}

fn reply_of_table(table: &Table) -> Reply {
    if let Ok(Some(text)) = table.raw_get::<Option<String>>("err") {
        return Reply::Error(text);
    }
    let mut items = Vec::new();
    loop {
        match table.raw_get::<Value>(items.len() + 1).unwrap() {
            Value::Nil => return Reply::List(items),
            item => items.push(reply_of(item)),
        }
    }
}

fn sha1(text: &[u8]) -> String {
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text);
    hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
