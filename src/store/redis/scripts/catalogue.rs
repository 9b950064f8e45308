//! Every script and every key in Redis: names, keys, arguments and replies.
//!
//! The text of a script is its file in this folder, after the parts of `lib/` that it uses. *Peppers* among the arguments are
//! the check values of this gateway's peppers, its first one first ([`Scripts::peppers`]). The keys share a hash tag, so that
//! all of them are in one slot of a cluster:
//!
//! ```text
//! {durward}:meta      hash   format; pepper and dropped, lists of peppers; history; position; link, the last of the chain;
//!                            how many credentials, tenants, fingerprints, roles, marks; used, 1 if `u` has entries;
//!                            list, a copy of the first entry of `g`;
//!                            clock, the latest time in milliseconds at which anything was made
//! {durward}:c         hash   credential id -> record
//! {durward}:t         hash   tenant id -> record
//! {durward}:r         hash   role id -> record
//! {durward}:u         hash   credential id -> when a sliding one was last used
//! {durward}:f         hash   fingerprint -> "credential-id tenant-id", or "= tenant-id"
//! {durward}:n         hash   credential id -> how many credentials hang on it
//! {durward}:o         hash   mark that is taken once -> time in milliseconds until which it is kept
//! {durward}:oe        zset   "<that time in 15 digits>:<mark>", all scores 0: the first ones end first
//! {durward}:ids       zset   credential ids, all scores 0
//! {durward}:ids:<t>   zset   those of tenant t
//! {durward}:tids      zset   tenant ids
//! {durward}:rids:<t>  zset   role ids of tenant t
//! {durward}:g         hash   gateways and the list they make, see `lib/gateways.lua`
//! {durward}:k         hash   gateway id -> newest checkpoint of its audit trail, see `EXCHANGE_CHECKPOINTS`
//! {durward}:b:<n>     hash   fingerprint -> second of its last use, in 64 parts, see `NOTE_BUSY`
//! {durward}:events    stream p = position, e = event, x = ending, l = links, g = gateway, see `lib/change.lua`
//! {durward}:l:<key>   text   rate limits, see `ADMIT`
//! ```
//!
//! Records live in hashes, not in keys of their own, because Redis evicts and expires only whole keys. A lost hash is noticed
//! (`DATALOST`). A single lost key would look like an absence.

use redis::{Cmd, Script};

use crate::base::clock::UnixMillis;
use crate::base::fingerprint::{Fingerprint, PepperChecks};
use crate::base::ids::{CredentialId, TenantId};
use crate::store::RecordLimits;
use crate::store::redis::stream::Ending;

use super::rights::script;

/// Version of this layout. Records have a version of their own inside.
pub(crate) const FORMAT: &str = "2";

/// Events kept in the stream, approximately: 40 MiB, and more than a thousand events a second while a gateway restarts. A
/// reader that is further behind forgets all facts instead.
const EVENTS_KEPT: u32 = 100_000;

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
    pub(crate) marks: String,
    pub(crate) mark_ends: String,
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
            marks: key("o"),
            mark_ends: key("oe"),
            events: key("events"),
            prefix: key(""),
        }
    }

    /// One part of the list of credentials that were in use lately.
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

/// Looks credentials up, each with what it hangs on and the roles of all of these, at one moment and in one round trip.
///
/// KEYS: meta f c t r u g.
/// ARGV: peppers; the entry of this gateway in `g`, which must be registered (empty for a process that admits no requests); the
/// fingerprints.
/// Reply: history, position and the last link of the chain of events, and for each fingerprint a list: the fingerprint (an absence
/// names nobody, so the question is repeated); and if there is a credential, its tenant, the number of records and their ids in one
/// text, each record with its last use, and the roles. Instead of a list there may be an error, which is about this look-up only.
///
/// One record more is read than a chain may have, so that a longer chain is noticed. An absence is proven: no hash has fewer
/// entries than were made. The reply stays below the bounds of `topology::reply_guard`, and the server answers others soon: a
/// look-up that does not fit beside the others, by its bytes or by the number of its reads, fails with `ALONE`, and the gateway asks
/// again for it alone. Patterns match only the first line of a record, and never backtrack: a record without lines must not hold
/// up the server.
pub(crate) const FIND: &str = lua!("lib/peppers", "lib/bounded", "lib/with_data", "find");

/// Reads one record.
///
/// KEYS: meta, the hash, u. ARGV: peppers; the id; the field of meta that counts the records of the hash.
/// Reply: the record and its last use. An absence is proven.
pub(crate) const READ: &str = lua!("lib/peppers", "lib/bounded", "lib/with_data", "read");

