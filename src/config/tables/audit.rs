//! `[audit]` and `[routes.audit]`: what is on record of requests, where it is kept, and how long.

use std::sync::Arc;
use std::time::Duration;

use toml::de::DeValue;

use crate::audit::settings::{AuditSettings, Durable, OnFull};
use crate::config::declare::{DeclaredTable, SettingValue, absent, choice, default, duration, path, size, table};
use crate::config::reader::{RawEntry, shorten};
use crate::config::schema::ValueKind;
use crate::config::source::Located;
use crate::config::units::{millis, parse_duration, secs, write_duration, write_size};
use crate::decide::audit::{AuditPolicy, AuditedUrl, BodyCapture, DEFAULT_HEADERS, RouteAudit};
use crate::decide::method::Method;
use crate::decide::route::{Destination, Route};
use crate::decide::surface::Surface;
use crate::snapshot::body_schema::{FieldKind, Forms, UnknownFields};
use crate::snapshot::served_route::{Action, ServedRoute};
use crate::snapshot::{AccessLog, LogFormat};

use super::Builder;
use super::gateway::GatewayTable;
use super::names::folded;
use super::routes::RouteTable;
use super::store::StoreKindTable;

table! {
    /// The audit trail: one entry for each request, however it ends, each action of an operator, each change of the
    /// configuration, and each gap in the trail itself. `url`, `query` and `headers` are changed by a reload, the other
    /// settings by a restart. See [audit.md](audit.md).
    pub struct AuditTable = "`[audit]`" {
        /// The directory of the trail, for this gateway alone. It is made with mode 0700. The key that signs the trail is
        /// a file beside it: the directory's name with `.key` added.
        directory: Located<String> = default("state/audit"), path();
        /// What happens when an entry cannot be recorded, because the disk is full or too slow. `drop_and_count`: the
        /// request is served, and a later entry tells how many are missing. `refuse`: the request is refused with 503
        /// (`not_recordable`) until there is room.
        on_full: OnFull = default("drop_and_count");
        /// When entries are on the disk. After a crash of the machine at most the entries of this time are missing; it is
        /// also the time between two calls of `fdatasync`, which is why the least is 10 ms. `each`: a request is answered
        /// only when its entry is on the disk; requests that wait at the same time share one `fdatasync`.
        durable: Durable = default("1s");
        /// Size at which a segment is closed, compressed and given its index. Retention removes whole segments. With
        /// small segments there are many files; a large one is compressed for seconds.
        segment: u64 = default("256MiB"), size(64 << 10, 4 << 30);
        /// How long closed segments are kept. The default is twelve months (PCI DSS 10.5.1) and a month for the report
        /// about them.
        keep: Located<Duration> = default("400d"), duration(secs(3_600), secs(3_660 * 86_400));
        /// How long recorded bodies are kept; at most `keep`. Entries whose bodies are gone can still be verified.
        keep_bodies: Located<Duration> = default("90d"), duration(secs(3_600), secs(3_660 * 86_400));
        /// Most bytes of the whole directory. Beyond this the oldest closed segments are removed, even before `keep` is
        /// over. At least twice `segment`.
        max_size: Option<Located<u64>> = absent("no bound but the disk"), size(128 << 10, 1 << 50);
        /// How often a checkpoint of the trail is signed, if there are new entries.
        checkpoint: Duration = default("10s"), duration(millis(100), secs(3_600));
        /// A file that is replaced with each new checkpoint, best on another machine: what was in the trail then cannot be
        /// changed without contradicting it.
        checkpoint_file: Option<Located<String>> = absent("no file besides those in `directory`"), path();
        /// A program with its arguments, run without a shell, that gets each new checkpoint on its standard input. A
        /// program that is named without a path is looked for in `PATH`.
        checkpoint_command: Option<Located<Vec<Located<String>>>> = absent("no program");
        /// What entries show of a query. `redacted`: the names of all parameters, and the values of those in `query`.
        /// `full`: all values, but for what looks like a credential or a card number.
        url: Located<UrlShown> = default("redacted");
        /// With `redacted`: parameters whose values are shown.
        query: Vec<Located<String>> = absent("names without values");
        /// Fields of requests that entries show. Fields that carry credentials and cookies cannot be listed, and what
        /// looks like a credential or a card number is masked in the others. `[]` for none.
        headers: Option<Vec<Located<String>>> = absent("`accept`, `content-encoding`, `content-length`, `content-type`, `idempotency-key`, `origin`, `traceparent`, `user-agent`");
        /// Writes each entry to standard output too, for a log collector.
        stdout: Located<bool> = default("false");
    }
}

