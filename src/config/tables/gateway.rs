//! `gateway.toml`: the gateway itself, the operator's side, logs, identity headers, trusted proxies.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;

use crate::base::ids::GatewayId;
use crate::config::declare::{Named, absent, choice, count, default, duration, path, required, table};
use crate::config::reader::shorten;
use crate::config::source::Located;
use crate::config::units::secs;
use crate::decide::headers::IdentityNames;
use crate::decide::peer::PeerPolicy;
use crate::snapshot::{AccessLog, AdminSettings, HashingLimits, LogFormat, LogSettings, Settings};

use super::Builder;
use super::audit::AuditTable;
use super::cors::CorsTable;
use super::dialects::DialectTable;
use super::limits::{LimitsTable, LogInTable, RateLimitTable};
use super::listeners::{ListenerTable, is_loopback};
use super::names::folded;
use super::roles::RoleTable;
use super::routes::RouteTable;
use super::sign_on::SignOnTable;
use super::store::StoreTable;
use super::surfaces::SurfaceTable;

table! {
    /// The gateway itself. Services and their routes are in the files of the `upstreams` directory.
    pub struct GatewayTable = "`gateway.toml`" {
        /// This gateway's name in receipts (`durward gateways`, `--wait`). Two gateways that share a store must have
        /// different names: of two with the same name, the one that started later admits nobody. A gateway that is
        /// restarted takes its own name over.
        id: Option<Located<String>> = absent("made of the host's name, the process id and a random part");
        /// Threads that carry requests. More threads than cores only cost memory.
        workers: Option<usize> = absent("one for each core"), count(1, 256);
        /// The directory with one `*.toml` file for each service, read in the order of their names.
        upstreams: Located<String> = default("upstreams"), path();
        /// The dialect of refusals before a route is found, and of upstreams that name none.
        dialect: Located<String> = default("problem");
        /// Where clients connect. At least one.
        listeners: Vec<ListenerTable> = required();
        /// Where credentials are kept, and how old facts about them may become.
        store: StoreTable = absent("the embedded store under `state/`");
        /// The promise about revoked credentials.
        revocation: RevocationTable = absent("a bound of 60 s");
        /// The operator's side. Nothing of it is reachable through a listener.
        admin: AdminTable = absent("a socket under `state/`, no probes over TCP");
        /// Bounds of connections, requests and waits.
        limits: LimitsTable = absent("the defaults below");
        /// How many passwords may be tried, and how many are hashed at a time.
        log_in: LogInTable = absent("the defaults below");
        /// How many passwords of sign-ups are hashed at a time.
        sign_up: HashingLimits = absent("the defaults below");
        /// Single sign-on at the identity providers of tenants.
        sign_on: Option<SignOnTable> = absent("there are no routes of single sign-on");
        /// Rate limits of every route that has no `limits` of its own, counted for each route apart. On public routes
        /// those by `credential` and `tenant` do not count.
        rate_limits: Vec<RateLimitTable> = absent("none");
        /// What pages of other origins may do on every route that does not say so itself.
        cors: Option<CorsTable> = absent("pages of other origins read nothing, and preflights are requests like any other");
        /// What is written to standard output.
        log: LogSettings = absent("JSON with access lines");
        /// What is on record of every request and of every change, and can be proven.
        audit: Option<AuditTable> = absent("there is no audit trail");
        /// Names of the identity headers. They are removed from every request before ours are set, public routes
        /// included.
        identity: IdentityTable = absent("the names below");
        /// Proxies in front of the gateway.
        proxies: ProxiesTable = absent("nobody is trusted");
        /// Classes of callers. The name is part of every stored fingerprint: renaming a surface orphans its credentials.
        surfaces: Named<SurfaceTable> = absent("none: only public routes are possible");
        /// Named sets of scopes that every tenant may give its keys. Roles of one tenant are in the store.
        roles: Named<RoleTable> = absent("none");
        /// Routes that the gateway serves itself. Routes that forward stand in the file of their service, which may have
        /// served routes too.
        routes: Vec<RouteTable> = absent("none");
        /// How refusals are written. `problem` (RFC 9457) and `plain` are always there.
        dialects: Named<DialectTable> = absent("the built-in `problem` and `plain`");
    }
}

