//! `upstreams/*.toml`: one service with its endpoints and routes.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::ServerName;

use crate::base::authority::split_authority;
use crate::config::declare::{absent, count, default, duration, required, size, table};
use crate::config::reader::shorten;
use crate::config::source::Located;
use crate::decide::route::{Route, UpstreamIndex};
use crate::upstream::spec::{Ejection, EndpointSpec, HostHeader, UpstreamSpec};

use crate::config::units::{millis, secs};
use crate::wire::head::{MOST_RESPONSE_FIELDS, ResponseLimits};

use super::Builder;
use super::routes::{RouteInputs, RouteTable};
use super::tls::ClientTlsTable;

table! {
    /// A service behind the gateway. Requests reach it over HTTP/1.1.
    pub struct UpstreamTable = "`upstreams/*.toml`" {
        /// How logs and metrics call it.
        name: Option<Located<String>> = absent("the file's name without `.toml`");
        /// Addresses of the service, `http://host:port` or `https://host:port`, all of the same kind. Requests are spread
        /// over those that answer.
        endpoints: Located<Vec<Located<String>>> = required();
        /// Deadline for connecting, TLS included: an endpoint that needs longer is ill.
        connect_timeout: Duration = default("2s"), duration(millis(50), secs(30));
        /// Idle connections are closed after this. It must be shorter than the service's own limit (Node has 5 s), or
        /// requests meet closing connections.
        keep_alive: Duration = default("4s"), duration(millis(0), secs(300));
        /// Connections of one worker to one endpoint; further requests wait, at most as long as `connect_timeout`.
        max_connections: usize = default("256"), count(1, 65_536);
        /// `Host` upstream: `client` (what the client asked for), `endpoint` (its own address), or a fixed name.
        host: Located<String> = default("client");
        /// Largest head of an answer, all its fields together; one field may fill it. A larger head is answered with 502,
        /// is `oversized` in the metrics, and does not count as a failure of the endpoint.
        response_head: usize = default("64KiB"), size(8 * 1024, 1024 * 1024);
        /// Most fields of an answer. More are treated like a head that is too large.
        response_fields: usize = default("200"), count(10, MOST_RESPONSE_FIELDS as u64);
        /// When an endpoint is left out.
        ejection: Ejection = absent("the defaults below");
        /// TLS towards the endpoints.
        tls: Option<ClientTlsTable> = absent("with `https://`, the system's authorities");
        /// The dialect of refusals on these routes.
        dialect: Option<Located<String>> = absent("the gateway's");
        /// What is let through to this service. At least one.
        routes: Vec<RouteTable> = required();
    }
}

table! {
    /// Failures are refused connections, broken answers and missed deadlines. One endpoint is always kept.
    for Ejection = "`[ejection]`" {
        /// Failures in a row until it is left out.
        failures: u32 = default("5"), count(1, 1_000);
        /// How long, the first time; doubled with each repetition, up to 16 times as long.
        duration: Duration = default("10s"), duration(millis(100), secs(600));
    }
}

/// Most endpoints of one upstream: beyond this, a name that resolves to several addresses or a load
/// balancer is the better tool.
const MAX_ENDPOINTS: usize = 64;

/// Plain or TLS, by an endpoint's scheme.
#[derive(Clone, Copy, PartialEq, Eq)]
enum EndpointScheme {
    Plain,
    Tls,
}