table! {
    /// What the audit trail has of the requests of this route, besides their entries.
    pub struct RouteAuditTable = "`[routes.audit]`" {
        /// Records bodies of requests.
        body: Option<CaptureTable> = absent("bodies of requests are not recorded");
        /// Records bodies of answers.
        answer: Option<CaptureTable> = absent("bodies of answers are not recorded");
    }
}

table! {
    /// A body is recorded in a file of its own, and its entry has a hash of it, so that the body can be erased and the
    /// trail still be verified. Of bodies that are longer than `max`, compressed, or of another type, only type and size
    /// are recorded. Passing a body on never waits for its recording.
    pub struct CaptureTable = "`body` and `answer` of `[routes.audit]`" {
        /// Longest body that is recorded. A request holds as much memory for each of its two bodies while it is handled.
        max: usize = default("64KiB"), size(1, 1 << 20);
        /// Media types that are recorded, without parameters. Only types of text can be recorded: `text/…`, JSON and JSON
        /// lines, XML, and forms (`application/x-www-form-urlencoded`).
        types: Option<Located<Vec<Located<String>>>> = absent("`application/json`");
        /// Members whose values are replaced by `***`, in JSON and in forms, at any depth. `iban`: members of this name.
        /// `card.number`: members `number` of `card`; `card.*`: every member of `card`; `items.*.iban`: members `iban` of
        /// each item or member of `items`. A name stands for all its spellings (`card_number`, `cardNumber`). At most 64.
        /// Card numbers, credentials, and members whose names say that they are secret (`password`, `token`, `pin`, `cvv`
        /// and the like) are masked without being listed.
        mask: Located<Vec<Located<String>>> = absent("only what is masked without being listed");
    }
}

choice! {
    for OnFull {
        DropAndCount = "drop_and_count",
        Refuse = "refuse",
    }
}

choice! {
    pub enum UrlShown {
        Redacted = "redacted",
        Full = "full",
    }
}

/// Bounds of `durable`. Disks sync in about 1 ms, so that below 10 ms the writer would do nothing else; what may be lost
/// is no record beyond a minute.
const DURABLE: [Duration; 2] = [millis(10), secs(60)];

impl SettingValue for Durable {
    const KIND: ValueKind = ValueKind::Either(
        "duration, 10ms to 1m, or `\"each\"`",
        &[
            ValueKind::Duration {
                min: DURABLE[0],
                max: DURABLE[1],
            },
            ValueKind::Choice(&["each"]),
        ],
    );

    fn parse(entry: &RawEntry<'_>) -> Option<Self> {
        let text = entry.text()?;
        if text == "each" {
            return Some(Self::Each);
        }
        let [min, max] = DURABLE;
        match parse_duration(text) {
            Some(duration) if (min..=max).contains(&duration) => Some(Self::Within(duration)),
            Some(_) => entry.outside(&write_duration(min), &format!("{}, or \"each\"", write_duration(max))),
            None => entry.error(
                "`durable` is neither a duration nor `each`",
                "write for example \"1s\", or \"each\"".to_owned(),
            ),
        }
    }
}

/// `audit` of a route.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one for each route while the configuration is read")]
pub enum RouteAuditKey {
    /// `audit = "off"`.
    Off,
    On(RouteAuditTable),
}

impl SettingValue for RouteAuditKey {
    const KIND: ValueKind = ValueKind::Either(
        "`\"off\"`, or a table",
        &[ValueKind::Choice(&["off"]), ValueKind::Table(RouteAuditTable::schema)],
    );

    fn parse(entry: &RawEntry<'_>) -> Option<Self> {
        match entry.value {
            DeValue::String(word) if word == "off" => Some(Self::Off),
            DeValue::String(word) => entry.error(
                format!("`audit` cannot be `{}`", shorten(word)),
                "write `audit = \"off\"` for no entries, or `[routes.audit]` with `body` or `answer`".to_owned(),
            ),
            _ => RouteAuditTable::parse(entry).map(Self::On),
        }
    }
}

