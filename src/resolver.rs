//! From a presented credential to proven facts.
//!
//! [`Resolver::recall`] answers from memory and never waits. If facts, a key of an issuer, or the newest uses of a session are
//! missing, it tells what is missing ([`Missing`]), and [`Resolver::resolve`] gets it: this is the one step of a request before
//! the decision that may wait for the store. Neither of them decides; that is [`crate::decide::authorize`].

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::base::clock::{BootMillis, Clock, Now};
use crate::base::credential::{Credential, Unproven};
use crate::base::denial::Denial;
use crate::base::fingerprint::{Fingerprint, Peppers};
use crate::base::ids::TenantId;
use crate::base::login::login_fingerprint;
use crate::base::principal::{Facts, Principal, TokenClaims};
use crate::decide::authorize::{Proof, Provenance, fingerprints, provenance};
use crate::decide::external::{ExternalRules, PublishedKeys, Unverified};
use crate::decide::extract::Extracted;
use crate::decide::surface::{Surface, Verified};
use crate::decide::validity;
use crate::jwks::KeyRenewal;
use crate::store::StoreError;
use crate::store::cached::{CacheEntry, CachedStore, LookupOrigin, Recalled};

mod verified_tokens;

use verified_tokens::VerifiedTokens;

/// Slots of a worker's own table: 2 MiB. With 10,000 keys in use, one in a hundred finds both of its slots taken by other keys at
/// times, which costs a look into the shared cache.
const TABLE_SLOTS: usize = 131_072;

/// Before a sliding credential counts as idle for too long, its facts are read again if they are at least this old. So a client
/// that repeats a dead session costs the store one look-up a second.
const IDLE_RECHECK: Duration = Duration::from_secs(1);

/// Resolves credentials for one worker. In front of the shared cache it keeps a small table of its own. The table refers to the same
/// entries under the same rules of age and position, and is read without touching memory that other workers write to.
pub struct Resolver {
    cached: Arc<CachedStore>,
    peppers: Peppers,
    clock: Arc<dyn Clock>,
    table: RefCell<Vec<Option<TableEntry>>>,
    tokens: RefCell<VerifiedTokens>,
    /// Fetches newer keys of issuers. Without it, only the keys that are known are used.
    renewal: Option<Arc<KeyRenewal>>,
    traces: LookupTraces,
}

/// What looking a credential up leaves behind.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LookupTraces {
    /// Counters, refreshes, remembered facts and noted uses, as for every request.
    Left,
    /// Nothing.
    None,
}

impl Resolver {
    /// An empty table over a shared cache.
    #[must_use]
    pub fn new(cached: Arc<CachedStore>, peppers: Peppers, clock: Arc<dyn Clock>) -> Self {
        Self::with_table(cached, peppers, clock, TABLE_SLOTS)
    }

    /// The same with at least so many slots in its own table, at most 2^24; a power of two, so that a slot is found by a mask.
    #[must_use]
    pub fn with_table(cached: Arc<CachedStore>, peppers: Peppers, clock: Arc<dyn Clock>, slots: usize) -> Self {
        let slots = slots.clamp(1, 1 << 24).next_power_of_two();
        Self {
            cached,
            peppers,
            clock,
            table: RefCell::new((0..slots).map(|_| None).collect()),
            tokens: RefCell::new(VerifiedTokens::new()),
            renewal: None,
            traces: LookupTraces::Left,
        }
    }

    /// A resolver for somebody who only wants to know: it counts, remembers and notes nothing, and fetches no keys of issuers.
    #[must_use]
    pub fn without_traces(cached: Arc<CachedStore>, peppers: Peppers, clock: Arc<dyn Clock>) -> Self {
        Self {
            traces: LookupTraces::None,
            ..Self::with_table(cached, peppers, clock, 1)
        }
    }

    /// The same with a source of newer keys of issuers.
    #[must_use]
    pub fn with_renewal(mut self, renewal: Arc<KeyRenewal>) -> Self {
        self.renewal = Some(renewal);
        self
    }