/// Reads records of several kinds at one moment.
///
/// KEYS: meta c t r. ARGV: peppers; for each record the number of its hash among the keys, and its id.
/// Reply: the time, then the records in this order. An absence is proven.
pub(crate) const READ_ALL: &str = lua!("lib/peppers", "lib/bounded", "lib/with_data", "lib/time", "read_all");

/// Reads a page of records in order of id.
///
/// KEYS: meta, the index, the hash, u. ARGV: peppers; the first id, in the form of `ZRANGEBYLEX`; the most records; the field of
/// meta that counts the records (empty for the index of one tenant).
/// Reply: id, record and last use of each. Of a record that is too large, only the id. The index of all records must be as
/// large as the hash; otherwise entries were lost.
pub(crate) const PAGE: &str = lua!("lib/peppers", "lib/bounded", "lib/with_data", "page");

/// The time of the store, also of an empty one.
///
/// KEYS: meta. ARGV: peppers. Reply: milliseconds.
pub(crate) const TIME: &str = lua!("lib/peppers", "lib/time", "time");

/// Makes a tenant and credentials, and changes credentials: all of it, or nothing.
///
/// KEYS: meta c f ids `ids:<t>` t tids events r n.
/// ARGV: peppers; the origin; a new history; the format; the tenant, its record (empty for a tenant that exists), its event and
/// its fingerprint; the watermark of this change (empty for none); the time of what is made; most children and most credentials
/// (empty for no bound); how many records must still be what was read, and for each the number of its hash among the keys, its
/// id and the record; how many records change, and for each id, record, event and ending; then for each new credential id,
/// record, event, both fingerprints and parent (empty for none).
/// Reply: the position, or the word of a [`ChangeRefusal`].
///
/// A watermark must be later than everything that was made; otherwise the caller reads again. A tenant that is made alone, an
/// operator's first step, also makes the store. A sign-up does not: after a flush it would turn "not known" into "unknown".
pub(crate) const CREATE: &str = lua!("lib/peppers", "lib/change", "create");

/// Writes a record over exactly the one that was read.
///
/// KEYS: meta, the hash, events. ARGV: peppers id record event origin ending; the record that was read.
/// Reply: the position, or `stale`.
pub(crate) const REPLACE: &str = lua!("lib/peppers", "lib/change", "lib/with_data", "replace");

/// Deletes a credential if neither its record nor its last use has changed since they were read.
///
/// KEYS: meta c f ids `ids:<t>` u events n. ARGV: peppers id record event origin; the last use (empty for none); both
/// fingerprints; the parent.
/// Reply: the position, or `stale`. A hash that loses its last entry disappears, which must not look like a loss.
pub(crate) const FORGET: &str = lua!("lib/peppers", "lib/change", "lib/with_data", "forget");

/// Makes a role of a tenant.
///
/// KEYS: meta r `rids:<t>` t events. ARGV: peppers id record event origin; the tenant; most roles of a tenant.
/// Reply: the position, or the word of a [`ChangeRefusal`].
pub(crate) const CREATE_ROLE: &str = lua!("lib/peppers", "lib/change", "lib/with_data", "create_role");

/// Deletes exactly the role that was read.
///
/// KEYS: meta r `rids:<t>` events. ARGV: peppers id record event origin ending. Reply: the position, or `stale`.
pub(crate) const DELETE_ROLE: &str = lua!("lib/peppers", "lib/change", "lib/with_data", "delete_role");

/// Lets an account be found by another fingerprint of its log-in name.
///
/// KEYS: meta c f events. ARGV: peppers id record event origin ending; the record that was read; the new fingerprint; the old one;
/// the entry of the index for both.
/// Reply: the position, or the word of a [`ChangeRefusal`].
pub(crate) const MOVE_LOGIN: &str = lua!("lib/peppers", "lib/change", "lib/with_data", "move_login");

/// Notes last uses. A later use wins. It makes no change and no event.
///
/// KEYS: meta c u. ARGV: peppers; id and time of each use. Reply: 1.
pub(crate) const NOTE_USE: &str = lua!("lib/peppers", "lib/bounded", "lib/with_data", "note_use");

/// Takes a mark that may be taken once, unless somebody has it.
///
/// KEYS: meta o oe. ARGV: peppers; the mark; the time until which it must be kept; most marks; how long a mark may be kept from now
/// on, and how much longer each is kept, in milliseconds.
/// Reply: the mark, and `first`, `taken` or `full`. It makes no change of a record and no event.
///
/// The reply repeats the mark, since the reply to another question must not admit anybody a second time. That nobody has the
/// mark is proven: neither key has fewer entries than were made. Each call removes some marks whose time is over.
pub(crate) const TAKE_ONCE: &str = lua!("lib/peppers", "lib/change", "lib/time", "lib/with_data", "take_once");

