//! A running gateway: its parts in the order they are started, and stopped in the reverse.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::chores::{TELLING_TIME, exchange_checkpoints, start_chores};
use super::identity::identity;
use super::reload::{LoadedTexts, Reloader};
use super::store::{OpenError, OpenedStore, cache_settings, name_of, open_store};
use super::{AccessLines, FLUSH_TIME, Panics, metrics};
use crate::admin::http::{Bounds, Listener, serve as serve_admin};
use crate::admin::probes::Probes;
use crate::admin::readiness::Readiness;
use crate::admin::record::ActionRecorder;
use crate::admin::routes::OperatorApi;
use crate::admin::socket::{self, SocketError, SocketName};
use crate::admin::{ListenerView, Operations};
use crate::audit::action::Actor;
use crate::audit::trail::{Trail, TrailError};
use crate::base::clock::{Clock, SystemClock};
use crate::base::fingerprint::Peppers;
use crate::cli::descriptors::{self, DescriptorBudget, DescriptorDemand, TooFewDescriptors};
use crate::config::Loaded;
use crate::decide::headers::UriScheme;
use crate::gateway::{ExplainListener, Explainer, UpstreamRegistry, Worker, WorkerParts};
use crate::issue::engine::{Engine, EngineLimits};
use crate::issue::trail_reader::{TrailAccess, TrailReader};
use crate::jwks::KeyRenewal;
use crate::limit::Limiter;
use crate::server::tls::TicketKeySource;
use crate::server::{self, RunningServer, ServerSetup};
use crate::snapshot::{AccessLog, Limits, ListenerTransport, LogFormat, LogSettings, Settings, SharedSnapshot};
use crate::store::announce::Announcer;
use crate::store::cached::{CachedStore, WorkerWakes};
use crate::store::{CredentialStore, RecordLimits, activity};
use crate::telemetry::{LineFormat, Output, Telemetry};
use crate::upstream::quota::QuotaShares;

/// A gateway that serves. Dropping it without [`stop`](Self::stop) cuts everything off.
pub(crate) struct Process {
    operations: Arc<Operations>,
    reloader: Arc<Reloader>,
    running: RunningServer,
    telemetry: Arc<Telemetry>,
    stop: watch::Sender<()>,
    admin: JoinSet<()>,
    chores: Vec<JoinHandle<()>>,
    cached: Arc<CachedStore>,
    announcer: Arc<Announcer>,
    /// Kind and place of the store, for the log.
    store: String,
    workers: usize,
    trail: Option<Arc<Trail>>,
    _socket: SocketName,
}