    /// Finds the facts of a credential in memory, what a token adds to them, and what presenting the credential has proved. No I/O
    /// and no wait.
    ///
    /// # Errors
    /// [`Denial::UnknownCredential`] only when the credential is certainly absent, [`Unproven::WRONG_MAC`] when no gateway
    /// made it; for a token the errors of [`TokenRules::verify_own`](crate::decide::token::TokenRules::verify_own).
    pub fn recall<'s>(&self, surface: &'s Surface, extracted: &Extracted<'_>, now: Now) -> Result<Recall<'s>, Unproven> {
        let verified = match self.traces {
            LookupTraces::Left => self.tokens.borrow_mut().verify(surface, extracted.credential, now)?,
            LookupTraces::None => surface.kind.verify(extracted.credential, now)?,
        };
        let token = match verified {
            Verified::NoToken => None,
            Verified::Token(token) => Some(token.claims),
            Verified::KeyWanted { rules, keys, otherwise } => return Ok(Recall::Incomplete(Missing::Key { rules, keys, otherwise })),
        };
        let mut found = None;
        for (tried, fingerprint) in fingerprints(surface, extracted.credential, token.as_deref(), &self.peppers).enumerate() {
            match self.find_cached(fingerprint, now) {
                CachedFacts::Present(facts) => {
                    found = Some(facts);
                    break;
                }
                CachedFacts::Absent => {}
                CachedFacts::Nothing => match self.provenance(surface, extracted) {
                    Provenance::Forged => {
                        // A forged key must take as long as a known one.
                        std::hint::black_box(surface.prove(extracted.credential, token.as_deref(), None, &self.peppers));
                        return Err(Unproven::WRONG_MAC);
                    }
                    provenance => {
                        return Ok(Recall::Incomplete(Missing::Facts {
                            token,
                            tried,
                            fingerprint,
                            provenance,
                        }));
                    }
                },
            }
        }
        if let Some(facts) = found.take_if(|facts| validity::is_idle(facts, now.wall)) {
            // The cached facts may lack uses that this gateway has noted or another one has written.
            return Ok(Recall::Incomplete(Missing::Uses { token, facts, now }));
        }
        Ok(Recall::Known(self.conclude(surface, extracted, found, token, now)?))
    }

    /// Gets what [`recall`](Self::recall) found missing, from the store or, if it is a key, from the issuer. Cancel-safe.
    ///
    /// # Errors
    /// As [`recall`](Self::recall); [`Denial::StoreUnavailable`] and [`Denial::CorruptRecord`] when the
    /// store does not answer.
    pub async fn resolve(
        &self,
        surface: &Surface,
        extracted: &Extracted<'_>,
        client: IpAddr,
        missing: Missing<'_>,
    ) -> Result<Resolved, Unproven> {
        let mut asker = LookupOrigin::Proven;
        let (token, tried, mut found) = match missing {
            Missing::Facts {
                token,
                tried,
                fingerprint,
                provenance,
            } => {
                if provenance != Provenance::Proven {
                    asker = LookupOrigin::Guess(client);
                }
                (token, tried + 1, self.load(fingerprint, asker).await?)
            }
            Missing::Key { rules, keys, otherwise } => (self.verify_with_newer_keys(rules, keys, extracted, otherwise).await?, 0, None),
            Missing::Uses { token, facts, now } => (token, 0, Some(self.with_newest_uses(facts, now).await?)),
        };
        let mut now = self.clock.now();
        for fingerprint in fingerprints(surface, extracted.credential, token.as_deref(), &self.peppers).skip(tried) {
            if found.is_some() {
                break;
            }
            found = match self.find_cached(fingerprint, now) {
                CachedFacts::Present(facts) => Some(facts),
                CachedFacts::Absent => None,
                CachedFacts::Nothing => self.load(fingerprint, asker).await?,
            };
            now = self.clock.now();
        }
        if let Some(facts) = found.take_if(|facts| validity::is_idle(facts, now.wall)) {
            found = Some(self.with_newest_uses(facts, now).await?);
            now = self.clock.now();
        }
        Ok(self.conclude(surface, extracted, found, token, now)?)
    }

