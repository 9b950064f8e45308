//! Holds the write-behind to its promise: few writes, none lost, none that lengthens a life.

use std::sync::atomic::AtomicBool;

use super::*;
use crate::base::fingerprint::Fingerprint;
use crate::base::ids::{RoleId, TenantId};
use crate::base::principal::{Extras, Parent, RoleRecord, TenantRecord};
use crate::decide::{samples, validity};
use crate::store::{
    BoxFuture, ChangeError, CredentialChange, CredentialFilter, EventSink, FactStore, LookupReply, MarkRoom, NewRecords, ReceiptStore,
    RoleChange, TenantState,
};

/// Remembers uses as a store does, and nothing else.
#[derive(Default)]
struct Uses {
    last: Mutex<HashMap<CredentialId, UnixMillis>>,
    writes: AtomicU64,
    down: AtomicBool,
}

impl FactStore for Uses {
    fn find(&self, _: Fingerprint) -> BoxFuture<'_, Result<LookupReply, StoreError>> {
        Box::pin(async { Err(gone()) })
    }

    fn subscribe(&self, _: Arc<dyn EventSink>) {}

    fn probe(&self, _: Duration) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { Err(gone()) })
    }
}

impl RecordStore for Uses {
    fn touch(&self, used: Vec<(CredentialId, UnixMillis)>) -> BoxFuture<'_, Result<(), StoreError>> {
        let down = self.down.load(Ordering::SeqCst);
        if !down {
            self.writes.fetch_add(used.len() as u64, Ordering::SeqCst);
            for (id, at) in used {
                let mut last = self.last.lock().unwrap();
                let held = last.entry(id).or_insert(at);
                *held = (*held).max(at);
            }
        }
        Box::pin(async move { if down { Err(gone()) } else { Ok(()) } })
    }

    fn time(&self) -> BoxFuture<'_, Result<UnixMillis, StoreError>> {
        Box::pin(async { Err(gone()) })
    }

    fn find_credential(&self, _: CredentialId) -> BoxFuture<'_, Result<Option<CredentialRecord>, StoreError>> {
        Box::pin(async { Err(gone()) })
    }

    fn list_credentials(&self, _: CredentialFilter) -> BoxFuture<'_, Result<Vec<CredentialRecord>, StoreError>> {
        Box::pin(async { Err(gone()) })
    }

    fn find_tenant(&self, _: TenantId) -> BoxFuture<'_, Result<Option<TenantRecord>, StoreError>> {
        Box::pin(async { Err(gone()) })
    }

    fn list_tenants(&self, _: Option<TenantId>, _: usize) -> BoxFuture<'_, Result<Vec<TenantRecord>, StoreError>> {
        Box::pin(async { Err(gone()) })
    }

    fn create(&self, _: NewRecords, _: UnixMillis) -> BoxFuture<'_, Result<Vec<CredentialRecord>, ChangeError>> {
        Box::pin(async { Err(gone().into()) })
    }

    fn change_credential(
        &self,
        _: CredentialId,
        _: CredentialChange,
        _: UnixMillis,
    ) -> BoxFuture<'_, Result<CredentialRecord, ChangeError>> {
        Box::pin(async { Err(gone().into()) })
    }

    fn set_tenant_active(&self, _: TenantId, _: TenantState) -> BoxFuture<'_, Result<TenantRecord, ChangeError>> {
        Box::pin(async { Err(gone().into()) })
    }

    fn take_once(&self, _: Fingerprint, _: UnixMillis, _: MarkRoom) -> BoxFuture<'_, Result<bool, ChangeError>> {
        Box::pin(async { Err(gone().into()) })
    }

    fn create_role(&self, _: RoleRecord) -> BoxFuture<'_, Result<RoleRecord, ChangeError>> {
        Box::pin(async { Err(gone().into()) })
    }

    fn change_role(&self, _: RoleId, _: RoleChange) -> BoxFuture<'_, Result<RoleRecord, ChangeError>> {
        Box::pin(async { Err(gone().into()) })
    }

    fn delete_role(&self, _: RoleId) -> BoxFuture<'_, Result<(), ChangeError>> {
        Box::pin(async { Err(gone().into()) })
    }

    fn find_role(&self, _: RoleId) -> BoxFuture<'_, Result<Option<RoleRecord>, StoreError>> {
        Box::pin(async { Err(gone()) })
    }

    fn list_roles(&self, _: TenantId) -> BoxFuture<'_, Result<Vec<RoleRecord>, StoreError>> {
        Box::pin(async { Err(gone()) })
    }
}