table! {
    /// A revocation that was acknowledged holds everywhere after this time, whatever fails.
    pub struct RevocationTable = "`[revocation]`" {
        /// The longest time until a revocation holds everywhere. 60 s is the promise, and the setting can only make it
        /// shorter. With less than 10 s a short outage of the store would refuse everybody.
        bound: Located<Duration> = default("60s"), duration(secs(10), secs(60));
        /// How often an open stream (WebSocket, events, a long body) is authorized again. A stream is also authorized
        /// again whenever something changes. Together with `store.max_age` at most the bound less 5 s.
        stream_check: Option<Located<Duration>> = absent("15s, or what `bound` leaves"), duration(secs(1), secs(55));
    }
}

table! {
    /// The command line reaches the gateway through a Unix socket that only its owner may open.
    pub struct AdminTable = "`[admin]`" {
        /// Path of the Unix socket; at most 100 bytes, the kernel's limit.
        socket: Located<String> = default("state/admin.sock"), path();
        /// TCP address for `/livez`, `/readyz` and `/metrics`, and nothing else.
        probes: Option<Located<SocketAddr>> = absent("probes and metrics only on the socket");
        /// Allows probes on an address that is not loopback. Everybody who reaches the address can then read the metrics.
        insecure_probes: bool = default("false");
    }
}

table! {
    /// No secret, credential header or query string is ever logged.
    for LogSettings = "`[log]`" {
        /// JSON lines, or text for people.
        format: LogFormat = default("json");
        /// Whether each request is logged in one line. Metrics do not depend on it.
        access: AccessLog = default("on");
    }
}

table! {
    /// Names of the headers that tell services who calls. Each header is set exactly once, or is absent.
    pub struct IdentityTable = "`[identity]`" {
        /// The tenant.
        tenant: Located<String> = default("X-Tenant-Id");
        /// The scopes, separated by spaces.
        scopes: Located<String> = default("X-Scopes");
        /// The surface the caller used.
        surface: Located<String> = default("X-Auth-Surface");
        /// `test` or `live`, on surfaces with modes.
        mode: Located<String> = default("X-Auth-Mode");
        /// Who acts within the tenant: any text of up to 255 characters, percent-encoded.
        subject: Located<String> = default("X-Auth-Subject");
        /// The credential's id; not a secret.
        credential_id: Located<String> = default("X-Auth-Credential-Id");
    }
}

table! {
    /// Proxies in front of the gateway. `X-Forwarded-*`, `Forwarded`, `X-Request-Id` and `traceparent` are believed only
    /// from these addresses, and dropped from all others.
    pub struct ProxiesTable = "`[proxies]`" {
        /// Addresses or networks, for example "10.0.0.0/8".
        trusted: Vec<Located<String>> = absent("nobody");
        /// Allows a network of all addresses in `trusted`: any client may then claim any address.
        insecure_trust_everyone: bool = default("false");
    }
}

choice! {
    for LogFormat {
        Json = "json",
        Pretty = "pretty",
    }
}

choice! {
    for AccessLog {
        On = "on",
        Off = "off",
    }
}

/// Longest path of a Unix socket: `sun_path` has 108 bytes, and the gateway may add a suffix while it
/// replaces a stale one.
const MAX_SOCKET_PATH: usize = 100;

/// Longest id of a gateway: the longest name a host may have (RFC 1123, section 2.1, one label), so that
/// lists stay readable.
const MAX_GATEWAY_ID: usize = 63;