    /// [`recall`](Self::recall) and, if something is missing, [`resolve`](Self::resolve): for callers that need not avoid a nested
    /// future. Cancel-safe.
    ///
    /// # Errors
    /// As [`recall`](Self::recall) and [`resolve`](Self::resolve).
    pub async fn prove(&self, surface: &Surface, extracted: &Extracted<'_>, client: IpAddr, now: Now) -> Result<Resolved, Unproven> {
        match self.recall(surface, extracted, now)? {
            Recall::Known(resolved) => Ok(resolved),
            Recall::Incomplete(missing) => self.resolve(surface, extracted, client, missing).await,
        }
    }

    async fn load(&self, fingerprint: Fingerprint, asker: LookupOrigin) -> Result<Option<Arc<Facts>>, Denial> {
        let loaded = match self.traces {
            LookupTraces::Left => self.cached.load(fingerprint, asker).await,
            LookupTraces::None => self.cached.read_unnoted(fingerprint, BootMillis::default()).await,
        };
        loaded.map_err(|error| denial_of(&error))
    }

    /// Whether a credential that is not in memory may be a guess or a forgery. A store may have been written under a pepper that this
    /// gateway does not have; then the MACs of its keys cannot be checked. While the store reports this, no key counts
    /// as forged, and the store is asked.
    fn provenance(&self, surface: &Surface, extracted: &Extracted<'_>) -> Provenance {
        match provenance(surface, extracted.credential, &self.peppers) {
            Provenance::Forged if self.cached.store().lacks_pepper() => Provenance::Unproven,
            provenance => provenance,
        }
    }

    /// Reads the facts of a credential that was admitted before from the store, even if they are in memory. Cancel-safe.
    ///
    /// # Errors
    /// [`Denial::StoreUnavailable`] and [`Denial::CorruptRecord`] when the store does not answer.
    pub async fn load_since(&self, fingerprint: Fingerprint, now: Now) -> Result<Option<Arc<Facts>>, Denial> {
        self.load_from(fingerprint, now.boot, LookupOrigin::Proven).await
    }

    async fn load_from(&self, fingerprint: Fingerprint, since: BootMillis, asker: LookupOrigin) -> Result<Option<Arc<Facts>>, Denial> {
        let loaded = match self.traces {
            LookupTraces::Left => self.cached.load_since(fingerprint, since, asker).await,
            LookupTraces::None => self.cached.read_unnoted(fingerprint, since).await,
        };
        loaded.map_err(|error| denial_of(&error))
    }

    /// Whether the store has a tenant of this id, active or not. An admitted caller can guess ids too, so the look-up
    /// counts as a guess of its address. Cancel-safe.
    ///
    /// # Errors
    /// [`Denial::StoreUnavailable`] and [`Denial::CorruptRecord`] when the store does not answer.
    pub async fn is_tenant(&self, id: &TenantId, client: IpAddr, now: Now) -> Result<bool, Denial> {
        let fingerprint = Fingerprint::of_tenant(id);
        match self.find_cached(fingerprint, now) {
            CachedFacts::Present(_) => Ok(true),
            CachedFacts::Absent => Ok(false),
            CachedFacts::Nothing => Ok(self.load(fingerprint, LookupOrigin::Guess(client)).await?.is_some()),
        }
    }

    fn conclude(
        &self,
        surface: &Surface,
        extracted: &Extracted<'_>,
        found: Option<Arc<Facts>>,
        token: Option<Arc<TokenClaims>>,
        now: Now,
    ) -> Result<Resolved, Denial> {
        // This is done without a record too: an unknown key must take as long as a known one.
        let record = found.as_deref().map(|facts| &facts.credential);
        let proof = surface.prove(extracted.credential, token.as_deref(), record, &self.peppers);
        if proof == Proof::NONE {
            // A forged key is recognised by its MAC. A wrong secret must not take less time, so the MAC is computed here too.
            std::hint::black_box(provenance(surface, extracted.credential, &self.peppers));
        }
        let facts = found.ok_or(Denial::UnknownCredential)?;
        Ok(Resolved {
            principal: Principal::new(facts, token),
            proof,
            now,
        })
    }

