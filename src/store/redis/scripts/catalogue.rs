//! Every script and every key in Redis: names, keys, arguments and replies.
//!
//! The text of a script is `NAME.lua` in this folder, after the parts of `lib/` that it uses. `ARGV[1]` of nearly
//! all of them is this gateway's peppers, as [`Scripts::peppers`] has them. The keys share a hash tag, so that all are in one
//! slot of a cluster:
//!
//! ```text
//! {durward}:meta      hash   format, pepper (all), dropped ones, history, position; how many credentials, tenants, fingerprints, roles;
//!                            list, what is known of `g`;
//!                            clock, the latest time in milliseconds that anything was made at
//! {durward}:c         hash   credential id -> record
//! {durward}:t         hash   tenant id -> record
//! {durward}:r         hash   role id -> record
//! {durward}:u         hash   credential id -> when a sliding one was last used
//! {durward}:f         hash   fingerprint -> "credential-id tenant-id", or "= tenant-id"
//! {durward}:n         hash   credential id -> how many credentials hang on it
//! {durward}:ids       zset   credential ids, all scores 0
//! {durward}:ids:<t>   zset   those of tenant t
//! {durward}:tids      zset   tenant ids
//! {durward}:rids:<t>  zset   role ids of tenant t
//! {durward}:g         hash   gateways and the list they make, see `lib/gateways.lua`
//! {durward}:b:<n>     hash   fingerprint -> when it was said last to be in use, in 64 parts, see `NOTE_BUSY`
//! {durward}:events    stream p = position, e = event, x = ending
//! {durward}:l:<key>   text   rate limits, see `ADMIT`
//! ```
//!
//! Records live in hashes and not in keys of their own because Redis evicts and expires whole keys
//! only: a lost hash is noticed (`DATALOST`), a single lost key would look like an absence.

use redis::{Cmd, Script};

use crate::base::clock::UnixMillis;
use crate::base::fingerprint::{Fingerprint, PepperChecks};
use crate::base::ids::{CredentialId, TenantId};
use crate::store::RecordLimits;
use crate::store::redis::stream::Ending;

use super::rights::script;

/// Version of the layout above; that of the records is inside them.
pub(crate) const FORMAT: &str = "2";

/// Events kept in the stream, about: 40 MiB, and more than a thousand a second while a gateway
/// restarts. A reader that is further behind forgets everything instead.
pub(crate) const EVENTS_KEPT: u32 = 100_000;

/// Names of the keys under one prefix.
pub(crate) struct Keys {
    pub(crate) meta: String,
    pub(crate) credentials: String,
    pub(crate) tenants: String,
    pub(crate) roles: String,
    pub(crate) used: String,
    pub(crate) children: String,
    pub(crate) fingerprints: String,
    pub(crate) ids: String,
    pub(crate) role_ids: String,
    pub(crate) tenant_ids: String,
    pub(crate) gateways: String,
    pub(crate) events: String,
    pub(crate) prefix: String,
}

impl Keys {
    pub(crate) fn new(prefix: &str) -> Self {
        let key = |name: &str| format!("{{{prefix}}}:{name}");
        Self {
            meta: key("meta"),
            credentials: key("c"),
            tenants: key("t"),
            roles: key("r"),
            used: key("u"),
            children: key("n"),
            fingerprints: key("f"),
            ids: key("ids"),
            role_ids: key("rids"),
            tenant_ids: key("tids"),
            gateways: key("g"),
            events: key("events"),
            prefix: key(""),
        }
    }

    /// One part of the list of what was in use lately.
    pub(crate) fn busy(&self, part: usize) -> String {
        format!("{}b:{part}", self.prefix)
    }

    pub(crate) fn ids_of(&self, tenant: &TenantId) -> String {
        format!("{}:{tenant}", self.ids)
    }

    pub(crate) fn role_ids_of(&self, tenant: &TenantId) -> String {
        format!("{}:{tenant}", self.role_ids)
    }

    pub(crate) fn hash(&self, kind: RecordKind) -> &String {
        match kind {
            RecordKind::Credentials => &self.credentials,
            RecordKind::Tenants => &self.tenants,
            RecordKind::Roles => &self.roles,
        }
    }
}

/// The text of these files, one after the other.
macro_rules! lua {
    ($($file:literal),+) => { concat!($(include_str!(concat!($file, ".lua"))),+) };
}

