//! Says which right of this gateway's user is missing: Redis names it for commands only, not inside scripts.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use redis::{RedisError, Script};

use super::fault::Effect;
use super::lua::RECORD_CHANGE;

/// What `redis.call` of our scripts begins with.
const CALL: &str = "redis.call('";

/// The right to its keys.
const KEYS: &str = "~… (its keys)";

/// Commands of scripts that write.
const WRITES: [&str; 7] = ["HSET", "HDEL", "HINCRBY", "XADD", "ZADD", "ZREM", "SET"];

/// The text of each script by its hash: as many as this program has.
static TEXTS: Mutex<Option<HashMap<String, String>>> = Mutex::new(None);

/// A script whose denied commands can be named.
pub(super) fn script(text: &str) -> Script {
    let script = Script::new(text);
    let mut texts = TEXTS.lock().unwrap_or_else(PoisonError::into_inner);
    texts.get_or_insert_default().insert(script.get_hash().to_owned(), text.to_owned());
    drop(texts);
    script
}

/// What the user may not do.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Denied {
    /// Words of an ACL.
    pub(super) right: String,
    pub(super) effect: Effect,
}

/// Which right is missing; `None` when the error is another one.
///
/// Of the server's text only words are used that are ours: it may repeat arguments.
pub(super) fn denied(error: &RedisError) -> Option<Denied> {
    let detail = error.detail().unwrap_or_default();
    let told = |right: &str, effect| {
        Some(Denied {
            right: right.to_owned(),
            effect,
        })
    };
    match error.code()? {
        // A command that is refused does nothing.
        "NOPERM" if detail.contains(" keys ") || detail.contains(" key ") => told(KEYS, Effect::Nothing),
        "NOPERM" => told(&command_of(detail).unwrap_or_else(|| "a command".to_owned()), Effect::Nothing),
        "ERR" if detail.contains("can't access at least one of the keys") => told(KEYS, Effect::Unknown),
        "ERR" if detail.contains("can't run this command or subcommand") => {
            in_script(detail).or_else(|| told("a command in a script", Effect::Unknown))
        }
        _ => None,
    }
}

/// The command of `… to run the 'name' command`, if it is a command's name.
fn command_of(detail: &str) -> Option<String> {
    let name = detail.split('\'').nth(1)?;
    let known = [
        "role",
        "info",
        "wait",
        "evalsha",
        "script|load",
        "script",
        "cluster|slots",
        "cluster",
        "xread",
        "select",
    ];
    known.contains(&name).then(|| format!("+{name}"))
}

/// The commands that stand in the line of the script where it ended. Reads come before what a script writes, and
/// what it writes first is an event ([`RECORD_CHANGE`](super::lua::RECORD_CHANGE)).
fn in_script(detail: &str) -> Option<Denied> {
    let hash = detail.split(|c: char| !c.is_ascii_hexdigit()).find(|word| word.len() == 40)?;
    let (_, line) = detail.rsplit_once("user_script:")?;
    let digits = line.trim_start().split(|c: char| !c.is_ascii_digit()).next()?;
    let line = digits.parse::<usize>().ok()?.checked_sub(1)?;
    let texts = TEXTS.lock().unwrap_or_else(PoisonError::into_inner);
    let text = texts.as_ref()?.get(hash)?.clone();
    drop(texts);
    let before: Vec<&str> = text.lines().take(line + 1).collect();
    let denied: BTreeSet<&str> = commands(before.get(line)?).collect();
    let wrote = |text: &str| {
        commands_of_change(text).is_none() && (text.contains("change(KEYS") || commands(text).any(|name| WRITES.contains(&name)))
    };
    let effect = match commands_of_change(before.get(line)?) {
        Some(()) => Effect::Nothing,
        None if before.iter().any(|text| wrote(text)) => Effect::Unknown,
        None => Effect::Nothing,
    };
    let named: Vec<String> = denied.iter().map(|name| format!("+{}", name.to_lowercase())).collect();
    (!named.is_empty()).then(|| Denied {
        right: named.join(" or "),
        effect,
    })
}

/// The commands that a line of a script calls.
fn commands(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices(CALL)
        .filter_map(|(at, _)| line.get(at + CALL.len()..)?.split('\'').next())
}

/// Whether this line is one of those that begin a change.
fn commands_of_change(line: &str) -> Option<()> {
    (!line.trim().is_empty() && RECORD_CHANGE.contains(line)).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(line: &str) -> Option<String> {
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        denied(&value.extract_error().unwrap_err()).map(|denied| denied.right)
    }

    #[test]
    fn a_denied_right_is_named_and_nothing_else_of_the_text() {
        assert_eq!(
            told("NOPERM this user has no permissions to run the 'wait' command").as_deref(),
            Some("+wait")
        );
        assert_eq!(
            told("NOPERM User durward has no permissions to run the 'role' command").as_deref(),
            Some("+role")
        );
        assert_eq!(told("NOPERM run the 'canary' command").as_deref(), Some("a command"));
        let keys = "NOPERM this user has no permissions to access one of the keys used as arguments";
        assert_eq!(told(keys).as_deref(), Some("~… (its keys)"));
        assert_eq!(told("ERR another error"), None);
    }

    #[test]
    fn inside_a_script_the_line_tells() {
        let hash = script("local a = 1\nredis.call('HGET', 'a')\nredis.call('HKEYS', redis.call('HGET', 'b'))\n")
            .get_hash()
            .to_owned();
        let new = |line: u8| {
            told(&format!(
                "ERR The user executing the script can't run this command or subcommand script: {hash}, on @user_script:{line}."
            ))
        };
        assert_eq!(new(2).as_deref(), Some("+hget"));
        assert_eq!(new(3).as_deref(), Some("+hget or +hkeys"));
        assert_eq!(new(1).as_deref(), Some("a command in a script"));
        let old = format!(
            "ERR Error running script (call to f_{hash}): @user_script:2: @user_script: 2: The user executing the script can't run this command or subcommand"
        );
        assert_eq!(told(&old).as_deref(), Some("+hget"));
    }
}