impl ReceiptStore for Uses {}

fn gone() -> StoreError {
    StoreError::Unavailable("the test says so".into())
}

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A gateway with a simulated clock, and one session as its store knows it.
struct World {
    activity: Activity,
    store: Uses,
    now: Now,
    session: Facts,
}

impl World {
    /// A session of 24 idle hours and 7 days.
    fn new() -> Self {
        let now = Now {
            wall: UnixMillis(1_800_000_000_000),
            boot: BootMillis(1_000),
        };
        let mut session = samples::facts("client", "s_1", "acme");
        session.credential.created_at = now.wall;
        session.credential.expires_at = Some(now.wall.plus(7 * DAY));
        session.credential.extras = Extras {
            idle: Some(IdleTimeout {
                timeout: DAY,
                last_used: now.wall,
            }),
            ..Extras::default()
        }
        .boxed();
        Self {
            activity: Activity::default(),
            store: Uses::default(),
            now,
            session,
        }
    }

    fn advance(&mut self, by: Duration) {
        self.now.wall = self.now.wall.plus(by);
        self.now.boot = self.now.boot.plus(by);
    }

    /// What a look-up in the store answers now.
    fn read(&self) -> Arc<Facts> {
        let mut facts = self.session.clone();
        let used = self.store.last.lock().unwrap().get(&facts.credential.id).copied();
        facts.credential = crate::store::change::with_last_use(facts.credential, used);
        Arc::new(facts)
    }

    /// One request; whether it was admitted.
    fn request(&self, facts: Arc<Facts>) -> bool {
        let facts = self.activity.lay_over(facts);
        let admitted = validity::check(&facts, self.now.wall).is_ok();
        if admitted {
            self.activity.note(&facts, self.now);
        }
        admitted
    }

    async fn tick(&self) {
        let _ = self.activity.flush(&self.store, self.now, Flush::Due).await;
    }

