//! Which rights this gateway's user at Redis lacks, by name.
//!
//! Redis names a command that it refuses, and since 7.2 also inside scripts. Older versions name only the line of the script,
//! and the command is looked up in the script's text. In addition, a script that changes nothing tries every command that
//! scripts call: at the start, every minute, and as soon as a right was refused.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use redis::{RedisError, Script};
use tokio::sync::Notify;

use crate::base::clock::{BootMillis, Clock, SystemClock};
use crate::store::redis::topology::{RedisConnection, StoreFault};

/// What `redis.call` of our scripts begins with.
const CALL: &str = "redis.call('";

/// The right to the keys of the store, as metrics show it.
pub(crate) const KEYS: &str = "~keys";

/// The right to a command that cannot be named.
const UNNAMED: &str = "a command";

/// Commands that are sent outside of scripts.
const SENT: [&str; 14] = [
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
    "config|get",
    "sentinel|get-master-addr-by-name",
    "sentinel|replicas",
    "sentinel",
];

/// Commands of scripts, with arguments with which they change nothing on a key that does not exist. Commands that would write
/// in any case get too few or wrong arguments, which Redis checks after the rights.
const TRIED: [(&str, &str); 20] = [
    ("EXISTS", ""),
    ("GET", ""),
    ("HDEL", "'f'"),
    ("HEXISTS", "'f'"),
    ("HGET", "'f'"),
    ("HGETALL", ""),
    ("HINCRBY", "'f', 'x'"),
    ("HKEYS", ""),
    ("HLEN", ""),
    ("HMGET", "'f'"),
    ("HSET", "'f', 'v', 'f'"),
    ("SET", "'v', 'XX'"),
    ("TIME", "-"),
    ("XADD", "'NOMKSTREAM', '*', 'f', 'v'"),
    ("XRANGE", "'-', '+'"),
    ("XREVRANGE", "'+', '-'"),
    ("ZADD", "'XX', 0, 'm'"),
    ("ZCARD", ""),
    ("ZRANGEBYLEX", "'-', '+'"),
    ("ZREM", "'m'"),
];

/// How long a refused right is shown: two inspections, which renew it. A right that scripts need is removed sooner, as soon
/// as an inspection finds that it works.
const SHOWN_FOR: Duration = Duration::from_secs(150);

/// How long the concern stays that the server takes no changes. An announcement every two seconds renews it.
const CLOSED_FOR: Duration = Duration::from_secs(10);

/// The text of each script of the program, by its hash.
static TEXTS: Mutex<Option<HashMap<String, String>>> = Mutex::new(None);

/// Makes a script whose refused commands can be named.
pub(crate) fn script(text: &str) -> Script {
    let script = Script::new(text);
    let mut texts = TEXTS.lock().unwrap_or_else(PoisonError::into_inner);
    texts.get_or_insert_default().insert(script.get_hash().to_owned(), text.to_owned());
    drop(texts);
    script
}

/// The rights that were refused lately, with the time of the last refusal. Their names are ours, so they are few.
#[derive(Default)]
pub(crate) struct Rights {
    refused: Mutex<BTreeMap<String, BootMillis>>,
    /// When the server last said that it takes no changes, and why.
    closed: Mutex<Option<(BootMillis, &'static str)>>,
    fresh: Notify,
}

impl Rights {
    pub(crate) fn note(&self, fault: &StoreFault) {
        if let Some(why) = fault.closed {
            *self.closed.lock().unwrap_or_else(PoisonError::into_inner) = Some((SystemClock.now().boot, why.why()));
        }
        match fault.refused.as_slice() {
            [] => {}
            [right] => {
                if self.lock().insert(right.clone(), SystemClock.now().boot).is_none() {
                    self.fresh.notify_one();
                }
            }
            // The next inspection finds out which one.
            some => {
                let known = self.lock();
                if !some.iter().any(|right| known.contains_key(right)) {
                    self.fresh.notify_one();
                }
            }
        }
    }