/// KEYS meta f c t r u g; ARGV pepper fingerprint entry. Whoever admits is registered at this moment, as that
/// entry of `g` that has not departed (empty: admits nobody). One round trip, one moment: the credential, what it
/// hangs on (one more than a chain may have, so that a longer one is seen) and the roles of all of them, which
/// the first line of a record names. An absence is proven: no hash has fewer entries than were made. Answers
/// the fingerprint (or an absence would be about anybody), history, position, tenant, how many
/// records and their ids in one text, each record with its last use, roles. Together they stay below what the gateway takes (`guard`). No
/// pattern is matched against more than a first line, nor so that it goes back: one record without lines would
/// hold up the server.
pub(crate) const FIND: &str = lua!("lib/peppers", "lib/bounded", "lib/with_data", "find");

/// KEYS meta hash u; ARGV pepper id counter. The record and its last use. An absence is proven.
pub(crate) const READ: &str = lua!("lib/peppers", "lib/bounded", "lib/with_data", "read");

/// KEYS meta c t r; ARGV pepper, then number of the hash among the keys and id of each record. The time, then the
/// records as they stand at this one moment. Of one that is not there the hash must be whole.
pub(crate) const READ_ALL: &str = lua!("lib/peppers", "lib/bounded", "lib/with_data", "lib/time", "read_all");

/// KEYS meta index hash u; ARGV pepper from limit counter. Ids, records and their last uses, in turn; an
/// index of everything is as large as the hash, or it was lost. Of what is too large only the id is told.
pub(crate) const PAGE: &str = lua!("lib/peppers", "lib/bounded", "lib/with_data", "page");

/// KEYS meta; ARGV pepper. The time, also of a store that is empty.
pub(crate) const TIME: &str = lua!("lib/peppers", "lib/time", "time");

/// KEYS meta c f ids `ids:<t>` t tids events r n; ARGV pepper kept history format, tenant record event
/// fingerprint (the record is empty for a tenant that is there already), the watermark of this change (empty for
/// none) and the time of what is made, most children and most credentials (empty for no bound), how many records
/// that must still be what was read with number of the hash among the keys, id and record each, how many that
/// change with id record event ending each, then id record event fingerprint fingerprint parent of each new
/// credential (the parent is empty for none).
/// A watermark is later than everything that was made, or is read anew.
/// A tenant made alone, an operator's first step, makes the store: before it there is nobody to
/// admit. A sign-up makes none: after a flush it would turn "not known" into "unknown" for everybody.
pub(crate) const CREATE: &str = lua!("lib/peppers", "lib/change", "create");

/// KEYS meta hash events; ARGV pepper id record event kept ending before. Writes only over what was read.
pub(crate) const REPLACE: &str = lua!("lib/peppers", "lib/change", "lib/with_data", "replace");

/// KEYS meta c f ids `ids:<t>` u events n; ARGV pepper id record event kept used fingerprint fingerprint parent.
/// Forgets a credential if neither it nor its last use (empty for none) has changed since they were
/// read. A hash that loses its last entry is gone, which must not look like a loss.
pub(crate) const FORGET: &str = lua!("lib/peppers", "lib/change", "lib/with_data", "forget");

/// KEYS meta r `rids:<t>` t events; ARGV pepper id record event kept tenant most.
pub(crate) const CREATE_ROLE: &str = lua!("lib/peppers", "lib/change", "lib/with_data", "create_role");

/// KEYS meta r `rids:<t>` events; ARGV pepper id record event kept ending. Deletes only what was read.
pub(crate) const DELETE_ROLE: &str = lua!("lib/peppers", "lib/change", "lib/with_data", "delete_role");

/// KEYS meta c f events; ARGV pepper id record event kept ending before, then the new fingerprint, the old
/// one, and what the index says of both. Writes only over what was read.
pub(crate) const MOVE_LOGIN: &str = lua!("lib/peppers", "lib/change", "lib/with_data", "move_login");

/// KEYS meta c u; ARGV pepper, then id and time of each use. Later uses win; no change, no event.
pub(crate) const NOTE_USE: &str = lua!("lib/peppers", "lib/bounded", "lib/with_data", "note_use");

/// KEYS meta; ARGV pepper. A write without a change, so that `WAIT` covers what others wrote before.
pub(crate) const TOUCH: &str = lua!("lib/peppers", "lib/with_data", "touch");

/// KEYS meta c f t; ARGV pepper format. Makes an empty store ours, or says whose it is.
pub(crate) const CLAIM: &str = lua!("claim");

/// KEYS meta; ARGV pepper. The peppers it was written under, and those dropped since.
pub(crate) const READ_PEPPERS: &str = lua!("lib/peppers", "read_peppers");