/// Why a gateway did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    /// The store cannot be opened.
    #[error("{0}")]
    Store(#[from] OpenError),
    /// The process may not have enough descriptors.
    #[error("{0}")]
    Descriptors(#[from] TooFewDescriptors),
    /// The public side cannot be started.
    #[error("{0}")]
    Server(#[from] server::ServerStartError),
    /// The operator socket cannot be made.
    #[error("{0}")]
    Socket(#[from] SocketError),
    /// The address of the probes is not free.
    #[error("probes cannot listen on {0}: {1}")]
    Probes(SocketAddr, std::io::Error),
    /// The audit trail cannot be written.
    #[error("the audit trail: {0}")]
    Audit(#[from] TrailError),
    /// The system gives no thread, or no random numbers.
    #[error("the machine refused a resource: {0}")]
    Machine(#[from] std::io::Error),
}

/// Longest time for writing the end of the audit trail. A disk that is slower loses it, and the next start tells so.
const TRAIL_TIME: Duration = Duration::from_secs(10);

impl Process {
    /// Starts everything; must be called inside the control runtime.
    ///
    /// # Errors
    /// [`ServeError`]; then nothing is left running.
    pub(crate) async fn start(loaded: Loaded, panics: &Panics, lines: AccessLines) -> Result<Self, ServeError> {
        let mut introduced = None;
        let started = Self::start_introducing(loaded, panics, lines, &mut introduced).await;
        if let (Err(_), Some(announcer)) = (&started, introduced) {
            // Otherwise changes would wait for the receipt of a gateway that has never served.
            announcer.withdraw().await;
        }
        started
    }

    /// Starts everything. Sets `introduced` as soon as other gateways may know of this one, so that the caller can withdraw it
    /// if the start fails later.
    async fn start_introducing(
        loaded: Loaded,
        panics: &Panics,
        lines: AccessLines,
        introduced: &mut Option<Arc<Announcer>>,
    ) -> Result<Self, ServeError> {
        let budget = divide_descriptors(&loaded)?;
        let (settings, snapshot) = (loaded.settings, loaded.snapshot);
        let texts = LoadedTexts::new(loaded.watch, loaded.keys);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let shared = Arc::new(SharedSnapshot::new(snapshot));
        let telemetry = Telemetry::new(line_format(settings.log), access_output(settings.log, lines)?);
        // The socket comes first, since a second gateway with the same state must not reach the store.
        let (admin_socket, socket_name) = socket::bind(&settings.admin.socket)?;
        let StoreParts {
            store,
            cached,
            announcer,
            limiter,
        } = open_parts(&settings, &clock).await?;
        *introduced = Some(announcer.clone());
        let trail = open_trail(&settings, &announcer, &clock)?;
        let (renewal, wanted) = KeyRenewal::new(shared.clone(), clock.clone());
        let parts = WorkerParts {
            shared: shared.clone(),
            cached: cached.clone(),
            peppers: Peppers::clone(&settings.peppers),
            engine: make_engine(&settings, &store, &clock, trail.as_ref())?,
            clock: clock.clone(),
            telemetry: telemetry.clone(),
            trail: trail.clone(),
            renewal: renewal.clone(),
            limiter,
            stream_check: settings.stream_check,
            upstreams: Arc::<UpstreamRegistry>::default(),
            in_flight: in_flight_quota(&settings),
            upstream_connections: budget.upstreams / settings.workers.max(1),
            seed: [0; 2],
        };
        let running = server::start(
            server_setup(&settings, &shared, &clock, &budget),
            worker_factories(settings.workers, &parts)?,
        )?;
        let readiness = Arc::<Readiness>::default();
        let reloader = Reloader::new(settings.clone(), texts, shared.clone(), trail.clone());
        reloader.record_start();
        let sources = metrics::MetricSources {
            cached: cached.clone(),
            announcer: announcer.clone(),
            upstreams: parts.upstreams.clone(),
            limiter: parts.limiter.clone(),
            renewal: renewal.clone(),
            running: &running,
            reloader: &reloader,
            readiness: &readiness,
            clock: &clock,
            panics,
            budget,
            trail: trail.as_ref(),
        };
        metrics::register(telemetry.metrics(), &sources);
        let (stop, stopped) = watch::channel(());
        let explainer = start_explainer(&parts, &settings, running.addresses())?;
        let probes = bind_probes(settings.admin.probes).await?;
        let operations = Arc::new(Operations {
            store,
            peppers: settings.peppers.clone(),
            snapshot: shared,
            clock,
            telemetry: telemetry.clone(),
            readiness: readiness.clone(),
            shortage: budget.shortage(),
            reload: reloader.hook(),
            listeners: bound(&settings, running.addresses()),
            gateway: announcer.identity().clone(),
            probes: probes.as_ref().and_then(|listener| listener.local_addr().ok()),
            explainer: Some(explainer),
            trail: trail.clone().map(|trail| trail as Arc<dyn ActionRecorder>),
        });
        let admin = serve_operators(&operations, admin_socket, probes, &stopped);
        let mut chores = start_chores(&operations, &reloader, &cached, &announcer, &settings.store);
        chores.push(tokio::spawn(renewal.run(wanted)));
        if let Some(trail) = &trail {
            let exchange = exchange_checkpoints(trail.clone(), operations.store.clone(), announcer.identity().clone());
            chores.push(tokio::spawn(exchange));
        }
        readiness.configured();
        Ok(Self {
            operations,
            reloader,
            running,
            telemetry,
            stop,
            admin,
            chores,
            cached,
            announcer,
            store: name_of(&settings.store.kind),
            workers: settings.workers,
            trail,
            _socket: socket_name,
        })
    }

    /// Logs what serves, so that somebody who reads the log later knows which gateway wrote it and what it served.
    pub(crate) fn tell(&self) {
        let operations = &self.operations;
        let snapshot = operations.snapshot.load();
        let listeners: Vec<String> = operations.listeners.iter().map(|l| format!("{}={}", l.name, l.address)).collect();
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            gateway = operations.gateway.id.as_str(),
            listeners = listeners.join(" "),
            probes = operations.probes.map(|address| address.to_string()),
            store = self.store,
            workers = self.workers,
            surfaces = snapshot.surfaces.len(),
            upstreams = snapshot.upstreams.len(),
            routes = snapshot.routes.len(),
            "durward serves"
        );
    }

    /// Reads the configuration again; the outcome is logged and counted.
    ///
    /// # Errors
    /// Why the old configuration stays in force.
    pub(crate) async fn reload(&self, who: Actor) -> Result<(), String> {
        self.reloader.reload(who).await
    }

    /// Stops in this order: readiness ends, load balancers get time to notice, no more connections are accepted, requests in
    /// flight end or reach the deadline, then the operator side and the logs stop.
    pub(crate) async fn stop(self) {
        self.operations.readiness.draining();
        tracing::info!("draining");
        let report = self.running.drain().await;
        tracing::info!(aborted = report.aborted, "drained");
        self.announcer.withdraw().await;
        for chore in &self.chores {
            chore.abort();
        }
        // The gateway that takes the place of this one reads ahead what this one had in use.
        let _ = tokio::time::timeout(TELLING_TIME, self.cached.report_in_use()).await;
        activity::flush_all(self.cached.activity(), &*self.operations.store, &SystemClock).await;
        drop(self.stop);
        self.admin.join_all().await;
        let (telemetry, trail) = (self.telemetry, self.trail);
        // Waiting for the thread of the log blocks, so it gets a thread for blocking work.
        let _ = tokio::task::spawn_blocking(move || {
            if let Some(trail) = trail {
                trail.stop(TRAIL_TIME);
            }
            telemetry.flush(FLUSH_TIME);
        })
        .await;
    }
}

/// The store, the cache in front of it, and what else is shared by all workers.
struct StoreParts {
    store: Arc<dyn CredentialStore>,
    cached: Arc<CachedStore>,
    announcer: Arc<Announcer>,
    limiter: Arc<Limiter>,
}

fn open_trail(settings: &Settings, announcer: &Announcer, clock: &Arc<dyn Clock>) -> Result<Option<Arc<Trail>>, ServeError> {
    let audit = settings.audit.clone();
    let opened = audit.map(|audit| Trail::open(audit, &announcer.identity().id, clock.clone()));
    Ok(opened.transpose()?)
}

fn start_explainer(parts: &WorkerParts, settings: &Settings, addresses: &[SocketAddr]) -> std::io::Result<Explainer> {
    let parts = WorkerParts {
        seed: random_seed()?,
        // What is only explained is no request.
        trail: None,
        ..parts.clone()
    };
    Explainer::start(parts, explain_listeners(settings, addresses))
}

async fn open_parts(settings: &Settings, clock: &Arc<dyn Clock>) -> Result<StoreParts, ServeError> {
    let identity = identity(settings)?;
    let OpenedStore { store, shared_counts } = open_store(settings, &identity, clock.clone()).await?;
    let cached = CachedStore::new(store.clone(), &cache_settings(&settings.store), clock.clone(), Handle::current());
    // The announcer comes after the cache, since it announces only what the cache has applied.
    let announcer = Announcer::new(&cached, store.clone(), identity, clock.clone());
    announcer.introduce().await;
    Ok(StoreParts {
        store,
        cached,
        announcer,
        limiter: Arc::new(Limiter::new(shared_counts, clock.clone())),
    })
}

/// The engine of routes that durward serves itself.
fn make_engine(
    settings: &Settings,
    store: &Arc<dyn CredentialStore>,
    clock: &Arc<dyn Clock>,
    trail: Option<&Arc<Trail>>,
) -> std::io::Result<Arc<Engine>> {
    let limits = EngineLimits {
        log_in: &settings.log_in,
        sign_up: settings.sign_up,
        records: RecordLimits {
            children: settings.limits.children,
            credentials: settings.limits.credentials,
        },
    };
    let trail = trail.map(|trail| -> std::io::Result<TrailAccess> {
        Ok(TrailAccess {
            reader: TrailReader::new(&trail.settings().directory)?,
            trail: trail.clone(),
        })
    });
    let trail = trail.transpose()?;
    let (peppers, control) = (settings.peppers.clone(), Handle::current());
    Ok(Engine::new(store.clone(), peppers, clock.clone(), control, &limits, trail))
}

/// Raises the limit on descriptors and divides them. Logs what there are too few for.
fn divide_descriptors(loaded: &Loaded) -> Result<DescriptorBudget, ServeError> {
    let budget = DescriptorBudget::divide(descriptors::raise(), &DescriptorDemand::by(loaded))?;
    if let Some(shortage) = budget.shortage() {
        tracing::warn!(
            alarm = "few_descriptors",
            limit = budget.limit,
            connections = budget.connections,
            "{shortage}"
        );
    }
    Ok(budget)
}

fn server_setup(settings: &Settings, shared: &Arc<SharedSnapshot>, clock: &Arc<dyn Clock>, budget: &DescriptorBudget) -> ServerSetup {
    ServerSetup {
        listeners: settings.listeners.clone(),
        limits: Limits {
            connections: budget.connections,
            ..settings.limits
        },
        certificates: shared.clone(),
        ticket_keys: Some(TicketKeySource {
            peppers: settings.peppers.clone(),
            clock: clock.clone(),
        }),
    }
}

/// What makes each worker's service, on the worker's own thread.
type Factory = Box<dyn FnOnce() -> std::rc::Rc<Worker> + Send>;

fn worker_factories(workers: usize, parts: &WorkerParts) -> std::io::Result<Vec<Factory>> {
    (0..workers)
        .map(|_| {
            let mut parts = parts.clone();
            parts.seed = random_seed()?;
            Ok(Box::new(move || {
                WorkerWakes::start();
                Worker::new(parts)
            }) as Factory)
        })
        .collect()
}

/// How many requests in flight a worker may have, and how many of these one caller may have.
fn in_flight_quota(settings: &Settings) -> (usize, QuotaShares) {
    let limits = &settings.limits;
    let shares = QuotaShares {
        address: limits.address_share,
        credential: limits.credential_share,
    };
    (limits.requests.div_ceil(settings.workers.max(1)), shares)
}

fn random_seed() -> std::io::Result<[u64; 2]> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| std::io::Error::other("no randomness"))?;
    let all = u128::from_le_bytes(bytes);
    let half = |shift: u32| u64::try_from((all >> shift) & u128::from(u64::MAX)).unwrap_or(0);
    Ok([half(0), half(64)])
}

const fn line_format(log: LogSettings) -> LineFormat {
    match (log.access, log.format) {
        (AccessLog::Off, _) => LineFormat::Off,
        (AccessLog::On, LogFormat::Json) => LineFormat::Json,
        (AccessLog::On, LogFormat::Pretty) => LineFormat::Pretty,
    }
}

fn access_output(log: LogSettings, lines: AccessLines) -> std::io::Result<Option<Output>> {
    match log.access {
        AccessLog::Off => Ok(None),
        AccessLog::On => match lines {
            AccessLines::Stdout => Output::start("durward-access", std::io::stdout()).map(Some),
            AccessLines::Stderr => Output::start("durward-access", std::io::stderr()).map(Some),
        },
    }
}

/// Serves the operator side: the socket for all operations, TCP for probes only.
fn serve_operators(
    operations: &Arc<Operations>,
    socket: tokio::net::UnixListener,
    probes: Option<tokio::net::TcpListener>,
    stopped: &watch::Receiver<()>,
) -> JoinSet<()> {
    let mut admin = JoinSet::new();
    let api = Arc::new(OperatorApi(operations.clone()));
    admin.spawn(serve_admin(Listener::Unix(socket), Bounds::OPERATOR, api, stopped.clone()));
    if let Some(listener) = probes {
        let probes = Arc::new(Probes(operations.clone()));
        admin.spawn(serve_admin(Listener::Tcp(listener), Bounds::OPERATOR, probes, stopped.clone()));
    }
    admin
}

async fn bind_probes(address: Option<SocketAddr>) -> Result<Option<tokio::net::TcpListener>, ServeError> {
    match address {
        None => Ok(None),
        Some(address) => tokio::net::TcpListener::bind(address)
            .await
            .map(Some)
            .map_err(|error| ServeError::Probes(address, error)),
    }
}

fn explain_listeners(settings: &Settings, addresses: &[SocketAddr]) -> Vec<ExplainListener> {
    let listeners = settings.listeners.iter().zip(addresses);
    listeners
        .map(|(listener, address)| ExplainListener {
            port: address.port(),
            scheme: match listener.transport {
                ListenerTransport::Tls => UriScheme::Https,
                ListenerTransport::Plain => UriScheme::Http,
            },
        })
        .collect()
}

fn bound(settings: &Settings, addresses: &[SocketAddr]) -> Vec<ListenerView> {
    settings
        .listeners
        .iter()
        .zip(addresses)
        .map(|(listener, address)| ListenerView {
            name: listener.name.clone(),
            address: address.to_string(),
        })
        .collect()
}