impl RouteAuditKey {
    /// Each body that is recorded, by its key.
    fn captures(&self) -> impl Iterator<Item = Captured<'_>> {
        let table = match self {
            Self::Off => None,
            Self::On(table) => Some(table),
        };
        table.into_iter().flat_map(|table| {
            let of = |key, capture| Captured { key, capture };
            [
                table.body.as_ref().map(|body| of("body", body)),
                table.answer.as_ref().map(|answer| of("answer", answer)),
            ]
            .into_iter()
            .flatten()
        })
    }
}

/// A body that a route records.
struct Captured<'w> {
    key: &'static str,
    capture: &'w CaptureTable,
}

/// Most parameters and most fields that entries show: an entry is a line that people read.
const MAX_SHOWN: usize = 64;

/// Most masks of one body: each member of a body is compared with all of them.
const MAX_MASKS: usize = 64;

/// Longest mask in bytes, and most names in one: deeper members are reached by their own name.
const MAX_MASK: usize = 128;
const MAX_MASK_DEPTH: usize = 16;

/// Most media types of one list.
const MAX_TYPES: usize = 16;

/// Most arguments of the program that gets checkpoints.
const MAX_ARGUMENTS: usize = 64;

/// Fields that hold secrets wherever they stand.
const SECRET_FIELDS: [&str; 4] = ["authorization", "cookie", "proxy-authorization", "set-cookie"];