/// KEYS meta; ARGV pepper, then the lists as they were read and as they are to be. Answers whether they
/// were still so.
pub(crate) const SET_PEPPERS: &str = lua!("lib/peppers", "set_peppers");

/// KEYS meta events; ARGV pepper cursor. Where the stream stands, the count of its last entry and that of the
/// entry at the cursor, if they are there and have one, and the last link of the chain; nothing when there is no data.
pub(crate) const HEAD: &str = lua!("lib/peppers", "head");

/// KEYS meta busy; ARGV pepper most, then fingerprints. A hash that is full loses its oldest quarter.
pub(crate) const NOTE_BUSY: &str = lua!("lib/peppers", "lib/with_data", "note_busy");

/// KEYS busy; ARGV seconds. Answers the fingerprints that are still good, with their ages in seconds. Does not ask whether the
/// store has data: it has none before the first tenant, and then the list is empty.
pub(crate) const READ_BUSY: &str = lua!("read_busy");

/// KEYS meta g events; ARGV pepper id run standing rest silent kept most number-known known-at fresh entry counter link. The
/// standing is kept only if the stream has that entry with that count and link. Otherwise data went back: another branch of the
/// same history counts on from there, and what was applied of the lost branch says nothing about this one. `fresh` (1 or 0) is
/// whether this process was never answered yet: such a one is registered beside another of its id until
/// that one speaks, or is silent and gives way. Answers Redis' time, this gateway's place by name and how
/// many there are, the number of the list, whether the server hides which process it is, and why the list was
/// not whole.
pub(crate) const ANNOUNCE: &str = lua!("lib/peppers", "lib/with_time", "lib/gateways", "announce");

/// KEYS meta g; ARGV pepper id run number-known known-at. Answers why the list was not whole.
pub(crate) const WITHDRAW: &str = lua!("lib/peppers", "lib/with_time", "lib/gateways", "withdraw");

/// KEYS meta g; ARGV pepper kept most entry number-known known-at. Answers time, history, position, since when the list is whole, why it
/// was not, how many entries it has, and name and text of each.
pub(crate) const RECEIPTS: &str = lua!("lib/peppers", "lib/with_time", "lib/gateways", "receipts");

/// KEYS meta events; ARGV pepper after (empty: the newest) limit. Answers history, position, the
/// oldest count kept (or nothing), and count, stream id and event of each. Counts grow by one along the
/// stream and times never shrink, so the first event after a count is found by halving the time. What has no count,
/// or is larger than any of ours, somebody else wrote, and is not told.
pub(crate) const EVENTS: &str = lua!("lib/peppers", "lib/with_time", "events");

/// KEYS window; ARGV count, period and part in milliseconds. Answers admitted, remaining, and
/// milliseconds until something is forgotten.
pub(crate) const ADMIT: &str = lua!("admit");

/// Which records a read or a list is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecordKind {
    Credentials,
    Tenants,
    Roles,
}

/// A record as it is stored, and when it was last used.
pub(crate) type StoredRecord = (Option<Vec<u8>>, Option<Vec<u8>>);

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ChangeReply {
    /// Made; the counter after it.
    At(u64),
    /// Refused, and nothing was written.
    Refused(ChangeRefusal),
}

/// Why a script refused a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChangeRefusal {
    NoTenant,
    TenantTaken,
    IdTaken,
    FingerprintTaken,
    /// Somebody else changed the record since it was read.
    Stale,
    /// There is no room for another one.
    Full,
    /// As many credentials hang on one record as may.
    TooManyChildren,
    /// The tenant has as many credentials as it may.
    TooManyCredentials,
}

/// The scripts and the keys they work on.
pub(crate) struct Scripts {
    pub(super) keys: Keys,
    pub(super) own: PepperChecks,
    /// Their check values as scripts take them, the first one first.
    pub(super) peppers: String,
    /// What a look-up must find in the list of gateways; empty for what admits nobody.
    pub(super) registered: String,
    pub(super) find: Script,
    pub(super) find_begins: Cmd,
    pub(super) read: Script,
    pub(super) read_all: Script,
    pub(super) time: Script,
    pub(super) page: Script,
    pub(super) create: Script,
    pub(super) create_role: Script,
    pub(super) delete_role: Script,
    pub(super) forget: Script,
    pub(super) replace: Script,
    pub(super) note_use: Script,
    pub(super) touch: Script,
    pub(super) claim: Script,
    pub(super) read_peppers: Script,
    pub(super) set_peppers: Script,
    pub(super) move_login: Script,
    pub(super) head: Script,
    pub(super) note_busy: Script,
    pub(super) read_busy: Script,
}

