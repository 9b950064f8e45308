//! One gateway of the simulation: the real store client, cache, resolver and decision, on a runtime
//! and clocks of its own that the simulation moves.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use durward::base::clock::{BootMillis, Clock, Now, UnixMillis};
use durward::base::credential::Credential;
use durward::base::denial::Denial;
use durward::base::fingerprint::PepperChecks;
use durward::base::ids::CredentialId;
use durward::base::scope::ScopeSet;
use durward::decide::authorize::{AccessRequest, Carried, authorize};
use durward::decide::extract::Extracted;
use durward::decide::method::Method;
use durward::issue::engine::{Engine, EngineLimits};
use durward::resolver::Resolver;
use durward::snapshot::LogInSettings;
use durward::store::cached::{CacheSettings, CachedStore};
use durward::store::redis::{RedisSettings, RedisStore, RedisUrl, Surroundings};
use durward::store::{ChangeError, CredentialChange, CredentialStore, NewRecords, RecordLimits, RoleChange, TenantState};
use secrecy::SecretString;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::time::Instant;

use crate::cast::{
    ACCOUNTS, Cast, EPOCH, KEY_SURFACE, KNOWN, PEPPER_CHECK, TENANTS, account_id, password, role, role_id, scope, tenant_id,
};
use crate::pipe::{SimulatedNetwork, Wires};
use crate::served::{Ask, Desk, Told as Made};

/// What the boot clock shows when a simulation begins.
const BOOTED: u64 = 1_000_000;

/// Places in tables that have 65,536 in earnest: fewer are made faster, and meet more often.
const PLACES: usize = 256;

/// Settings that a seed chooses.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) max_age: Duration,
    pub(crate) absent_age: Duration,
    pub(crate) wait_replicas: u32,
    pub(crate) seed: u64,
}

/// What an operator does. Keys, those of the cast and those that were made since, go by their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Revoke(usize),
    Disable(usize),
    Enable(usize),
    DisableAccount(usize),
    EnableAccount(usize),
    /// Ends the sessions of an account.
    EndSessions(usize),
    /// Gives an account the password of this number, and ends its sessions.
    SetPassword(usize, u64),
    SuspendTenant(usize),
    ResumeTenant(usize),
    NarrowRole,
    WidenRole,
}

/// What a gateway tells the simulation.
#[derive(Debug)]
pub(crate) enum Told {
    Answered(Answer),
    /// Everybody of the cast is there.
    Prepared,
    /// A served call is over: its body was there at `there`.
    Served {
        number: u64,
        there: u64,
        at: u64,
        outcome: Result<Made, Denial>,
    },
    /// An operator's change is over.
    Changed {
        change: Change,
        number: u64,
        at: u64,
        outcome: Result<(), String>,
    },
}

/// What became of a request.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) key: usize,
    /// When the request's head was read, in true time ...
    pub(crate) started: u64,
    /// ... and when it was decided.
    pub(crate) decided: u64,
    /// The newest event this gateway had applied when the head was read: history's generation and
    /// counter as one number.
    pub(crate) applied: u64,
    /// Id and tenant of whoever was admitted.
    pub(crate) outcome: Result<(String, String), Denial>,
}

/// True time of a gateway, and its wall clock, which may be wrong.
struct SimulatedClock(Mutex<Origin>);

#[derive(Clone, Copy)]
struct Origin {
    instant: Instant,
    truth: u64,
    wall: i64,
}

impl SimulatedClock {
    fn truth(&self) -> u64 {
        let origin = *self.0.lock().unwrap();
        let passed = Instant::now().saturating_duration_since(origin.instant);
        origin.truth + u64::try_from(passed.as_millis()).unwrap()
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Now {
        let truth = self.truth();
        let wall = self.0.lock().unwrap().wall;
        Now {
            wall: UnixMillis(EPOCH.0 + i64::try_from(truth).unwrap() + wall),
            boot: BootMillis(BOOTED + truth),
        }
    }
}

/// What stands still when a gateway does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Suspension {
    /// A stopped process: its timers are late when it goes on.
    Process,
    /// A stopped machine: the clock of its timers stood still too.
    Machine,
}

pub(crate) struct Gateway {
    runtime: LocalRuntime,
    clock: Arc<SimulatedClock>,
    parts: Rc<RefCell<Option<Rc<Parts>>>>,
    told: Rc<RefCell<Vec<Told>>>,
    cast: Rc<Cast>,
    /// True time up to which it ran.
    local: u64,
    suspended: Option<Suspension>,
}

/// What a gateway is made of, once its store is open.
struct Parts {
    store: Arc<RedisStore>,
    resolver: Resolver,
    engine: Arc<Engine>,
}

