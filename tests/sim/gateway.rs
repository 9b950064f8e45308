//! One gateway of the simulation: the real store client, cache, resolver and decision, on a runtime
//! and clocks of its own that the simulation moves.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use durward::admin::OperationError;
use durward::admin::receipts::{ChangeSubject, Confirmation};
use durward::base::clock::{BootMillis, Clock, Now, UnixMillis};
use durward::base::denial::Denial;
use durward::base::fingerprint::Fingerprint;
use durward::base::ids::CredentialId;
use durward::store::redis::{RedisEnvironment, WaitReplicas};
use durward::store::{FactStore, MarkRoom, RecordStore};
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::time::Instant;

use crate::cast::{ACCOUNTS, Cast, EPOCH, KNOWN, TENANTS, role, tenant_id};
use crate::parts::{Made, Parts, decide, make, open};
use crate::pipe::{SimulatedNetwork, Wires};
use crate::served::{Ask, Desk, Told as ServedFor};

/// What the boot clock shows when a simulation begins.
const BOOTED: u64 = 1_000_000;

/// How gateways find the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guide {
    /// By one name that leads to it.
    One,
    Sentinels,
}

/// Settings that a seed chooses.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) max_age: Duration,
    pub(crate) absent_age: Duration,
    pub(crate) wait_replicas: WaitReplicas,
    pub(crate) guide: Guide,
    /// What this gateway is called.
    pub(crate) id: String,
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
pub(crate) enum Report {
    Answered(Answer),
    /// Everybody of the cast is there.
    Prepared,
    /// A served call is over: its body was there at `there`.
    Served {
        number: u64,
        there: u64,
        at: u64,
        outcome: Result<ServedFor, Denial>,
    },
    /// An operator has waited for the receipts of a change, which was acknowledged at `at` if it was.
    Confirmed {
        change: Change,
        number: u64,
        at: u64,
        answered: u64,
        outcome: Result<Confirmation<Made>, OperationError>,
    },
    /// A mark was asked for: whether this gateway was the first who took it; nothing if nobody knows.
    Marked {
        mark: u8,
        first: Option<bool>,
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
pub(crate) struct SimulatedClock(Mutex<Origin>);

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
    reports: Rc<RefCell<Vec<Report>>>,
    cast: Rc<Cast>,
    /// True time up to which it ran.
    local: u64,
    suspended: Option<Suspension>,
}

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
            RedisEnvironment::simulated(Arc::new(SimulatedNetwork(Arc::clone(wires))), settings.seed),
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
            reports: Rc::default(),
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
        let (cast, reports, clock) = (Rc::clone(&self.cast), Rc::clone(&self.reports), Arc::clone(&self.clock));
        self.runtime.spawn_local(async move {
            let desk = Desk {
                cast: &cast,
                resolver: &parts.resolver,
                engine: &parts.engine,
                clock: clock.as_ref(),
            };
            let served = desk.serve(&ask, || clock.truth()).await;
            reports.borrow_mut().push(Report::Served {
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
        let (cast, reports, clock) = (Rc::clone(&self.cast), Rc::clone(&self.reports), Arc::clone(&self.clock));
        self.runtime.spawn_local(async move {
            let (started, applied) = (clock.truth(), parts.store.status().applied.0);
            let outcome = decide(&parts.resolver, &cast, &clock, &text).await;
            reports.borrow_mut().push(Report::Answered(Answer {
                key,
                started,
                decided: clock.truth(),
                applied,
                outcome,
            }));
        });
    }

    /// An operator's change at this gateway, of this credential if it is of one, which may wait for receipts;
    /// `false` while it is starting.
    pub(crate) fn operate(&self, change: Change, id: Option<CredentialId>, number: u64, wait: Option<Duration>) -> bool {
        let Some(parts) = self.parts.borrow().clone() else { return false };
        let (reports, clock) = (Rc::clone(&self.reports), Arc::clone(&self.clock));
        self.runtime.spawn_local(async move {
            let at = Cell::new(0);
            let making = async {
                let outcome = make(parts.store.as_ref(), change, id.clone(), clock.now().wall).await;
                at.set(clock.truth());
                reports.borrow_mut().push(Report::Changed {
                    change,
                    number,
                    at: clock.truth(),
                    outcome: outcome.as_ref().copied().map_err(ToString::to_string),
                });
                outcome.map(|()| Made).map_err(OperationError::from)
            };
            let (Some(wait), Some(id)) = (wait, &id) else {
                return drop(making.await);
            };
            let about = ChangeSubject::Credential(id.clone());
            let outcome = parts.operations.confirm(&about, wait, making).await;
            reports.borrow_mut().push(Report::Confirmed {
                change,
                number,
                at: at.get(),
                answered: clock.truth(),
                outcome,
            });
        });
        true
    }

    /// Takes the mark of this number at this gateway, now; nothing while it is starting.
    pub(crate) fn take_mark(&self, mark: u8) {
        let Some(parts) = self.parts.borrow().clone() else { return };
        let (reports, clock) = (Rc::clone(&self.reports), Arc::clone(&self.clock));
        self.runtime.spawn_local(async move {
            let until = clock.now().wall.plus(Duration::from_secs(600));
            let taken = parts
                .store
                .take_once(Fingerprint::from_bytes([mark; 32]), until, MarkRoom::Unproven)
                .await;
            reports.borrow_mut().push(Report::Marked { mark, first: taken.ok() });
        });
    }

    /// Makes everybody of the cast.
    pub(crate) fn prepare(&self) {
        let parts = self.parts.borrow().clone().expect("it is open");
        let (cast, reports) = (Rc::clone(&self.cast), Rc::clone(&self.reports));
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
            // Worlds begin with a list of gateways that nobody has left.
            parts.announcer.withdraw().await;
            reports.borrow_mut().push(Report::Prepared);
        });
    }

    pub(crate) fn take_reports(&self) -> Vec<Report> {
        std::mem::take(&mut self.reports.borrow_mut())
    }

    pub(crate) fn is_open(&self) -> bool {
        self.parts.borrow().is_some()
    }
}