    /// The fingerprint by which an account of this log-in name is found.
    #[must_use]
    pub fn login_fingerprint(&self, surface: &Surface, login: &str) -> Fingerprint {
        login_fingerprint(self.peppers.first(), &surface.name, login)
    }

    /// Finds the facts of an account by a typed log-in name, as the store has them at `since` or later. Does not check the
    /// password. Cancel-safe.
    ///
    /// # Errors
    /// [`Denial::StoreUnavailable`] and [`Denial::CorruptRecord`] when the store does not answer.
    pub async fn resolve_login(
        &self,
        surface: &Surface,
        login: &str,
        client: IpAddr,
        since: BootMillis,
    ) -> Result<Option<Arc<Facts>>, Denial> {
        // Anybody can type a log-in name.
        let asker = LookupOrigin::Guess(client);
        for pepper in self.peppers.iter() {
            let fingerprint = login_fingerprint(pepper, &surface.name, login);
            let facts = self.load_from(fingerprint, since, asker).await?;
            if facts.is_some() {
                return Ok(facts);
            }
        }
        if self.peppers.older().next().is_none() {
            return Ok(None);
        }
        // The account may have moved to the first pepper after the first look-up and before the look-up under its old pepper.
        let first = self.login_fingerprint(surface, login);
        self.load_from(first, self.clock.now().boot, asker).await
    }

    /// Completes facts of a credential that seems idle for too long: with the uses that this gateway has noted, and with those
    /// that another gateway has written to the store since the facts were read. Asks the store only if its answer decides, and
    /// at most once a second for each credential.
    async fn with_newest_uses(&self, facts: Arc<Facts>, now: Now) -> Result<Arc<Facts>, Denial> {
        let facts = self.cached.activity().lay_over(facts);
        if !validity::is_idle(&facts, now.wall) || now.boot.since(facts.read_at()) < IDLE_RECHECK {
            return Ok(facts);
        }
        let newer = self.load_since(facts.credential.fingerprint, now).await?;
        let newer = newer.ok_or(Denial::UnknownCredential)?;
        Ok(self.cached.activity().lay_over(newer))
    }

    /// Verifies a token of another issuer whose key was unknown, after one fetch of newer keys.
    async fn verify_with_newer_keys(
        &self,
        rules: &ExternalRules,
        keys: &Arc<PublishedKeys>,
        extracted: &Extracted<'_>,
        otherwise: Unproven,
    ) -> Result<Option<Arc<TokenClaims>>, Unproven> {
        let renewed = match &self.renewal {
            Some(renewal) => renewal.refetch(keys).await,
            None => false,
        };
        let (true, Credential::Jwt { token, .. }) = (renewed, extracted.credential) else {
            return Err(otherwise);
        };
        match rules.verify(token, self.clock.now()) {
            Ok(claims) => Ok(Some(Arc::new(claims))),
            Err(Unverified::Denied(why) | Unverified::KeyWanted { otherwise: why, .. }) => Err(why),
        }
    }

    /// Notes that these facts admitted a request. A sliding credential lives on by its uses.
    pub fn note_use(&self, facts: &Facts, now: Now) {
        if self.traces == LookupTraces::Left {
            self.cached.activity().note(facts, now);
        }
    }

    /// The cache that all workers share, with the store behind it.
    #[must_use]
    pub const fn cached(&self) -> &Arc<CachedStore> {
        &self.cached
    }

    /// The facts of a fingerprint as memory has them: looks into the own table, then into the shared cache.
    #[must_use]
    pub fn find_cached(&self, key: Fingerprint, now: Now) -> CachedFacts {
        if self.traces == LookupTraces::None {
            return match self.cached.peek(&key, now) {
                Recalled::Present(entry) => CachedFacts::Present(entry.facts().clone()),
                Recalled::Absent => CachedFacts::Absent,
                Recalled::Nothing => CachedFacts::Nothing,
            };
        }
        if let Some(facts) = self.find_in_table(&key, now) {
            return CachedFacts::Present(facts);
        }
        match self.cached.recall(&key, now) {
            Recalled::Present(entry) => {
                let facts = entry.facts().clone();
                self.insert_in_table(&key, entry);
                CachedFacts::Present(facts)
            }
            Recalled::Absent => CachedFacts::Absent,
            Recalled::Nothing => CachedFacts::Nothing,
        }
    }

