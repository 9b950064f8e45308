//! Descriptors of the process. Their limit is raised as far as the system allows, and they are divided between clients and
//! services, so that a client that is accepted can also be served.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::admin::http::Bounds;
use crate::config::Loaded;
use crate::snapshot::{Settings, Snapshot, StoreKind};

/// The limit that is requested where there is no hard limit. Linux grants no more unless its `fs.nr_open` was raised.
const UNLIMITED: u64 = 1_048_576;

/// Descriptors of the process itself: standard streams, the store's file, files that a reload reads, look-ups of names, key
/// sets of issuers, signals.
const OWN: usize = 64;

/// Descriptors of each worker: its poll, its wake-ups, and a connection that is just being accepted or refused.
const OF_A_WORKER: usize = 8;

/// Descriptors for connections to Redis and to sentinels, and for those that replace them.
const OF_REDIS: usize = 64;

/// What the gateway wants descriptors for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DescriptorDemand {
    /// All but connections of clients and to services.
    fixed: usize,
    /// As `limits.connections` has it in the configuration.
    connections: usize,
    /// Connections that all workers together may have to all endpoints.
    upstreams: usize,
}

/// How many descriptors there are, and how they are divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DescriptorBudget {
    /// Descriptors that the process may have.
    pub(crate) limit: u64,
    /// Client connections that are accepted at a time.
    pub(crate) connections: usize,
    /// As `limits.connections` has it in the configuration.
    pub(crate) configured: usize,
    /// Connections to services that all workers together may have, also after a reload that adds services.
    pub(crate) upstreams: usize,
    /// Connections to services that the configuration allows at the start.
    configured_upstreams: usize,
}

/// There are not enough descriptors to serve one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("at most {limit} files and sockets may be open, and the gateway needs {needed}: raise the limit (`ulimit -n`, `LimitNOFILE`)")]
pub(crate) struct TooFewDescriptors {
    limit: u64,
    needed: usize,
}

impl DescriptorDemand {
    pub(crate) fn by(loaded: &Loaded) -> Self {
        Self::of(&loaded.settings, &loaded.snapshot)
    }

    pub(crate) fn of(settings: &Settings, snapshot: &Snapshot) -> Self {
        let operators = Bounds::OPERATOR.connections * if settings.admin.probes.is_some() { 2 } else { 1 };
        let redis = match settings.store.kind {
            StoreKind::Embedded { .. } => 0,
            StoreKind::Redis { .. } => OF_REDIS,
        };
        let to_endpoints: usize = snapshot
            .upstreams
            .iter()
            .map(|upstream| upstream.max_connections.saturating_mul(upstream.endpoints.len()))
            .fold(0, usize::saturating_add);
        Self {
            fixed: OWN + OF_A_WORKER * settings.workers + settings.listeners.len() + operators + redis,
            connections: settings.limits.connections,
            upstreams: to_endpoints.saturating_mul(settings.workers),
        }
    }
}

impl DescriptorBudget {
    /// Divides `limit` descriptors. Where they do not suffice for all that is configured, services get half of them beside the
    /// fixed ones, or fewer if fewer are configured: a client of HTTP/1.1 needs one connection to a service at a time.
    ///
    /// # Errors
    /// [`TooFewDescriptors`] when no client could be served.
    pub(crate) fn divide(limit: u64, wanted: &DescriptorDemand) -> Result<Self, TooFewDescriptors> {
        let there = usize::try_from(limit).unwrap_or(usize::MAX);
        let needed = wanted.fixed + 2;
        if there < needed {
            return Err(TooFewDescriptors { limit, needed });
        }
        let left = there - wanted.fixed;
        let both = wanted.connections.saturating_add(wanted.upstreams);
        let kept = if left >= both {
            wanted.upstreams
        } else {
            wanted.upstreams.min(left / 2)
        };
        let connections = wanted.connections.min(left - kept);
        Ok(Self {
            limit,
            connections,
            configured: wanted.connections,
            upstreams: left - connections,
            configured_upstreams: wanted.upstreams,
        })
    }