impl Builder<'_> {
    /// Upstreams with their routes. Routes are numbered through all files, in order.
    pub(super) fn upstreams(&self, written: &[(&Path, UpstreamTable)], shared: &RouteInputs<'_>) -> (Vec<Arc<UpstreamSpec>>, Vec<Route>) {
        let (mut specs, mut routes): (Vec<Arc<UpstreamSpec>>, Vec<Route>) = (Vec::new(), Vec::new());
        let mut taken = HashSet::new();
        for (path, upstream) in written {
            let name = self.upstream_name(path, upstream);
            if !taken.insert(name.value.clone()) {
                self.twice(&name, "upstream");
            }
            let dialect = upstream
                .dialect
                .as_ref()
                .map_or(shared.dialect, |d| self.dialect_index(shared.dialects, d));
            let index = UpstreamIndex(specs.len());
            specs.push(Arc::new(self.upstream(&name.value, upstream)));
            if upstream.routes.is_empty() {
                self.report.error(
                    &upstream.at,
                    format!("the upstream `{}` has no routes: nothing would reach it", shorten(&name.value)),
                    Some("add `[[routes]]` with `path` and `access`".to_owned()),
                );
            }
            let context = super::routes::FileInputs {
                upstream: Some(index),
                file: &name.value,
                shared: *shared,
                dialect,
            };
            for (i, route) in upstream.routes.iter().enumerate() {
                routes.push(self.route(&context, i + 1, route));
            }
        }
        (specs, routes)
    }

    /// The configured name, or the file's.
    pub(super) fn upstream_name(&self, path: &Path, written: &UpstreamTable) -> Located<String> {
        let name = written.name.clone().unwrap_or_else(|| Located {
            value: name_of(path, written),
            at: written.at.clone(),
        });
        self.check_name(&name, "an upstream");
        name
    }

    fn upstream(&self, name: &str, written: &UpstreamTable) -> UpstreamSpec {
        let server_name = written.tls.as_ref().and_then(|t| t.server_name.as_ref()).and_then(|n| {
            let parsed = ServerName::try_from(n.value.clone()).ok();
            if parsed.is_none() {
                self.report
                    .error(&n.at, format!("`{}` is not a server name", shorten(&n.value)), None);
            }
            parsed
        });
        let endpoints: Vec<(EndpointScheme, EndpointSpec)> = written
            .endpoints
            .value
            .iter()
            .filter_map(|e| self.endpoint(e, server_name.as_ref()))
            .collect();
        if written.endpoints.value.is_empty() || written.endpoints.value.len() > MAX_ENDPOINTS {
            self.report.error(
                &written.endpoints.at,
                format!("an upstream has 1 to {MAX_ENDPOINTS} endpoints"),
                Some("endpoints = [\"http://127.0.0.1:9000\"]".to_owned()),
            );
        }
        let tls = endpoints.iter().any(|(w, _)| *w == EndpointScheme::Tls);
        if tls && endpoints.iter().any(|(w, _)| *w == EndpointScheme::Plain) {
            self.report.error(
                &written.endpoints.at,
                "endpoints of one upstream are all `http` or all `https`",
                Some("a retry must not change whether the connection is protected".to_owned()),
            );
        }
        if let (Some(table), false) = (&written.tls, tls || endpoints.is_empty()) {
            self.report.error(
                &table.at,
                "`tls` has no effect on `http://` endpoints",
                Some("write `https://`, or remove the table".to_owned()),
            );
        }
        UpstreamSpec {
            name: name.into(),
            tls: if tls {
                self.upstream_tls(written.tls.as_ref(), &written.endpoints.at)
            } else {
                None
            },
            endpoints: endpoints.into_iter().map(|(_, e)| e).collect(),
            connect_timeout: written.connect_timeout,
            keep_alive: written.keep_alive,
            max_connections: written.max_connections,
            host: self.host_header(&written.host),
            answers: ResponseLimits {
                head: written.response_head,
                fields: written.response_fields,
            },
            ejection: written.ejection,
        }
    }

    fn endpoint(&self, written: &Located<String>, server_name: Option<&ServerName<'static>>) -> Option<(EndpointScheme, EndpointSpec)> {
        let (wire, rest, port) = match written.value.split_once("://") {
            Some(("http", rest)) => (EndpointScheme::Plain, rest, 80),
            Some(("https", rest)) => (EndpointScheme::Tls, rest, 443),
            _ => return self.bad_endpoint(written, "it must begin with `http://` or `https://`"),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#', '@']) {
            return self.bad_endpoint(written, "only host and port: no path, query or user");
        }
        let Some((host, port)) = split_authority(authority, port) else {
            return self.bad_endpoint(written, "host or port cannot be read");
        };
        let own_name = match wire {
            EndpointScheme::Plain => None,
            EndpointScheme::Tls => Some(match server_name {
                Some(name) => name.clone(),
                None => match ServerName::try_from(host.clone()) {
                    Ok(name) => name,
                    Err(_) => return self.bad_endpoint(written, "its host cannot be in a certificate"),
                },
            }),
        };
        Some((
            wire,
            EndpointSpec {
                host,
                port,
                authority: authority.to_ascii_lowercase(),
                server_name: own_name,
            },
        ))
    }

    fn bad_endpoint<T>(&self, written: &Located<String>, why: &str) -> Option<T> {
        self.report.error(
            &written.at,
            format!("`{}` is not an endpoint: {why}", shorten(&written.value)),
            Some("for example \"http://127.0.0.1:9000\" or \"https://orders.internal\"".to_owned()),
        );
        None
    }

    fn host_header(&self, written: &Located<String>) -> HostHeader {
        match written.value.as_str() {
            "client" => HostHeader::Client,
            "endpoint" => HostHeader::Endpoint,
            fixed => {
                if split_authority(fixed, 80).is_none() {
                    self.report.error(
                        &written.at,
                        format!("`{}` is not a host", shorten(fixed)),
                        Some("`client`, `endpoint`, or a fixed name like \"orders.internal\"".to_owned()),
                    );
                }
                HostHeader::Fixed(fixed.to_owned())
            }
        }
    }
}

/// How a service is called: as it says, or as its file.
pub(super) fn name_of(path: &Path, written: &UpstreamTable) -> String {
    let of_file = || path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    written.name.as_ref().map_or_else(of_file, |name| name.value.clone())
}