/// More than any seed makes.
const LIMITS: RecordLimits = RecordLimits {
    children: 1_000,
    credentials: 1_000,
};

impl Gateway {
    pub(crate) fn start(cast: &Rc<Cast>, wires: &Arc<Wires>, settings: &Settings, now: u64) -> Self {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build_local(LocalOptions::default())
            .unwrap();
        let origin = Origin {
            instant: runtime.block_on(async { Instant::now() }),
            truth: now,
            wall: 0,
        };
        let clock = Arc::new(SimulatedClock(Mutex::new(origin)));
        let parts = Rc::new(RefCell::new(None));
        let opening = open(
            Rc::clone(cast),
            Surroundings::simulated(Arc::new(SimulatedNetwork(Arc::clone(wires))), settings.seed),
            settings.clone(),
            Arc::clone(&clock),
        );
        let place = Rc::clone(&parts);
        runtime.spawn_local(async move {
            let opened = opening.await;
            *place.borrow_mut() = Some(Rc::new(opened));
        });
        Self {
            runtime,
            clock,
            parts,
            told: Rc::default(),
            cast: Rc::clone(cast),
            local: now,
            suspended: None,
        }
    }

    /// Lets it live until `now`; a suspended one does not.
    pub(crate) fn run_until(&mut self, now: u64) {
        if self.suspended.is_some() || now <= self.local {
            return;
        }
        let span = Duration::from_millis(now - self.local);
        self.runtime.block_on(async move { tokio::time::sleep(span).await });
        self.local = now;
    }

    pub(crate) fn suspend(&mut self, how: Suspension) {
        self.suspended.get_or_insert(how);
    }

    pub(crate) fn is_suspended(&self) -> bool {
        self.suspended.is_some()
    }

    /// Goes on; everything that came due is late at once.
    pub(crate) fn resume(&mut self, now: u64) {
        let missed = now.saturating_sub(self.local);
        match self.suspended.take() {
            None => return,
            Some(Suspension::Process) => self
                .runtime
                .block_on(async move { tokio::time::advance(Duration::from_millis(missed)).await }),
            Some(Suspension::Machine) => self.clock.0.lock().unwrap().truth += missed,
        }
        self.local = now;
    }

    /// Steps the wall clock.
    pub(crate) fn step_wall(&self, by: i64) {
        self.clock.0.lock().unwrap().wall = by;
    }

    /// A call of a served route, now. `false` while it is starting.
    pub(crate) fn serve(&self, ask: Ask) -> bool {
        let Some(parts) = self.parts.borrow().clone() else { return false };
        let (cast, told, clock) = (Rc::clone(&self.cast), Rc::clone(&self.told), Arc::clone(&self.clock));
        self.runtime.spawn_local(async move {
            let desk = Desk {
                cast: &cast,
                resolver: &parts.resolver,
                engine: &parts.engine,
                clock: clock.as_ref(),
            };
            let served = desk.serve(&ask, || clock.truth()).await;
            told.borrow_mut().push(Told::Served {
                number: ask.number,
                there: served.there,
                at: clock.truth(),
                outcome: served.outcome,
            });
        });
        true
    }

    /// A request with this key, whose text is `text`, now. Nothing while it is starting.
    pub(crate) fn request(&self, key: usize, text: Rc<str>) {
        let Some(parts) = self.parts.borrow().clone() else { return };
        let (cast, told, clock) = (Rc::clone(&self.cast), Rc::clone(&self.told), Arc::clone(&self.clock));
        self.runtime.spawn_local(async move {
            let (started, applied) = (clock.truth(), parts.store.status().applied.0);
            let outcome = decide(&parts.resolver, &cast, &clock, &text).await;
            told.borrow_mut().push(Told::Answered(Answer {
                key,
                started,
                decided: clock.truth(),
                applied,
                outcome,
            }));
        });
    }

    /// An operator's change at this gateway, of this credential if it is of one; `false` while it is starting.
    pub(crate) fn operate(&self, change: Change, id: Option<CredentialId>, number: u64) -> bool {
        let Some(parts) = self.parts.borrow().clone() else { return false };
        let (told, clock) = (Rc::clone(&self.told), Arc::clone(&self.clock));
        self.runtime.spawn_local(async move {
            let outcome = make(parts.store.as_ref(), change, id, clock.now().wall).await;
            told.borrow_mut().push(Told::Changed {
                change,
                number,
                at: clock.truth(),
                outcome: outcome.map_err(|error| error.to_string()),
            });
        });
        true
    }