impl Builder<'_> {
    /// Where the trail is kept and how.
    pub(super) fn audit(&self, gateway: &GatewayTable) -> Option<AuditSettings> {
        let written = gateway.audit.as_ref()?;
        self.check_directory(gateway, written);
        if written.keep_bodies.value > written.keep.value {
            self.report.error(
                &written.keep_bodies.at,
                format!(
                    "bodies would be kept longer than their entries, which are kept {}",
                    write_duration(written.keep.value)
                ),
                Some("make `keep` longer, or `keep_bodies` shorter".to_owned()),
            );
        }
        if let Some(most) = written.max_size.as_ref().filter(|most| most.value < 2 * written.segment) {
            self.report.error(
                &most.at,
                format!("two segments of {} do not fit into `max_size`", write_size(written.segment)),
                Some("make `max_size` larger, or `segment` smaller".to_owned()),
            );
        }
        let is_doubled = gateway.log.access == AccessLog::On || gateway.log.format == LogFormat::Pretty;
        if written.stdout.value && is_doubled {
            self.report.note(
                &written.stdout.at,
                "standard output gets audit entries between the lines of the log",
                Some(
                    "entries are the lines that begin with `{\"seq\":`; `log.access = \"off\"` leaves out the other line of each request"
                        .to_owned(),
                ),
            );
        }
        Some(AuditSettings {
            directory: self.resolve(&written.directory.value),
            on_full: written.on_full,
            durable: written.durable,
            segment: written.segment,
            keep: written.keep.value,
            keep_bodies: written.keep_bodies.value,
            max_size: written.max_size.as_ref().map(|most| most.value),
            checkpoint: written.checkpoint,
            checkpoint_file: written.checkpoint_file.as_ref().map(|file| self.resolve(&file.value)),
            checkpoint_command: written.checkpoint_command.as_ref().and_then(|command| self.command(command)),
            stdout: written.stdout.value,
        })
    }

    /// A directory that holds other files would lose them, or be taken for damaged.
    fn check_directory(&self, gateway: &GatewayTable, written: &AuditTable) {
        let directory = self.resolve(&written.directory.value);
        let name = written.directory.value.rsplit('/').find(|part| !part.is_empty());
        if name.is_none_or(|name| matches!(name, "." | "..")) {
            self.report.error(
                &written.directory.at,
                format!("`{}` cannot be the directory of the trail", shorten(&written.directory.value)),
                Some("its name is a part of the name of the key beside it: for example \"state/audit\"".to_owned()),
            );
            return;
        }
        let store = match &gateway.store.kind.value {
            StoreKindTable::Embedded(embedded) => Some(self.resolve(&embedded.path.value)),
            StoreKindTable::Redis(_) => None,
        };
        let others = [
            ("the store", store),
            ("the operator socket", Some(self.resolve(&gateway.admin.socket.value))),
            ("the configuration", Some(self.path.to_owned())),
            ("files of services", Some(self.resolve(&gateway.upstreams.value))),
        ];
        for (what, other) in others {
            if other.is_some_and(|other| other.starts_with(&directory)) {
                self.report.error(
                    &written.directory.at,
                    format!("`{}` holds {what} too", shorten(&written.directory.value)),
                    Some("the trail needs a directory of its own, for example \"state/audit\"".to_owned()),
                );
            }
        }
        let file = written.checkpoint_file.as_ref();
        if let Some(file) = file.filter(|file| self.resolve(&file.value).starts_with(&directory)) {
            self.report.error(
                &file.at,
                "this file lies in the directory of the trail, where there is a checkpoint already",
                Some("keep it where whoever changes the trail cannot change it: another machine, or another user's directory".to_owned()),
            );
        }
    }

    fn command(&self, written: &Located<Vec<Located<String>>>) -> Option<Vec<String>> {
        if written.value.first().is_none_or(|program| program.value.is_empty()) {
            self.report.error(
                &written.at,
                "`checkpoint_command` names no program",
                Some("for example [\"/usr/local/bin/keep-checkpoint\", \"--site\", \"eu\"]".to_owned()),
            );
            return None;
        }
        if let Some(extra) = written.value.get(MAX_ARGUMENTS) {
            self.report
                .error(&extra.at, format!("a command has at most {MAX_ARGUMENTS} parts"), None);
        }
        for part in written.value.iter().filter(|part| part.value.contains('\0')) {
            self.report.error(&part.at, "no argument of a program can hold a NUL", None);
        }
        Some(written.value.iter().map(|part| part.value.clone()).collect())
    }

    /// What entries show of requests.
    pub(super) fn audit_policy(&self, gateway: &GatewayTable, surfaces: &[Surface]) -> AuditPolicy {
        let Some(written) = &gateway.audit else {
            return AuditPolicy::default();
        };
        AuditPolicy {
            url: self.audited_url(written),
            headers: match &written.headers {
                Some(headers) => self.shown_headers(headers, surfaces),
                None => shown_by_default(surfaces),
            },
        }
    }

    fn audited_url(&self, written: &AuditTable) -> AuditedUrl {
        self.at_most(&written.query, MAX_SHOWN, "parameters can be shown");
        if let (UrlShown::Full, Some(first)) = (written.url.value, written.query.first()) {
            self.report.error(
                &first.at,
                "with `url = \"full\"` the values of all parameters are shown",
                Some("remove `query`, or write `url = \"redacted\"`".to_owned()),
            );
        }
        let mut shown: Vec<String> = Vec::new();
        for name in &written.query {
            if name.value.is_empty() || name.value.len() > MAX_MASK {
                self.report
                    .error(&name.at, format!("the name of a parameter has 1 to {MAX_MASK} bytes"), None);
            } else if shown.contains(&name.value) {
                self.twice_listed(name);
            } else {
                shown.push(name.value.clone());
            }
        }
        match written.url.value {
            UrlShown::Full => AuditedUrl::Full,
            UrlShown::Redacted => AuditedUrl::Redacted { shown },
        }
    }

    fn shown_headers(&self, written: &[Located<String>], surfaces: &[Surface]) -> Vec<String> {
        self.at_most(written, MAX_SHOWN, "fields can be shown");
        let mut shown: Vec<String> = Vec::new();
        for name in written {
            let lower = name.value.to_ascii_lowercase();
            if name.value == "*" {
                let help = Some("list the names; a field that is not listed may hold a secret".to_owned());
                self.report.error(&name.at, "each field must be named: `*` is not accepted", help);
            } else if !self.check_token(name) {
                // It was reported.
            } else if is_secret(&lower, surfaces) {
                self.report.error(
                    &name.at,
                    format!("`{}` carries credentials, which the trail never shows", shorten(&name.value)),
                    Some("remove it; entries tell the credential's id".to_owned()),
                );
            } else if shown.contains(&lower) {
                self.twice_listed(name);
            } else {
                shown.push(lower);
            }
        }
        shown
    }

    /// What the trail has of the requests of a route.
    pub(super) fn route_audit(&self, written: &RouteTable) -> RouteAudit {
        match &written.audit {
            None => RouteAudit::default(),
            Some(RouteAuditKey::Off) => RouteAudit::Off,
            Some(RouteAuditKey::On(table)) => RouteAudit::On {
                body: table.body.as_ref().map(|body| Arc::new(self.body_capture(body))),
                answer: table.answer.as_ref().map(|answer| Arc::new(self.body_capture(answer))),
            },
        }
    }

    fn body_capture(&self, written: &CaptureTable) -> BodyCapture {
        BodyCapture {
            max: written.max,
            types: match &written.types {
                Some(types) => self.media_types(types),
                None => vec!["application/json".to_owned()],
            },
            mask: self.masks(&written.mask.value),
        }
    }

    fn media_types(&self, written: &Located<Vec<Located<String>>>) -> Vec<String> {
        if written.value.is_empty() {
            self.report.error(
                &written.at,
                "`types` is empty: no body would be recorded",
                Some("remove it for `application/json`".to_owned()),
            );
        }
        self.at_most(&written.value, MAX_TYPES, "media types can be listed");
        let mut types: Vec<String> = Vec::new();
        for name in &written.value {
            let lower = name.value.to_ascii_lowercase();
            if !is_media_type(&lower) {
                self.report.error(
                    &name.at,
                    format!("`{}` is not a media type", shorten(&name.value)),
                    Some("a type and a subtype without parameters or `*`, for example \"application/json\"".to_owned()),
                );
            } else if !is_text(&lower) {
                self.report.error(
                    &name.at,
                    format!("bodies of `{}` cannot be recorded: it is no type of text", shorten(&name.value)),
                    Some("entries have their type and size without being asked".to_owned()),
                );
            } else if types.contains(&lower) {
                self.twice_listed(name);
            } else {
                types.push(lower);
            }
        }
        types
    }

    fn masks(&self, written: &[Located<String>]) -> Vec<String> {
        self.at_most(written, MAX_MASKS, "masks can be listed");
        let mut masks: Vec<String> = Vec::new();
        for mask in written {
            if let Some(mistake) = mistake_of_mask(&mask.value) {
                self.report.error(
                    &mask.at,
                    format!("`{}` is not a mask: {mistake}", shorten(&mask.value)),
                    Some("for example \"password\" (at any depth), \"card.number\", \"card.*\" or \"items.*.iban\"".to_owned()),
                );
            } else if masks.contains(&mask.value) {
                self.twice_listed(mask);
            } else {
                masks.push(mask.value.clone());
            }
        }
        let of_items: Vec<String> = masks.iter().filter_map(|mask| without_items(mask)).collect();
        masks.extend(of_items);
        masks
    }

    fn at_most(&self, list: &[Located<String>], most: usize, what: &str) {
        if let Some(extra) = list.get(most) {
            self.report.error(&extra.at, format!("at most {most} {what}"), None);
        }
    }

    fn twice_listed(&self, name: &Located<String>) {
        self.report
            .error(&name.at, format!("`{}` is listed twice", shorten(&name.value)), None);
    }

    /// Secrets that a served route gets in its body are masked without being listed; what it makes is not recorded.
    pub(super) fn audit_of_served(&self, written: &[&RouteTable], routes: &mut [Route], served: &[ServedRoute]) {
        for (written, route) in written.iter().zip(routes) {
            let (Destination::Served(index), Some(key)) = (route.destination, &written.audit) else {
                continue;
            };
            let Some(served) = served.get(index.0) else { continue };
            for captured in key.captures() {
                match captured.key {
                    "answer" if shows_secrets(&served.action) => self.report.error(
                        &captured.capture.at,
                        "the answer of this route shows new secrets, and is never recorded",
                        Some("remove `answer`; entries tell the credential's id".to_owned()),
                    ),
                    _ => {}
                }
            }
            let RouteAudit::On { body: Some(body), .. } = &mut route.options.audit else {
                continue;
            };
            let secrets = served
                .body
                .fields
                .iter()
                .filter(|field| matches!(field.kind, FieldKind::Secret { .. }));
            Arc::make_mut(body).mask.extend(secrets.map(|field| field.name.clone()));
        }
    }

    /// What loads and records something else than was meant.
    pub(super) fn lint_audit(&self, gateway: &GatewayTable, written: &[&RouteTable], served: &[ServedRoute], routes: &[Route]) {
        for (written, route) in written.iter().zip(routes) {
            let Some(key) = &written.audit else { continue };
            for captured in key.captures() {
                if gateway.audit.is_none() {
                    self.report.warning(
                        &captured.capture.at,
                        "this body is not recorded: there is no audit trail",
                        Some("add the table `[audit]` to `gateway.toml`".to_owned()),
                    );
                    continue;
                }
                let served = match route.destination {
                    Destination::Served(index) => served.get(index.0),
                    Destination::Upstream(_) => None,
                };
                self.lint_capture(&captured, route, served);
            }
        }
    }

    fn lint_capture(&self, captured: &Captured<'_>, route: &Route, served: Option<&ServedRoute>) {
        let Captured { key, capture } = captured;
        let without_body = [Method::Get, Method::Head, Method::Options];
        if *key == "body" && route.methods.iter().all(|method| without_body.contains(method)) {
            self.report.warning(
                &capture.at,
                "requests of this route have no body: none of its methods has one",
                Some("remove `body`, or add a method".to_owned()),
            );
        }
        let types: Vec<&str> = match &capture.types {
            Some(types) => types.value.iter().map(|name| name.value.as_str()).collect(),
            None => vec!["application/json"],
        };
        let has_members = types.iter().any(|name| is_json(name) || is_form(name));
        if let Some(first) = capture.mask.value.first().filter(|_| !has_members) {
            self.report.warning(
                &first.at,
                "no mask can match: bodies of these types have no members",
                Some("masks are for JSON and for forms; list their types in `types`".to_owned()),
            );
        }
        self.lint_masks(capture);
        if let Some(served) = served {
            self.lint_served_capture(captured, served);
        } else if capture.mask.value.is_empty() {
            self.report.note(
                &capture.at,
                "this body is recorded without a mask: all but card numbers, credentials and members with names of secrets can be read",
                Some("list what nobody may read, for example `mask = [\"password\", \"card.*\"]`".to_owned()),
            );
        }
    }

    /// Masks that another one makes needless.
    fn lint_masks(&self, capture: &CaptureTable) {
        for mask in &capture.mask.value {
            let wider = capture
                .mask
                .value
                .iter()
                .find(|other| other.value != mask.value && covers(&other.value, &mask.value));
            if let Some(wider) = wider {
                self.report.warning(
                    &mask.at,
                    format!("`{}` masks what `{}` masks already", shorten(&mask.value), shorten(&wider.value)),
                    Some("remove it".to_owned()),
                );
            }
        }
    }

    /// The bodies of a served route are known: what they never hold is a misspelling.
    fn lint_served_capture(&self, captured: &Captured<'_>, served: &ServedRoute) {
        let Captured { key, capture } = captured;
        for name in capture.types.iter().flat_map(|types| &types.value) {
            let occurs = name.value.eq_ignore_ascii_case("application/json")
                || (*key == "body" && is_form(&name.value) && served.body.forms == Forms::Taken);
            if !occurs {
                self.report.warning(
                    &name.at,
                    format!("a body of this route is never `{}`", shorten(&name.value)),
                    Some("the gateway serves it, with JSON".to_owned()),
                );
            }
        }
        if *key != "body" || served.body.unknown_fields == UnknownFields::Kept {
            return;
        }
        for mask in &capture.mask.value {
            let occurs = served
                .body
                .fields
                .iter()
                .any(|field| matches!(field.kind, FieldKind::Any { .. }) || covers(&mask.value, &field.name));
            if !occurs {
                self.report.warning(
                    &mask.at,
                    format!("the body of this route has no field `{}`", shorten(&mask.value)),
                    Some("masks name fields of the body; those of type `secret` are masked without being listed".to_owned()),
                );
            }
        }
    }
}