/// A write that changes nothing, so that a following `WAIT` covers what other connections wrote before.
///
/// KEYS: meta. ARGV: peppers. Reply: the position.
pub(crate) const TOUCH: &str = lua!("lib/peppers", "lib/with_data", "touch");

/// Makes an empty store ours, or says whose it is.
///
/// KEYS: meta c f t. ARGV: peppers; the format. Reply: the format, the peppers, the dropped ones.
pub(crate) const CLAIM: &str = lua!("claim");

/// The peppers that the store was written under, and those that were dropped since.
///
/// KEYS: meta. ARGV: peppers. Reply: both lists.
pub(crate) const READ_PEPPERS: &str = lua!("lib/peppers", "read_peppers");

/// Replaces the lists of peppers if they still are what was read.
///
/// KEYS: meta. ARGV: peppers; both lists as they were read; both new lists. Reply: 1, or 0 if they had changed.
pub(crate) const SET_PEPPERS: &str = lua!("lib/peppers", "set_peppers");

/// Where the event stream stands.
///
/// KEYS: meta events g f c t. ARGV: peppers; the cursor; the entry of this gateway, as FIND has it.
/// Reply: history, position, the id and the count of the last entry, the count of the entry at the cursor (each count only if it
/// is there and is one), the last link of the chain; 1 if a look-up would be answered now: this gateway is registered, and no hash
/// has fewer entries than were made. Nil when there is no data.
pub(crate) const HEAD: &str = lua!("lib/peppers", "head");

/// Notes that credentials are in use. A hash that is full loses its oldest quarter.
///
/// KEYS: meta, a part of b. ARGV: peppers; the most entries; the fingerprints. Reply: 1.
pub(crate) const NOTE_BUSY: &str = lua!("lib/peppers", "lib/with_data", "note_busy");

/// The credentials that were in use lately.
///
/// KEYS: a part of b. ARGV: seconds for which an entry is good. Reply: each fingerprint and its age in seconds. The script does
/// not check that the store has data: before the first tenant there is none, and the list is empty.
pub(crate) const READ_BUSY: &str = lua!("read_busy");

/// Registers a gateway, or renews its entry.
///
/// KEYS: meta g events.
/// ARGV: peppers; id; run; standing (history and count); the rest of the entry; after how many milliseconds a gateway is silent;
/// how long an entry is kept; most gateways; the number and the time that this process knows of the list; 1 if this process was
/// never answered yet; the stream id, the count and the link of an entry that proves the standing.
/// Reply: the time; the rank of this gateway by name, and the number of gateways; the number of the list; 1 if the server hides
/// which process it is; why the list was not complete.
///
/// The standing is kept only if the stream has that entry with that count and link. Otherwise data went back: another branch of
/// the same history has the same counts, and what was applied of the lost branch says nothing about this one. A process that was
/// never answered is registered beside another one of its id, until that one speaks, or is silent and gives way.
pub(crate) const ANNOUNCE: &str = lua!("lib/peppers", "lib/with_time", "lib/gateways", "announce");

/// Takes the entry of a gateway away.
///
/// KEYS: meta g. ARGV: peppers; id; run; the number and the time that this process knows of the list.
/// Reply: why the list was not complete.
pub(crate) const WITHDRAW: &str = lua!("lib/peppers", "lib/with_time", "lib/gateways", "withdraw");

/// Lists all gateways.
///
/// KEYS: meta g. ARGV: peppers; how long an entry is kept; most entries; the entry of this process; the number and the time that
/// it knows of the list.
/// Reply: the time, history, position, since when the list is complete, why it was not, the number of entries, and name and
/// text of each.
pub(crate) const RECEIPTS: &str = lua!("lib/peppers", "lib/with_time", "lib/gateways", "receipts");

/// Publishes the newest checkpoint of a gateway's audit trail, and reads those of the others.
///
/// KEYS: meta g k. ARGV: peppers; id; run; the checkpoint (empty for none); most checkpoints of the reply; most bytes of one.
/// Reply: id and checkpoint of each other gateway.
///
/// Only a registered gateway publishes. What departed gateways published is deleted, so that `k` has no more fields than `g`.
pub(crate) const EXCHANGE_CHECKPOINTS: &str = lua!("lib/peppers", "lib/with_time", "exchange_checkpoints");