impl Builder<'_> {
    pub(super) fn settings(&self, gateway: &GatewayTable) -> Option<Settings> {
        let listeners = self.listeners(&gateway.listeners);
        let store = self.store(gateway);
        let admin = self.admin(gateway);
        let peppers = self.peppers(&gateway.store);
        Some(Settings {
            config_path: self.path.to_owned(),
            id: gateway.id.as_ref().and_then(|id| self.gateway_id(id)),
            listeners,
            workers: gateway.workers.unwrap_or_else(default_workers),
            store: store?,
            peppers: peppers?,
            admin: admin?,
            limits: gateway.limits.limits,
            log_in: self.log_in(&gateway.log_in),
            sign_up: gateway.sign_up,
            log: gateway.log,
            audit: self.audit(gateway),
            revocation_bound: gateway.revocation.bound.value,
            stream_check: self.stream_check(gateway),
        })
    }

    fn gateway_id(&self, written: &Located<String>) -> Option<GatewayId> {
        let id = GatewayId::parse(&written.value)
            .ok()
            .filter(|id| id.as_str().len() <= MAX_GATEWAY_ID);
        if id.is_none() {
            self.report.error(
                &written.at,
                format!("`{}` cannot be a gateway's id", shorten(&written.value)),
                Some(format!("1 to {MAX_GATEWAY_ID} of A-Z a-z 0-9 . _ : -")),
            );
        }
        id
    }

    /// Names of the identity headers, all different.
    pub(super) fn identity_names(&self, table: &IdentityTable) -> IdentityNames {
        let mut names = IdentityNames::default();
        let mut chosen = [
            ("tenant", &table.tenant, &mut names.tenant),
            ("scopes", &table.scopes, &mut names.scopes),
            ("surface", &table.surface, &mut names.surface),
            ("mode", &table.mode, &mut names.mode),
            ("subject", &table.subject, &mut names.subject),
            ("credential_id", &table.credential_id, &mut names.credential_id),
        ];
        // Defaults first: a name that meets one of them is the mistake, not the default.
        chosen.sort_by_key(|(_, name, _)| name.at != table.at);
        let mut seen: Vec<(String, &'static str)> = Vec::new();
        for (key, name, slot) in chosen {
            if !self.check_request_name(name) {
                continue;
            }
            let fold = folded(&name.value);
            if let Some((_, other)) = seen.iter().find(|(f, _)| *f == fold) {
                self.report.error(
                    &name.at,
                    format!("`{}` is the name of `{other}` already", shorten(&name.value)),
                    Some("upstreams must be able to tell identity headers apart".to_owned()),
                );
            }
            seen.push((fold, key));
            slot.clone_from(&name.value);
        }
        names
    }

    pub(super) fn admin(&self, gateway: &GatewayTable) -> Option<AdminSettings> {
        let AdminTable {
            socket: path,
            probes,
            insecure_probes,
            ..
        } = &gateway.admin;
        let socket = self.resolve(&path.value);
        if path.value.is_empty() || socket.as_os_str().len() > MAX_SOCKET_PATH {
            self.report.error(
                &path.at,
                format!("the path of the operator socket must have 1 to {MAX_SOCKET_PATH} bytes"),
                Some(format!("it is `{}`; the kernel takes 108", socket.display())),
            );
            return None;
        }
        if let Some(probes) = probes {
            if !insecure_probes && !is_loopback(probes.value) {
                self.report.error(
                    &probes.at,
                    "probes must be on loopback: figures would be readable by everybody",
                    Some("say `insecure_probes = true` if the network is closed".to_owned()),
                );
            }
            let taken = gateway
                .listeners
                .iter()
                .any(|l| l.address.value == probes.value && probes.value.port() != 0);
            if taken {
                self.report
                    .error(&probes.at, format!("`{}` is the address of a listener already", probes.value), None);
            }
        }
        Some(AdminSettings {
            socket,
            probes: probes.as_ref().map(|p| p.value),
        })
    }

    pub(super) fn peers(&self, gateway: &GatewayTable) -> PeerPolicy {
        let proxies = &gateway.proxies;
        let trusted = proxies.trusted.iter().filter_map(|text| {
            let network = text
                .value
                .parse::<IpNet>()
                .ok()
                .or_else(|| text.value.parse::<IpAddr>().ok().map(IpNet::from));
            let Some(network) = network else {
                self.report.error(
                    &text.at,
                    format!("`{}` is not an address or a network", shorten(&text.value)),
                    Some("for example \"10.0.0.0/8\", \"192.0.2.7\" or \"2001:db8::/32\"".to_owned()),
                );
                return None;
            };
            if network.prefix_len() == 0 && !proxies.insecure_trust_everyone {
                self.report.error(
                    &text.at,
                    "every address would be trusted: any client could claim any address",
                    Some("name your proxies' networks, or say `insecure_trust_everyone = true`".to_owned()),
                );
            }
            if network.trunc() != network {
                let message = format!("`{}` has bits outside its mask and means `{}`", text.value, network.trunc());
                self.report.warning(&text.at, message, None);
            }
            Some(network.trunc())
        });
        PeerPolicy {
            trusted: trusted.collect(),
        }
    }
}

/// One worker for each core the process may use.
fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
