//! `[[routes]]`: which requests, who may make them, and how they are passed on or served.

use std::time::Duration;

use crate::config::reader::Section;
use crate::config::schema::{Fallback, Key, Kind, Schema};
use crate::config::source::{Located, Place};
use crate::config::units::{millis, secs};
use crate::decide::route::PathForms;

use super::access::{self, ACCESS, WrittenAccess};
use super::body::FIELD;
use super::cors::{self, CORS, WrittenRouteCors};
use super::hook::HOOK;
use super::mint::MINT;
use super::rate::{self, RATE_LIMIT, WrittenRateLimit};
use super::serve::{self, ACTIONS, ANSWER, REACH, WrittenServe};
use super::source::SOURCE;

/// `[[routes]]`.
pub const ROUTE: Schema = Schema {
    parts: &[],
    name: "`[[routes]]`",
    about: "The most specific route wins, wherever it is written: exact host before wildcard before any, literal segment before `{parameter}` before `**`.",
    keys: &[
        Key {
            name: "name",
            kind: Kind::Text,
            default: Fallback::Absent("`<upstream>/<number>`, from 1"),
            about: "How logs and metrics call it.",
        },
        Key {
            name: "hosts",
            kind: Kind::Texts,
            default: Fallback::Absent("any host"),
            about: "Host names without port; `*.example.com` stands for one label or more.",
        },
        Key {
            name: "methods",
            kind: Kind::Texts,
            default: Fallback::Absent("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
            about: "Methods it is for; `GET` includes `HEAD`. Other methods do not exist here: they are 405 everywhere.",
        },
        Key {
            name: "path",
            kind: Kind::Text,
            default: Fallback::Required,
            about: "`/v1/orders`, `/v1/orders/{id}` (one segment), `/v1/orders/**` (that path and everything below it).",
        },
        Key {
            name: "access",
            kind: Kind::Either("`\"public\"`, or a table", &[Kind::Table(&ACCESS)]),
            default: Fallback::Required,
            about: "Who may use it. There is no default: a route that does not say does not load.",
        },
        Key {
            name: "strip_prefix",
            kind: Kind::Text,
            default: Fallback::Absent("the path is kept"),
            about: "Whole segments taken off the front of the path, e.g. `/api`; the pattern must begin with them.",
        },
        Key {
            name: "replace_prefix",
            kind: Kind::Table(&REPLACE),
            default: Fallback::Absent("the path is kept"),
            about: "Whole segments put in the place of others. Not together with `strip_prefix`.",
        },
        Key {
            name: "max_body",
            kind: Kind::Size { min: 0, max: 1 << 40 },
            default: Fallback::Value("10MiB"),
            about: "Largest request body; it streams and is never held, so this protects the service, not the gateway.",
        },
        Key {
            name: "response_timeout",
            kind: Kind::Duration {
                min: millis(10),
                max: secs(3_600),
            },
            default: Fallback::Value("30s"),
            about: "How long the service may take until the head of its response.",
        },
        Key {
            name: "idle_timeout",
            kind: Kind::Duration {
                min: millis(100),
                max: secs(3_600),
            },
            default: Fallback::Value("60s"),
            about: "How long either body may stand still; of a WebSocket, how long nothing may pass either way.",
        },
        Key {
            name: "encoded_slashes",
            kind: Kind::Flag,
            default: Fallback::Value("false"),
            about: "Lets `%2F` stand in a segment; it stays encoded. Services that decode paths before routing must not have this.",
        },
        Key {
            name: "encoded_backslashes",
            kind: Kind::Flag,
            default: Fallback::Value("false"),
            about: "Allows `%5C` in a segment (`CORP%5Cjdoe`); it stays encoded. Do not set it for services that treat `\\` as a slash.",
        },
        Key {
            name: "raw_characters",
            kind: Kind::Flag,
            default: Fallback::Value("false"),
            about: "Accepts paths with characters that should have been escaped: brackets, braces, `^`, `<`, `>`, `\"`, a vertical bar, a grave accent, or non-ASCII characters in UTF-8. They are escaped before the path is matched, and the escaped path is forwarded. A query with such characters is forwarded unchanged.",
        },
        Key {
            name: "path_parameters",
            kind: Kind::Flag,
            default: Fallback::Value("false"),
            about: "Accepts path parameters (`/cars;colour=red`), for services that understand them. The path is matched without them and forwarded unchanged. It is refused if the path with its parameters matches another route.",
        },
        Key {
            name: "trailers",
            kind: Kind::Flag,
            default: Fallback::Value("false"),
            about: "Forwards trailers both ways, except protected names.",
        },
        Key {
            name: "forward_credentials",
            kind: Kind::Flag,
            default: Fallback::Value("false"),
            about: "Forwards the credential as well. The service then holds what its callers hold.",
        },
        Key {
            name: "upgrade",
            kind: Kind::Choice(&["none", "websocket"]),
            default: Fallback::Value("none"),
            about: "`websocket`: a GET that asks for the WebSocket protocol (version 13) may become a tunnel, once the service has answered 101. Anything else that asks to switch is forwarded without its `Upgrade`.",
        },
        Key {
            name: "cors",
            kind: Kind::Either("`\"none\"`, or a table", &[Kind::Table(&CORS)]),
            default: Fallback::Absent("`[cors]` of `gateway.toml`"),
            about: "What pages of other origins may do here. With `none` the gateway writes no CORS fields, and those of the service pass.",
        },
        Key {
            name: "dialect",
            kind: Kind::Text,
            default: Fallback::Absent("the upstream's"),
            about: "The dialect of refusals on this route.",
        },
        Key {
            name: "serve",
            kind: Kind::Choice(ACTIONS),
            default: Fallback::Absent("the request is forwarded"),
            about: "What the gateway does itself, without a service: makes credentials, lists, ends or rotates them, sets or lists roles, lists scopes, logs out, sets a password. The body is then JSON of at most 16 KiB (`max_body` up to 64 KiB).",
        },
        Key {
            name: "tenant",
            kind: Kind::Either("`caller`, `new`, or `path.<parameter>`", &[]),
            default: Fallback::Absent("`caller`"),
            about: "`mint`: whose it is. `new` makes a tenant with a generated id (sign-up on a public route); a path parameter must name the caller's own, another is `foreign_tenant`.",
        },
        Key {
            name: "mint",
            kind: Kind::Tables(&MINT),
            default: Fallback::Absent("required for `mint`"),
            about: "`mint`: what is made, in order.",
        },
        Key {
            name: "surface",
            kind: Kind::Text,
            default: Fallback::Absent("required for `list`, `revoke`, `rotate`, `set_roles`, `set_password`"),
            about: "Whose records these are; for `set_password` the account surface.",
        },
        Key {
            name: "id",
            kind: Kind::Either(SOURCE, &[]),
            default: Fallback::Absent("required for `revoke`, `rotate`, `set_roles`"),
            about: "Which record, for example `path.id`.",
        },
        Key {
            name: "reach",
            kind: Kind::Either("`tenant`, `children`, `path.<parameter>`, or a table", &[Kind::Table(&REACH)]),
            default: Fallback::Absent("`tenant`"),
            about: "Which records may be touched: the caller's tenant's, only those that hang on the caller, or the tenant's that the path names (another than the caller's is `foreign_tenant`). What is out of reach is `record_not_found`.",
        },
        Key {
            name: "grants",
            kind: Kind::Texts,
            default: Fallback::Absent("none"),
            about: "`revoke`, `rotate`, `set_roles`, `set_password`: scopes that the record may hold although the caller lacks them. Whoever lacks any other scope of the record gets `insufficient_scope`.",
        },
        Key {
            name: "grace",
            kind: Kind::Duration {
                min: secs(0),
                max: secs(366 * 86_400),
            },
            default: Fallback::Absent("the old one goes on until it is revoked"),
            about: "`rotate`: how long the old one goes on.",
        },
        Key {
            name: "roles",
            kind: Kind::Text,
            default: Fallback::Absent("required for `set_roles`"),
            about: "`set_roles`: `body.<field>` of type `list` with the ids of roles. The new ones hold no scope that the caller lacks.",
        },
        Key {
            name: "extent",
            kind: Kind::Choice(&["this", "everywhere"]),
            default: Fallback::Value("this"),
            about: "`log_out`: this session, or all of what it hangs on.",
        },
        Key {
            name: "current",
            kind: Kind::Text,
            default: Fallback::Absent("required for `set_password`, unless the account itself is presented"),
            about: "`set_password`: `body.<field>` of type `secret` with the present password.",
        },
        Key {
            name: "new",
            kind: Kind::Text,
            default: Fallback::Absent("required for `set_password`"),
            about: "`set_password`: `body.<field>` of type `secret` with the new one.",
        },
        Key {
            name: "sessions",
            kind: Kind::Choice(&["ended", "kept"]),
            default: Fallback::Value("ended"),
            about: "`set_password`: what becomes of the account's sessions.",
        },
        Key {
            name: "body",
            kind: Kind::Named(&FIELD),
            default: Fallback::Absent("no fields"),
            about: "Fields of the body.",
        },
        Key {
            name: "unknown_field",
            kind: Kind::Text,
            default: Fallback::Absent("`The {field} field is not known.`"),
            about: "What a field is told that the body may not have.",
        },
        Key {
            name: "unknown_fields",
            kind: Kind::Choice(&["refuse", "ignore", "keep"]),
            default: Fallback::Value("refuse"),
            about: "What happens to a member that is not among the fields, in objects of the body too. `refuse`: it is a mistake. `ignore`: it is left out. `keep`: it is kept, and templates see it in `{{ body }}` and in `{{ body.<object> }}`.",
        },
        Key {
            name: "forms",
            kind: Kind::Flag,
            default: Fallback::Value("false"),
            about: "Accepts the fields as `application/x-www-form-urlencoded` too: `name=value`, `object.member=value`, a list by repeating its name. Any page can send a form without a preflight, so such a route cannot set a cookie.",
        },
        Key {
            name: "unreadable_body",
            kind: Kind::Choice(&["refuse", "empty"]),
            default: Fallback::Value("refuse"),
            about: "What happens to a body that is not one JSON object, or not `application/json`. `refuse`: the denial is `invalid_body` or `unsupported_media_type`. `empty`: it counts as an object without members, so the denial is `invalid_fields` and names the required fields.",
        },
        Key {
            name: "answer",
            kind: Kind::Table(&ANSWER),
            default: Fallback::Absent("204"),
            about: "What is answered.",
        },
        Key {
            name: "hook",
            kind: Kind::Table(&HOOK),
            default: Fallback::Absent("no service is asked or told"),
            about: "A request to a service before or after what the gateway does.",
        },
        Key {
            name: "limits",
            kind: Kind::Tables(&RATE_LIMIT),
            default: Fallback::Absent("`rate_limits` of `gateway.toml`"),
            about: "How often the route may be used; `[]` for no limit.",
        },
    ],
};

/// `replace_prefix` of a route.
pub const REPLACE: Schema = Schema {
    parts: &[],
    name: "`replace_prefix`",
    about: "A prefix of whole segments for another.",
    keys: &[
        Key {
            name: "from",
            kind: Kind::Text,
            default: Fallback::Required,
            about: "What the path begins with; the pattern must begin with it too.",
        },
        Key {
            name: "to",
            kind: Kind::Text,
            default: Fallback::Required,
            about: "What stands there instead.",
        },
    ],
};

/// Keys without a meaning where nothing is forwarded.
const FORWARDING: &[&str] = &[
    "strip_prefix",
    "replace_prefix",
    "response_timeout",
    "path_parameters",
    "trailers",
    "forward_credentials",
    "upgrade",
];

/// One route as written.
#[derive(Debug)]
pub struct WrittenRoute {
    /// Where it begins.
    pub at: Place,
    /// Its name, if it has one.
    pub name: Option<Located<String>>,
    /// Hosts.
    pub hosts: Vec<Located<String>>,
    /// Methods; `None` = all.
    pub methods: Option<Vec<Located<String>>>,
    /// Path pattern.
    pub path: Option<Located<String>>,
    /// Who may use it.
    pub access: Option<WrittenAccess>,
    /// How the path is changed.
    pub rewrite: Option<WrittenRewrite>,
    /// Largest request body.
    pub max_body: u64,
    /// Deadline of the response head.
    pub response_timeout: Duration,
    /// How long a body may stand still.
    pub idle_timeout: Duration,
    /// Spellings of its paths that are refused elsewhere.
    pub path_forms: PathForms,
    /// Trailers forwarded.
    pub trailers: bool,
    /// Credential forwarded.
    pub forward_credentials: bool,
    /// What a connection may become.
    pub upgrade: Located<&'static str>,
    /// What pages of other origins may do, if it says so itself.
    pub cors: Option<WrittenRouteCors>,
    /// Dialect of its refusals.
    pub dialect: Option<Located<String>>,
    /// Its own rate limits.
    pub limits: Option<Vec<WrittenRateLimit>>,
    /// What is served, if it is not forwarded.
    pub serve: Option<WrittenServe>,
    /// Places of keys that only mean something when a request is forwarded.
    pub forwarding: Vec<Located<&'static str>>,
    /// Whether `max_body` was written.
    pub max_body_at: Option<Place>,
}

/// How the path is changed, as written.
#[derive(Debug)]
pub struct WrittenRewrite {
    /// What it begins with.
    pub from: Located<String>,
    /// What stands there instead.
    pub to: Located<String>,
}

/// Reads one route.
#[must_use]
pub fn read(section: &Section<'_>) -> WrittenRoute {
    WrittenRoute {
        at: section.at(),
        name: section.text("name"),
        hosts: section.texts("hosts"),
        methods: section.raw("methods").map(|_| section.texts("methods")),
        path: section.text("path"),
        access: access::read(section),
        rewrite: read_rewrite(section),
        max_body: section.size_or_default("max_body"),
        response_timeout: section.duration_or_default("response_timeout").value,
        idle_timeout: section.duration_or_default("idle_timeout").value,
        path_forms: read_path_forms(section),
        trailers: section.is_set("trailers"),
        forward_credentials: section.is_set("forward_credentials"),
        upgrade: section.choice("upgrade"),
        cors: cors::read_of_route(section),
        dialect: section.text("dialect"),
        limits: rate::read_list(section, "limits"),
        serve: serve::read(section),
        forwarding: FORWARDING
            .iter()
            .filter_map(|name| {
                section.raw(name)?;
                Some(Located {
                    value: *name,
                    at: section.place_of(name),
                })
            })
            .collect(),
        max_body_at: section.raw("max_body").map(|_| section.place_of("max_body")),
    }
}

fn read_path_forms(section: &Section<'_>) -> PathForms {
    let form = |name, form: PathForms| form.only_if(section.is_set(name));
    form("encoded_slashes", PathForms::ENCODED_SLASH)
        .with(form("encoded_backslashes", PathForms::ENCODED_BACKSLASH))
        .with(form("raw_characters", PathForms::RAW_CHARACTER))
        .with(form("path_parameters", PathForms::PARAMETER))
}

fn read_rewrite(section: &Section<'_>) -> Option<WrittenRewrite> {
    let strip = section.text("strip_prefix");
    let replace = section.section("replace_prefix");
    if let (Some(strip), Some(_)) = (&strip, &replace) {
        section.report().error(
            &strip.at,
            "a route has `strip_prefix` or `replace_prefix`, not both",
            Some("`replace_prefix = { from = \"…\", to = \"\" }` strips as well".to_owned()),
        );
    }
    if let Some(from) = strip {
        let to = Located {
            value: String::new(),
            at: from.at.clone(),
        };
        return Some(WrittenRewrite { from, to });
    }
    let replace = replace?;
    let (from, to) = (replace.text("from"), replace.text("to"));
    Some(WrittenRewrite { from: from?, to: to? })
}