/// Reads the event log.
///
/// KEYS: meta events. ARGV: peppers; the count to begin after (empty for the newest events); the most events.
/// Reply: history, position, the oldest count that is kept (or nil), and count, stream id, event and gateway of each.
///
/// Counts grow by one along the stream, and times never shrink, so the first event after a count is found by halving the time.
/// An entry without a count, or larger than any of ours, was written by somebody else, and is left out.
pub(crate) const EVENTS: &str = lua!("lib/peppers", "lib/with_time", "events");

/// Counts a request against a rate limit.
///
/// KEYS: the window. ARGV: the limit; period and part in milliseconds; `judge` to count nothing.
/// Reply: 1 if admitted; how many requests remain; milliseconds until the oldest part is forgotten.
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

/// The reply of a script that changes something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ChangeReply {
    /// The change was made; the position after it.
    At(u64),
    /// The change was refused, and nothing was written.
    Refused(ChangeRefusal),
}

/// Why a script refused a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChangeRefusal {
    NoTenant,
    TenantTaken,
    IdTaken,
    FingerprintTaken,
    /// The record has changed since it was read.
    Stale,
    /// The tenant has the most roles that it may have.
    Full,
    /// A record has the most children that it may have.
    TooManyChildren,
    /// The tenant has the most credentials that it may have.
    TooManyCredentials,
}

/// What became of the wish to take a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MarkReply {
    /// Nobody had it.
    First,
    Taken,
    /// There are as many marks as may be.
    Full,
}

/// The scripts and the keys they work on.
pub(crate) struct Scripts {
    pub(super) keys: Keys,
    pub(super) own: PepperChecks,
    /// The check values of `own` as the scripts take them, the first one first.
    pub(super) peppers: String,
    /// The entry that a look-up must find in the list of gateways; empty for a process that admits no requests.
    pub(super) registered: String,
    /// How many events are kept, and the gateway that makes those of this process, see `lib/change.lua`.
    pub(super) origin: String,
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
    pub(super) take_once: Script,
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
            find_begins: lookup_command(&find, &keys, &peppers, registered),
            keys,
            peppers,
            own,
            registered: registered.to_owned(),
            origin: match registered.split_once('/') {
                Some((gateway, _)) => format!("{EVENTS_KEPT} {gateway}"),
                None => EVENTS_KEPT.to_string(),
            },
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
            take_once: script(TAKE_ONCE),
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

    /// The key of this name.
    pub(crate) fn key(&self, name: &str) -> String {
        format!("{}{name}", self.keys.prefix)
    }
}

/// The beginning of a look-up's command, which is the same for all look-ups. The fingerprints follow.
fn lookup_command(script: &Script, keys: &Keys, peppers: &str, registered: &str) -> Cmd {
    let hashes = hashes(keys);
    let mut command = redis::cmd("EVALSHA");
    command.arg(script.get_hash()).arg(hashes.len() + 1).arg(&keys.meta);
    for key in hashes {
        command.arg(key);
    }
    command.arg(peppers).arg(registered);
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

#[derive(Debug)]
pub(crate) struct StreamHead {
    /// The random id of the history of the store.
    pub(crate) history: String,
    /// Number of changes since its beginning.
    pub(crate) counter: u64,
    /// The stream id of the newest entry.
    pub(crate) last_id: String,
    /// The count of the newest entry, if it has one.
    pub(crate) at_last: Option<u64>,
    /// The count of the entry at the cursor, if it is there.
    pub(crate) at_cursor: Option<u64>,
    /// The link of the last event; a dash for none.
    pub(crate) link: String,
    /// Whether a look-up would be answered at this moment.
    pub(crate) is_readable: bool,
}

/// The arguments that most changes have.
pub(crate) struct ChangeCall<'a> {
    pub(crate) id: &'a str,
    pub(crate) record: &'a [u8],
    pub(crate) event: &'a [u8],
    /// The ending that the change leaves, as [`Ending::encode`] writes it.
    pub(crate) ending: &'a str,
}

/// The arguments of [`CREATE`]. A tenant is made if its record is not empty.
pub(crate) struct CreateCall {
    pub(crate) tenant: TenantId,
    pub(crate) tenant_record: Vec<u8>,
    pub(crate) tenant_event: Vec<u8>,
    /// Records that must still be what was read: those that the call rests on, parents, and those that are to be changed.
    pub(crate) unchanged: Vec<(RecordKind, String, Vec<u8>)>,
    pub(crate) credentials: Vec<NewCredential>,
    pub(crate) changes: Vec<CredentialWrite>,
    /// Set if a change ends everything that was made before it.
    pub(crate) watermark: Option<UnixMillis>,
    /// The time of the new records.
    pub(crate) made_at: UnixMillis,
    pub(crate) limits: Option<RecordLimits>,
}

/// One credential that a creation changes.
pub(crate) struct CredentialWrite {
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