impl Scripts {
    pub(crate) fn new(prefix: &str, own: PepperChecks, registered: &str) -> Self {
        let (keys, find) = (Keys::new(prefix), script(FIND));
        let peppers = own.iter().map(|check| check.to_hex()).collect::<Vec<_>>().join(" ");
        Self {
            find_begins: lookup_command(&find, &keys, &peppers),
            keys,
            peppers,
            own,
            registered: registered.to_owned(),
            find,
            read: script(READ),
            read_all: script(READ_ALL),
            time: script(TIME),
            page: script(PAGE),
            create: script(CREATE),
            create_role: script(CREATE_ROLE),
            delete_role: script(DELETE_ROLE),
            forget: script(FORGET),
            replace: script(REPLACE),
            note_use: script(NOTE_USE),
            touch: script(TOUCH),
            claim: script(CLAIM),
            read_peppers: script(READ_PEPPERS),
            set_peppers: script(SET_PEPPERS),
            move_login: script(MOVE_LOGIN),
            head: script(HEAD),
            note_busy: script(NOTE_BUSY),
            read_busy: script(READ_BUSY),
        }
    }

    /// A key of ours by its name.
    pub(crate) fn key(&self, name: &str) -> String {
        format!("{}{name}", self.keys.prefix)
    }
}

/// The beginning of the command of a look-up, which is the same for all: what is looked up follows.
fn lookup_command(script: &Script, keys: &Keys, peppers: &str) -> Cmd {
    let hashes = hashes(keys);
    let mut command = redis::cmd("EVALSHA");
    command.arg(script.get_hash()).arg(hashes.len() + 1).arg(&keys.meta);
    for key in hashes {
        command.arg(key);
    }
    command.arg(peppers);
    command
}

/// The keys that a look-up reads besides `meta`.
pub(super) fn hashes(keys: &Keys) -> [&String; 6] {
    [
        &keys.fingerprints,
        &keys.credentials,
        &keys.tenants,
        &keys.roles,
        &keys.used,
        &keys.gateways,
    ]
}

pub(crate) struct StreamHead {
    /// The random name of its history.
    pub(crate) history: String,
    /// Changes counted since its beginning.
    pub(crate) counter: u64,
    /// The newest entry of the stream.
    pub(crate) last_id: String,
    /// Its count, if it has one.
    pub(crate) at_last: Option<u64>,
    /// The count of the entry that was asked for, if it is there.
    pub(crate) at_cursor: Option<u64>,
    /// The link of the last event; a dash for none.
    pub(crate) link: String,
}

/// The arguments that every change has.
pub(crate) struct ChangeCall<'a> {
    pub(crate) id: &'a str,
    pub(crate) record: &'a [u8],
    pub(crate) event: &'a [u8],
    /// What it leaves of the record's force, [`Ending::encode`].
    pub(crate) ending: &'a str,
}

/// What a creation writes: a tenant if its record is not empty, then credentials, then changed ones,
/// if what it rests on is still what was read.
pub(crate) struct CreateCall {
    pub(crate) tenant: TenantId,
    pub(crate) tenant_record: Vec<u8>,
    pub(crate) tenant_event: Vec<u8>,
    /// What all of this rests on, what new credentials hang on, and what is to be changed, as it was read.
    pub(crate) unchanged: Vec<(RecordKind, String, Vec<u8>)>,
    pub(crate) credentials: Vec<NewCredential>,
    pub(crate) changes: Vec<ChangedCredential>,
    /// Of a change that ends what was made before it.
    pub(crate) watermark: Option<UnixMillis>,
    /// The latest time of what is made.
    pub(crate) made_at: UnixMillis,
    pub(crate) limits: Option<RecordLimits>,
}

/// One credential that a creation changes.
pub(crate) struct ChangedCredential {
    pub(crate) id: CredentialId,
    pub(crate) record: Vec<u8>,
    pub(crate) event: Vec<u8>,
    pub(crate) ending: Ending,
}

/// One credential of a creation.
#[derive(Clone)]
pub(crate) struct NewCredential {
    pub(crate) id: CredentialId,
    pub(crate) record: Vec<u8>,
    pub(crate) event: Vec<u8>,
    pub(crate) fingerprints: [Fingerprint; 2],
    pub(crate) parent: Option<CredentialId>,
}