    fn writes(&self) -> u64 {
        self.store.writes.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn a_session_used_every_23_hours_lives_until_7_days_and_not_a_second_longer() {
    let mut world = World::new();
    let mut lived = Duration::ZERO;
    while lived + 23 * HOUR < 7 * DAY {
        world.advance(23 * HOUR);
        lived += 23 * HOUR;
        assert!(world.request(world.read()), "after {} h", lived.as_secs() / 3600);
        world.tick().await;
    }
    world.advance(7 * DAY - lived - Duration::from_millis(1));
    assert!(world.request(world.read()), "the last millisecond");
    world.tick().await;
    world.advance(Duration::from_millis(1));
    assert!(!world.request(world.read()), "seven days");
}

#[tokio::test]
async fn a_session_that_is_not_used_dies_at_24_hours() {
    let mut world = World::new();
    world.advance(DAY - Duration::from_millis(1));
    assert!(validity::check(&world.read(), world.now.wall).is_ok());
    world.advance(Duration::from_millis(1));
    assert!(!world.request(world.read()));
    assert_eq!(world.activity.figures().tracked, 0, "a refused request is no use");
}

#[tokio::test]
async fn ten_thousand_requests_in_a_minute_cost_at_most_two_writes() {
    let mut world = World::new();
    world.advance(HOUR);
    for _ in 0..10_000 {
        world.advance(Duration::from_millis(6));
        assert!(world.request(world.read()));
        world.tick().await;
    }
    assert!((1..=2).contains(&world.writes()), "{}", world.writes());
    // And none at all for one whose use the store has just been told by another gateway.
    let mut world = World::new();
    for _ in 0..100 {
        world.advance(Duration::from_millis(100));
        assert!(world.request(world.read()));
        world.tick().await;
    }
    assert_eq!(world.writes(), 0);
    world.advance(ACTIVITY_INTERVAL);
    world.tick().await;
    assert_eq!(world.writes(), 1, "it is written when the interval is over");
}

#[tokio::test]
async fn the_store_never_lags_a_busy_session_by_more_than_the_interval_and_a_tick() {
    let mut world = World::new();
    for _ in 0..600 {
        world.advance(ACTIVITY_TICK);
        assert!(world.request(world.read()));
        world.tick().await;
        let known = world.read().credential.idle().unwrap().last_used;
        assert!(world.now.wall.0 - known.0 <= 61_000, "{} ms", world.now.wall.0 - known.0);
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_use_after_a_pause_is_written_at_once_and_the_next_ones_with_their_interval() {
    let mut world = World::new();
    world.advance(23 * HOUR);
    let clock = crate::base::clock::ManualClock::new(world.now);
    let writer = write_behind(&world.activity, &world.store, &clock);
    let user = async {
        // Behind a look that found nothing: the next one is a second away.
        tokio::time::sleep(ACTIVITY_TICK).await;
        assert!(world.request(world.read()));
        tokio::time::sleep(AFTER_PAUSE * 2).await;
        assert_eq!(world.writes(), 1, "what was paused for a day is not lost with a crash now");
        assert!(world.request(world.read()));
        tokio::time::sleep(AFTER_PAUSE * 2).await;
        assert_eq!(world.writes(), 1, "in use again, it costs one write an interval");
    };
    tokio::select! {
        () = writer => {}
        () = user => {}
    }
}

#[tokio::test]
async fn a_failed_write_is_made_up_for_and_the_session_lives_on_here_meanwhile() {
    let mut world = World::new();
    world.store.down.store(true, Ordering::SeqCst);
    let old = world.read();
    for _ in 0..3 {
        world.advance(23 * HOUR);
        assert!(world.request(old.clone()), "this process knows the uses itself");
        world.tick().await;
    }
    assert_eq!((world.writes(), world.activity.figures().failed), (0, 3));
    world.store.down.store(false, Ordering::SeqCst);
    world.tick().await;
    assert_eq!(world.read().credential.idle().unwrap().last_used, world.now.wall);
}

#[tokio::test]
async fn a_drain_writes_what_is_not_due_yet() {
    let mut world = World::new();
    world.advance(Duration::from_secs(1));
    assert!(world.request(world.read()));
    world.tick().await;
    assert_eq!(world.writes(), 0);
    flush_all(&world.activity, &world.store, &crate::base::clock::ManualClock::new(world.now)).await;
    assert_eq!(world.read().credential.idle().unwrap().last_used, world.now.wall);
}

#[tokio::test]
async fn the_use_of_a_child_is_one_of_what_it_hangs_on() {
    let mut world = World::new();
    let parent = world.session.credential.clone();
    let mut child = samples::facts("portal", "p_1", "acme");
    child.credential.created_at = parent.created_at;
    child.credential.extras_mut().parent = Some(Parent {
        surface: parent.surface.clone(),
        id: parent.id.clone(),
    });
    child.ancestors.push(parent);
    world.advance(23 * HOUR);
    assert!(world.request(Arc::new(child)));
    world.tick().await;
    world.advance(23 * HOUR);
    assert!(world.request(world.read()));
}

#[test]
fn a_credential_that_does_not_slide_is_not_noted() {
    let world = World::new();
    let facts = Arc::new(samples::facts("api", "key_1", "acme"));
    world.activity.note(&facts, world.now);
    assert_eq!(world.activity.figures().tracked, 0);
    assert!(Arc::ptr_eq(&world.activity.lay_over(facts.clone()), &facts));
}

#[test]
fn the_table_is_bounded() {
    let world = World::new();
    let mut later = world.now;
    later.wall = later.wall.plus(HOUR);
    for i in 0..MAX_TRACKED * 2 {
        let mut facts = world.session.clone();
        facts.credential.id = CredentialId::parse(&format!("s_{i}")).unwrap();
        world.activity.note(&facts, later);
    }
    let figures = world.activity.figures();
    assert!(figures.tracked <= MAX_TRACKED as u64);
    assert_eq!(figures.tracked + figures.dropped, MAX_TRACKED as u64 * 2);
}

#[tokio::test]
async fn what_was_written_and_is_not_used_is_forgotten() {
    let mut world = World::new();
    world.advance(HOUR);
    assert!(world.request(world.read()));
    world.tick().await;
    assert_eq!(world.activity.figures().tracked, 1, "cached facts may not know the use yet");
    world.advance(ACTIVITY_INTERVAL + KEPT_AFTER_WRITE);
    world.tick().await;
    assert_eq!(world.activity.figures().tracked, 0);
}

#[test]
fn a_short_idle_limit_has_a_short_interval() {
    assert_eq!(interval_of(DAY), ACTIVITY_INTERVAL);
    assert_eq!(interval_of(Duration::from_secs(100)), Duration::from_secs(5));
}