    fn find_in_table(&self, key: &Fingerprint, now: Now) -> Option<Arc<Facts>> {
        let table = self.table.borrow();
        let (first, second) = table_slots(key, table.len());
        let taken = [first, second].into_iter().filter_map(|slot| table.get(slot)?.as_ref());
        let mut own = taken.filter(|taken| taken.entry.is_of(key));
        own.find_map(|TableEntry { entry, facts }| {
            facts.fetch();
            self.cached.is_current(key, entry, now).then(|| facts.clone())
        })
    }

    fn insert_in_table(&self, key: &Fingerprint, entry: Arc<CacheEntry>) {
        let mut table = self.table.borrow_mut();
        let (first, second) = table_slots(key, table.len());
        let facts = entry.facts().clone();
        // The newest entry goes to the first slot; the entry that was there moves to the second slot.
        if let Some(before) = table.get_mut(first).and_then(|slot| slot.replace(TableEntry { entry, facts }))
            && !before.entry.is_of(key)
            && let Some(slot) = table.get_mut(second)
        {
            *slot = Some(before);
        }
    }
}

/// A taken slot of a worker's own table. The facts are those of the entry; they stand beside it so that the processor fetches both
/// at once.
struct TableEntry {
    entry: Arc<CacheEntry>,
    facts: Arc<Facts>,
}

/// What memory has of a fingerprint.
#[derive(Debug, Clone)]
pub enum CachedFacts {
    /// Facts that are young enough and that no event contradicts.
    Present(Arc<Facts>),
    /// Certainly absent a moment ago.
    Absent,
    /// Nothing usable: the store must be asked.
    Nothing,
}

/// The answer of [`Resolver::recall`].
pub enum Recall<'s> {
    Known(Resolved),
    /// Memory does not suffice; this is missing.
    Incomplete(Missing<'s>),
}

/// What is missing for an answer from memory.
pub enum Missing<'s> {
    /// Facts. The first `tried` fingerprints are certainly absent; `fingerprint` is the next one.
    Facts {
        /// The verified token, on token surfaces.
        token: Option<Arc<TokenClaims>>,
        tried: usize,
        fingerprint: Fingerprint,
        /// Whether the credential may be a guess.
        provenance: Provenance,
    },
    /// The key of another issuer.
    Key {
        /// How its tokens are verified.
        rules: &'s ExternalRules,
        keys: &'s Arc<PublishedKeys>,
        /// The denial if there are no newer keys.
        otherwise: Unproven,
    },
    /// The newest uses: by these facts the credential was not used for too long.
    Uses {
        /// The verified token, on token surfaces.
        token: Option<Arc<TokenClaims>>,
        facts: Arc<Facts>,
        now: Now,
    },
}

/// Proven facts, and what authorization needs besides.
pub struct Resolved {
    /// The caller, if the decision admits it.
    pub principal: Principal,
    /// What presenting the credential proved.
    pub proof: Proof,
    /// The time of the decision: later than that of the request if the store was asked.
    pub now: Now,
}

/// The two slots of a fingerprint in a table of so many: neighbours in one line of the processor's cache.
fn table_slots(key: &Fingerprint, slots: usize) -> (usize, usize) {
    let first = usize::try_from(key.slot_bits()).unwrap_or(0) & slots.saturating_sub(1);
    (first, first ^ 1)
}

/// A failure of the store is 503 or 500, and never 401: the gateway does not know whether the credential is valid.
fn denial_of(error: &StoreError) -> Denial {
    match error {
        StoreError::Unavailable(_) | StoreError::Foreign(_) => Denial::StoreUnavailable,
        StoreError::Corrupt(_) => Denial::CorruptRecord,
    }
}