    /// Makes everybody of the cast.
    pub(crate) fn prepare(&self) {
        let parts = self.parts.borrow().clone().expect("it is open");
        let (cast, told) = (Rc::clone(&self.cast), Rc::clone(&self.told));
        self.runtime.spawn_local(async move {
            for tenant in 0..TENANTS.len() {
                parts.store.create_tenant(tenant_id(tenant), EPOCH).await.unwrap();
            }
            parts.store.create_role(role()).await.unwrap();
            for key in 0..KNOWN {
                parts.store.create_credential(cast.record(key)).await.unwrap();
            }
            for account in 0..ACCOUNTS.len() {
                parts.store.create_credential(cast.account(account)).await.unwrap();
            }
            told.borrow_mut().push(Told::Prepared);
        });
    }

    pub(crate) fn take_told(&self) -> Vec<Told> {
        std::mem::take(&mut self.told.borrow_mut())
    }

    pub(crate) fn is_open(&self) -> bool {
        self.parts.borrow().is_some()
    }
}

async fn open(cast: Rc<Cast>, around: Surroundings, settings: Settings, clock: Arc<SimulatedClock>) -> Parts {
    let control = tokio::runtime::Handle::current();
    let defaults = CacheSettings::default();
    let redis = RedisSettings {
        access: RedisUrl::parse(&SecretString::from("redis://store:6379"))
            .unwrap()
            .into_access(None),
        key_prefix: "durward".into(),
        wait_replicas: settings.wait_replicas.into(),
        lookup_timeout: defaults.lookup_timeout,
        max_age: settings.max_age,
        peppers: PepperChecks::one(PEPPER_CHECK),
        registered: None,
    };
    let store = RedisStore::open_in(around, redis, clock.clone(), control.clone()).await;
    let store = Arc::new(store.expect("the store is ours"));
    let cache = CacheSettings {
        max_age: settings.max_age,
        absent_age: settings.absent_age,
        event_slots: PLACES,
        ..defaults
    };
    let cached = CachedStore::new(store.clone(), &cache, clock.clone(), control.clone());
    let log_in = LogInSettings::default();
    let limits = EngineLimits {
        log_in: &log_in,
        sign_up: log_in.hashes,
        records: LIMITS,
    };
    let engine = Engine::new(store.clone(), cast.peppers.clone(), clock.clone(), control, &limits);
    Parts {
        engine,
        resolver: Resolver::with_table(cached, cast.peppers.clone(), clock, PLACES),
        store,
    }
}

/// What the request path does between a credential and a permit.
async fn decide(resolver: &Resolver, cast: &Cast, clock: &SimulatedClock, text: &str) -> Result<(String, String), Denial> {
    let surface = &cast.surfaces[0];
    let extracted = Extracted {
        surface: KEY_SURFACE,
        credential: Credential::Key(text.as_bytes()),
        mode: None,
    };
    let resolved = resolver.prove(surface, &extracted, clock.now()).await?;
    let request = AccessRequest {
        route: &cast.route,
        surface_index: KEY_SURFACE,
        surface,
        method: Method::Get,
        presented_mode: None,
        carried: Carried::Explicitly,
        proof: resolved.proof,
        authority: &cast.snapshot.authority,
    };
    let permit = authorize(&request, resolved.principal, resolved.now.wall)?;
    let credential = &permit.principal().ok_or(Denial::Internal)?.facts.credential;
    Ok((credential.id.as_str().to_owned(), credential.tenant.as_str().to_owned()))
}

async fn make(store: &RedisStore, change: Change, id: Option<CredentialId>, now: UnixMillis) -> Result<(), ChangeError> {
    let credential = |change| {
        let id = id.clone().expect("a change of a credential");
        async move { store.change_credential(id, change, now).await.map(drop) }
    };
    match change {
        Change::Revoke(_) => credential(CredentialChange::Revoke).await,
        Change::Disable(_) | Change::DisableAccount(_) => credential(CredentialChange::Disable).await,
        Change::Enable(_) | Change::EnableAccount(_) => credential(CredentialChange::Enable).await,
        Change::EndSessions(_) => credential(CredentialChange::EndIssued).await,
        Change::SetPassword(account, number) => {
            let changes = [CredentialChange::SetPassword(password(number)), CredentialChange::EndIssued];
            let new = NewRecords {
                changes: changes.map(|change| (account_id(account), change)).into(),
                ..NewRecords::default()
            };
            store.create(new, now).await.map(drop)
        }
        Change::SuspendTenant(tenant) => store.set_tenant_active(tenant_id(tenant), TenantState::Inactive).await.map(drop),
        Change::ResumeTenant(tenant) => store.set_tenant_active(tenant_id(tenant), TenantState::Active).await.map(drop),
        Change::NarrowRole => store
            .change_role(role_id(), RoleChange::SetScopes(ScopeSet::default()))
            .await
            .map(drop),
        Change::WidenRole => store.change_role(role_id(), RoleChange::SetScopes(scope())).await.map(drop),
    }
}