fn shown_by_default(surfaces: &[Surface]) -> Vec<String> {
    let shown = DEFAULT_HEADERS.iter().filter(|name| !is_secret(name, surfaces));
    shown.map(|name| (*name).to_owned()).collect()
}

/// Whether a field of this lower-case name carries credentials.
fn is_secret(name: &str, surfaces: &[Surface]) -> bool {
    let fold = folded(name);
    let mut carried = surfaces.iter().flat_map(|surface| surface.kind.carry().headers());
    SECRET_FIELDS.contains(&name) || carried.any(|header| folded(header) == fold)
}

fn is_media_type(text: &str) -> bool {
    let is_name = |part: &str| {
        let of_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'!' | b'#' | b'$' | b'&' | b'-' | b'^' | b'_' | b'.' | b'+');
        (1..=127).contains(&part.len()) && part.bytes().all(of_name)
    };
    text.split_once('/')
        .is_some_and(|(kind, subtype)| is_name(kind) && is_name(subtype))
}

/// Whether a media type has members: JSON, or lines of JSON.
fn is_json(media_type: &str) -> bool {
    let subtype = media_type.to_ascii_lowercase();
    let subtype = subtype.split_once('/').map_or("", |(_, subtype)| subtype);
    subtype.ends_with("json") || matches!(subtype, "jsonl" | "json-lines" | "json-seq")
}