    pub(crate) fn missing(&self) -> Vec<String> {
        let now = SystemClock.now().boot;
        let mut refused = self.lock();
        refused.retain(|_, last| now < last.plus(SHOWN_FOR));
        refused
            .keys()
            .filter(|right| *right != UNNAMED || refused.len() == 1)
            .cloned()
            .collect()
    }

    /// Why the server takes no changes, if it said so lately.
    pub(crate) fn closed(&self) -> Option<&'static str> {
        let last = *self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, why) = last?;
        (SystemClock.now().boot < at.plus(CLOSED_FOR)).then_some(why)
    }

    /// Waits until another right is refused.
    pub(crate) async fn refused(&self) {
        self.fresh.notified().await;
    }

    /// Tries every command that scripts call, on a key that does not exist, and `WAIT` if changes wait for replicas (`waits`).
    /// A gateway whose event reader is live (`hears`) has the right to read events.
    pub(crate) async fn look(&self, wire: &RedisConnection, key: &str, waits: bool, hears: bool) {
        let mut connection = wire.connection.clone();
        let tried: Result<Vec<String>, RedisError> = script(&trial()).key(key).invoke_async(&mut connection).await;
        let refused: BTreeSet<String> = match tried {
            Ok(names) => names.into_iter().collect(),
            Err(error) => return self.note(&StoreFault::of(&error)),
        };
        for (name, _) in TRIED {
            let right = name.to_lowercase();
            if refused.contains(name) {
                self.note(&StoreFault::of_right(&right));
            } else {
                self.lock().remove(&right);
            }
        }
        self.lock().retain(|right, _| right != KEYS && right != UNNAMED);
        if hears {
            self.lock().remove("xread");
        }
        if waits {
            let mut wait = redis::cmd("WAIT");
            wait.arg(0).arg(0);
            match wait.query_async::<redis::Value>(&mut connection).await {
                Ok(_) => drop(self.lock().remove("wait")),
                Err(error) => self.note(&StoreFault::of(&error)),
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, BootMillis>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The script that tries the commands. KEYS: a key that does not exist. Reply: the refused commands.
fn trial() -> String {
    let mut text = "local refused = {}
local function try(name, ...)
  local tried = redis.pcall(name, ...)
  local why = type(tried) == 'table' and tried.err or ''
  if string.find(why, 'permission', 1, true) or string.find(why, 'run this command', 1, true) then refused[#refused + 1] = name end
end
"
    .to_owned();
    for (name, arguments) in TRIED {
        text += &match arguments {
            "-" => format!("try('{name}')\n"),
            "" => format!("try('{name}', KEYS[1])\n"),
            _ => format!("try('{name}', KEYS[1], {arguments})\n"),
        };
    }
    text + "return refused\n"
}

/// The rights of which one is missing: several if a line of a script calls several commands, none if the error is another
/// one. A refused right has changed nothing: a refused command does nothing, and scripts try what they write before they
/// write anything (`lib/change.lua`).
///
/// Only words of ours are taken from the server's text, which may repeat arguments.
pub(crate) fn refused(error: &RedisError) -> Vec<String> {
    let detail = error.detail().unwrap_or_default();
    let in_script = match error.code() {
        Some("NOPERM") => false,
        Some("ERR")
            if detail.contains("ACL failure in script")
                // The text that the client makes of a refused `SELECT`.
                || detail.contains("no permissions to run the 'select'")
                || detail.contains("can't run this command or subcommand")
                || detail.contains("can't access at least one of the keys") =>
        {
            true
        }
        _ => return Vec::new(),
    };
    let mut rights = match named(detail) {
        Some(name) => vec![name],
        None if detail.contains("access") && detail.contains(" key") => vec![KEYS.to_owned()],
        None if in_script => in_line(detail),
        None => Vec::new(),
    };
    if rights.is_empty() {
        rights.push(UNNAMED.to_owned());
    }
    rights
}

/// The command of `… to run the 'name' command`, if it is one of ours.
fn named(detail: &str) -> Option<String> {
    let (_, rest) = detail.split_once("run the '")?;
    let name = rest.split('\'').next()?;
    let is_ours = SENT.contains(&name) || TRIED.iter().any(|(tried, _)| tried.eq_ignore_ascii_case(name));
    is_ours.then(|| name.to_owned())
}

/// The commands in the line where the script ended.
fn in_line(detail: &str) -> Vec<String> {
    let line = || {
        let hash = detail.split(|c: char| !c.is_ascii_hexdigit()).find(|word| word.len() == 40)?;
        let (_, line) = detail.rsplit_once("user_script:")?;
        let digits = line.trim_start().split(|c: char| !c.is_ascii_digit()).next()?;
        let line = digits.parse::<usize>().ok()?.checked_sub(1)?;
        let texts = TEXTS.lock().unwrap_or_else(PoisonError::into_inner);
        texts.as_ref()?.get(hash)?.lines().nth(line).map(str::to_owned)
    };
    let commands: BTreeSet<String> = line().iter().flat_map(|line| commands(line)).map(str::to_lowercase).collect();
    commands.into_iter().collect()
}

/// The commands that a line of a script calls.
fn commands(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices(CALL)
        .filter_map(|(at, _)| line.get(at + CALL.len()..)?.split('\'').next())
}

/// Rights as error messages name them.
pub(crate) fn shown(rights: &[String]) -> String {
    let words: Vec<String> = rights
        .iter()
        .map(|right| match right.as_str() {
            KEYS => "to its keys (~{key_prefix}:*)".to_owned(),
            UNNAMED => "to a command".to_owned(),
            command => format!("+{command}"),
        })
        .collect();
    words.join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(line: &str) -> String {
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        shown(&refused(&value.extract_error().unwrap_err()))
    }

    #[test]
    fn a_denied_right_is_named_and_nothing_else_of_the_text() {
        for (line, right) in [
            ("NOPERM this user has no permissions to run the 'wait' command", "+wait"),
            (
                "NOPERM this user has no permissions to run the 'wait' command or its subcommand",
                "+wait",
            ),
            ("NOPERM User durward has no permissions to run the 'role' command", "+role"),
            (
                "ERR ACL failure in script: User durward has no permissions to run the 'hkeys' command script: a, on @user_script:1.",
                "+hkeys",
            ),
            ("NOPERM User a has no permissions to run the 'canary' command", "to a command"),
            (
                "NOPERM this user has no permissions to access one of the keys used as arguments",
                "to its keys (~{key_prefix}:*)",
            ),
            ("NOPERM No permissions to access a key", "to its keys (~{key_prefix}:*)"),
            (
                "ERR ACL failure in script: No permissions to access a key script: a, on @user_script:1.",
                "to its keys (~{key_prefix}:*)",
            ),
            ("ERR another error", ""),
            ("OOM run the 'wait' command", ""),
        ] {
            assert_eq!(told(line), right, "{line}");
        }
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
        assert_eq!(new(2), "+hget");
        assert_eq!(new(3), "+hget or +hkeys");
        assert_eq!(new(1), "to a command");
        let old = format!(
            "ERR Error running script (call to f_{hash}): @user_script:2: @user_script: 2: The user executing the script can't run this command or subcommand"
        );
        assert_eq!(told(&old), "+hget");
    }

    #[test]
    fn every_command_of_a_script_is_tried() {
        let mut folders = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src/store/redis"))];
        let mut seen = BTreeSet::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let text = std::fs::read_to_string(path).unwrap();
                    seen.extend(text.lines().flat_map(commands).map(str::to_owned));
                }
            }
        }
        let tried: BTreeSet<String> = TRIED.iter().map(|(name, _)| (*name).to_owned()).collect();
        let scripts = seen.iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_uppercase()));
        assert_eq!(scripts.cloned().collect::<BTreeSet<_>>(), tried, "left: called; right: TRIED");
    }
}