    /// A text that says what there are too few descriptors for; `None` if there are enough.
    pub(crate) fn shortage(&self) -> Option<String> {
        let connections = (self.connections < self.configured).then(|| {
            format!(
                "{} client connections at a time instead of `limits.connections` = {}",
                self.connections, self.configured
            )
        });
        let upstreams = (self.upstreams < self.configured_upstreams).then(|| format!("{} connections to services in all", self.upstreams));
        let short: Vec<String> = connections.into_iter().chain(upstreams).collect();
        (!short.is_empty()).then(|| {
            format!(
                "at most {} files and sockets may be open, which leaves {}; raise the hard limit (`ulimit -Hn`, `LimitNOFILE`) for more",
                self.limit,
                short.join(" and ")
            )
        })
    }
}

/// Descriptors that this process may have once the limit is raised.
pub(crate) fn available() -> u64 {
    getrlimit(Resource::Nofile).maximum.unwrap_or(UNLIMITED)
}

/// Raises the limit as far as the system allows, and answers it.
pub(crate) fn raise() -> u64 {
    let before = getrlimit(Resource::Nofile);
    let wanted = before.maximum.unwrap_or(UNLIMITED);
    let raised = Rlimit {
        current: Some(wanted),
        maximum: before.maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => wanted,
        Err(_) => before.current.unwrap_or(wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: DescriptorDemand = DescriptorDemand {
        fixed: 100,
        connections: 10_000,
        upstreams: 512,
    };

    #[test]
    fn where_there_are_enough_everything_is_as_configured() {
        let budget = DescriptorBudget::divide(10_612, &WANTED).unwrap();
        assert_eq!((budget.connections, budget.upstreams, budget.shortage()), (10_000, 512, None));
        let budget = DescriptorBudget::divide(20_000, &WANTED).unwrap();
        assert_eq!((budget.connections, budget.upstreams), (10_000, 9_900), "a reload may add services");
    }

    #[test]
    fn where_there_are_fewer_services_get_no_less_than_their_clients() {
        for (limit, connections, upstreams) in [
            (10_611, 9_999, 512),
            (2_000, 1_388, 512),
            (1_024, 462, 462),
            (300, 100, 100),
            (103, 2, 1),
            (102, 1, 1),
        ] {
            let budget = DescriptorBudget::divide(limit, &WANTED).unwrap();
            assert_eq!((budget.connections, budget.upstreams), (connections, upstreams), "{limit}");
            assert!((WANTED.fixed + budget.connections + budget.upstreams) as u64 <= limit);
            let said = budget.shortage().unwrap();
            assert!(
                said.contains(&format!("{connections} client connections")) && said.contains("LimitNOFILE"),
                "{said}"
            );
        }
    }

    #[test]
    fn with_too_few_for_one_client_the_gateway_does_not_start() {
        let error = DescriptorBudget::divide(101, &WANTED).unwrap_err().to_string();
        assert!(error.contains("at most 101") && error.contains("needs 102"), "{error}");
    }

    #[test]
    fn what_is_configured_counts_for_each_worker() {
        let text = "[[listeners]]\nname = \"a\"\naddress = \"127.0.0.1:1\"\n[surfaces.api]\nkind = \"api_key\"\nprefixes = { live = \"a_live_\" }\n";
        let upstream = "endpoints = [\"http://a\", \"http://b\"]\nmax_connections = 10\n[[routes]]\npath = \"/x\"\naccess = \"public\"\n";
        let wanted = |more: &str| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("gateway.toml");
            std::fs::create_dir(folder.path().join("upstreams")).unwrap();
            std::fs::write(folder.path().join("upstreams/u.toml"), upstream).unwrap();
            std::fs::write(&path, format!("{more}{text}")).unwrap();
            DescriptorDemand::by(&crate::config::load(&path, crate::config::Purpose::Check).unwrap())
        };
        let (two, four) = (wanted("workers = 2\n"), wanted("workers = 4\n"));
        assert_eq!((two.upstreams, four.upstreams), (40, 80));
        assert_eq!(four.fixed - two.fixed, 16);
        assert_eq!(two.connections, 10_000);
    }
}