fn is_form(media_type: &str) -> bool {
    media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// Whether bodies of this lower-case media type are text in which secrets can be found.
fn is_text(media_type: &str) -> bool {
    let is_xml = media_type == "application/xml" || media_type.ends_with("+xml");
    is_json(media_type) || is_form(media_type) || is_xml || media_type.starts_with("text/") || media_type == "application/graphql"
}

/// What is wrong with a mask.
fn mistake_of_mask(mask: &str) -> Option<String> {
    if mask.is_empty() || mask.len() > MAX_MASK {
        return Some(format!("it has 1 to {MAX_MASK} bytes"));
    }
    let names: Vec<&str> = mask.split('.').collect();
    if names.len() > MAX_MASK_DEPTH {
        return Some(format!("it has at most {MAX_MASK_DEPTH} names"));
    }
    if names.iter().any(|name| name.is_empty()) {
        return Some("a name between dots is empty".to_owned());
    }
    if names.iter().any(|name| name.contains('*') && *name != "*") {
        return Some("`*` stands for a whole name".to_owned());
    }
    if names.iter().all(|name| *name == "*") {
        return Some("it would mask whole bodies; remove `body` or `answer` instead".to_owned());
    }
    if mask.chars().any(char::is_control) {
        return Some("it holds a control character".to_owned());
    }
    None
}

/// Whether everything that a mask matches is masked by a wider one, which means the same members or what they stand in.
fn covers(wider: &str, mask: &str) -> bool {
    let names: Vec<&str> = mask.split('.').collect();
    (1..=names.len()).any(|length| names.get(..length).is_some_and(|path| ends_as(path, wider)))
}

/// Whether a path ends as a mask says.
fn ends_as(path: &[&str], mask: &str) -> bool {
    let mut names = path.iter().rev();
    let mut wanted = mask.rsplit('.');
    wanted.all(|part| names.next().is_some_and(|name| part == "*" || is_same_name(part, name)))
}

/// Whether two names of members differ only in spelling.
fn is_same_name(one: &str, other: &str) -> bool {
    let letters = |name: &'_ str| -> String {
        let kept = |c: &char| c.is_ascii_alphanumeric() || !c.is_ascii();
        name.chars().filter(kept).map(|c| c.to_ascii_lowercase()).collect()
    };
    letters(one) == letters(other)
}

/// A mask for the items of a list, which have no names: the same without the `*` between names.
fn without_items(mask: &str) -> Option<String> {
    let mut names: Vec<&str> = mask.split('.').collect();
    let last = names.pop()?;
    names.retain(|name| *name != "*");
    names.push(last);
    let shorter = names.join(".");
    (shorter != mask && last != "*" && names.len() > 1).then_some(shorter)
}

/// Whether the answer of an action may hold a secret that it made.
fn shows_secrets(action: &Action) -> bool {
    match action {
        Action::Mint { .. } | Action::Rotate { .. } => true,
        Action::List { .. }
        | Action::Revoke { .. }
        | Action::SetRoles { .. }
        | Action::ListRoles
        | Action::ListScopes
        | Action::Audit
        | Action::LogOut { .. }
        | Action::SetPassword { .. }
        | Action::SignOn(_)
        | Action::Providers(_) => false,
    }
}
