//! From a presented credential to proven facts: the one step of a request that may wait.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use crate::base::clock::{Clock, Now};
use crate::base::credential::Credential;
use crate::base::denial::Denial;
use crate::base::fingerprint::{Fingerprint, Peppers};
use crate::base::login::login_fingerprint;
use crate::base::principal::{Facts, Principal, TokenClaims};
use crate::decide::authorize::{SecretCheck, check_secret, fingerprints};
use crate::decide::external::{ExternalRules, Unverified};
use crate::decide::extract::Extracted;
use crate::decide::surface::{SessionRecord, Surface, SurfaceKind};
use crate::decide::validity;
use crate::jwks::KeyRenewal;
use crate::store::StoreError;
use crate::store::cached::{CachedStore, Remembered};

/// Entries of a worker's own table: 2.6 MB, and with 10,000 busy keys one look-up in fourteen
/// collides and costs a look into the shared cache instead, which is cheap too.
const TABLE_SLOTS: usize = 65_536;

/// Youngest facts that are read again before a sliding credential is thought dead of not being used:
/// a second bounds what somebody who repeats a dead session costs the store.
const IDLE_RECHECK: Duration = Duration::from_secs(1);

/// Resolves credentials for one worker. In front of the shared cache it keeps a small table of its
/// own: the same facts under the same rules of age and position, found without touching memory that
/// other workers write to.
pub struct Resolver {
    cached: Arc<CachedStore>,
    peppers: Peppers,
    clock: Arc<dyn Clock>,
    table: RefCell<Vec<Option<Tabled>>>,
    /// Fetches newer keys of issuers; without it, what is known is all there is.
    renewal: Option<Arc<KeyRenewal>>,
}

/// One entry of the table.
type Tabled = (Fingerprint, Arc<Facts>);

impl Resolver {
    /// An empty table over a shared cache.
    #[must_use]
    pub fn new(cached: Arc<CachedStore>, peppers: Peppers, clock: Arc<dyn Clock>) -> Self {
        Self {
            cached,
            peppers,
            clock,
            table: RefCell::new(vec![None; TABLE_SLOTS]),
            renewal: None,
        }
    }

    /// The same with somebody to ask for newer keys of issuers.
    #[must_use]
    pub fn with_renewal(mut self, renewal: Arc<KeyRenewal>) -> Self {
        self.renewal = Some(renewal);
        self
    }

    /// Finds the facts of a credential, what a token adds to them, and whether the secret half of a
    /// pair was right. Decides nothing: that is [`crate::decide::authorize`]'s. Cancel-safe.
    ///
    /// # Errors
    /// [`Denial::UnknownCredential`] only when the credential is certainly absent; what
    /// [`TokenRules::verify`](crate::decide::token::TokenRules::verify) says of a token;
    /// [`Denial::StoreUnavailable`] and [`Denial::CorruptRecord`] when the store cannot say.
    pub async fn resolve(&self, surface: &Surface, extracted: &Extracted<'_>, now: Now) -> Result<Resolved, Denial> {
        let (token, now) = match (&surface.kind, extracted.credential) {
            (SurfaceKind::SessionJwt { rules, record, .. }, Credential::Jwt { token, .. }) => {
                let claims = match record {
                    SessionRecord::Sub(_) => rules.verify(token, now.wall)?,
                    SessionRecord::Own => rules.verify_own(token, now.wall)?,
                };
                (Some(claims), now)
            }
            (SurfaceKind::ExternalJwt { rules, .. }, Credential::Jwt { token, .. }) => {
                // Boxed: what few surfaces need must not make every request's future larger.
                let (claims, now) = Box::pin(self.verify_external(rules, token, now)).await?;
                (Some(claims), now)
            }
            _ => (None, now),
        };
        let (facts, mut now) = self.find(surface, extracted.credential, token.as_ref(), now).await?;
        // An unknown publishable half costs the same comparison as a known one (hardening K5).
        let secret = check_secret(
            surface,
            extracted.credential,
            facts.as_deref().map(|facts| &facts.credential),
            &self.peppers,
        );
        let mut facts = facts.ok_or(Denial::UnknownCredential)?;
        if validity::is_idle(&facts, now.wall) {
            // Boxed: what few credentials need must not make every request's future larger.
            facts = Box::pin(self.newest_uses(facts, now)).await?;
            now = self.clock.now();
        }
        Ok(Resolved {
            principal: Principal::new(facts, token),
            secret,
            now,
        })
    }

    /// What an account of this log-in name is found by.
    #[must_use]
    pub fn login_fingerprint(&self, surface: &Surface, login: &str) -> Fingerprint {
        login_fingerprint(self.peppers.first(), &surface.name, login)
    }

    /// Finds the facts of an account by what was typed as its log-in name. Says nothing about the
    /// password. Cancel-safe.
    ///
    /// # Errors
    /// [`Denial::StoreUnavailable`] and [`Denial::CorruptRecord`] when the store cannot say.
    pub async fn resolve_login(&self, surface: &Surface, login: &str, now: Now) -> Result<Option<Arc<Facts>>, Denial> {
        for pepper in self.peppers.iter() {
            let fingerprint = login_fingerprint(pepper, &surface.name, login);
            let facts = match self.remembered(fingerprint, now) {
                Remembered::Present(facts) => Some(facts),
                Remembered::Absent => None,
                Remembered::Nothing => self.cached.load(fingerprint).await.map_err(|error| denial_of(&error))?,
            };
            if facts.is_some() {
                return Ok(facts);
            }
        }
        Ok(None)
    }

    /// Facts that say a credential died of not being used, with the uses that this gateway knows, and
    /// those that another one has told the store of since they were read. Asks the store only when
    /// that decides, and at most once a second for each credential.
    async fn newest_uses(&self, facts: Arc<Facts>, now: Now) -> Result<Arc<Facts>, Denial> {
        let facts = self.cached.activity().lay_over(facts);
        if !validity::is_idle(&facts, now.wall) || now.boot.since(facts.sent_at) < IDLE_RECHECK {
            return Ok(facts);
        }
        let newer = self.cached.load_since(facts.credential.fingerprint, now.boot).await;
        let newer = newer.map_err(|error| denial_of(&error))?.ok_or(Denial::UnknownCredential)?;
        Ok(self.cached.activity().lay_over(newer))
    }

    /// Verifies a token of another issuer; if its key is not known, after asking once for newer ones.
    /// Tells the time too: asking takes some.
    async fn verify_external(&self, rules: &ExternalRules, token: &[u8], now: Now) -> Result<(TokenClaims, Now), Denial> {
        let (keys, otherwise) = match rules.verify(token, now) {
            Ok(claims) => return Ok((claims, now)),
            Err(Unverified::Denied(denial)) => return Err(denial),
            Err(Unverified::KeyWanted { keys, otherwise }) => (keys, otherwise),
        };
        let renewed = match &self.renewal {
            Some(renewal) => renewal.refetch(keys).await,
            None => false,
        };
        if !renewed {
            return Err(otherwise);
        }
        let now = self.clock.now();
        match rules.verify(token, now) {
            Ok(claims) => Ok((claims, now)),
            Err(Unverified::Denied(denial) | Unverified::KeyWanted { otherwise: denial, .. }) => Err(denial),
        }
    }

    /// Notes that these facts admitted a request; what slides lives on by it.
    pub fn note_use(&self, facts: &Facts, now: Now) {
        self.cached.activity().note(facts, now);
    }

    /// Tries the fingerprints a credential may have; the first that exists decides. Tells the time
    /// too: asking the store takes some.
    async fn find(
        &self,
        surface: &Surface,
        credential: Credential<'_>,
        token: Option<&TokenClaims>,
        mut now: Now,
    ) -> Result<(Option<Arc<Facts>>, Now), Denial> {
        for fingerprint in fingerprints(surface, credential, token, &self.peppers) {
            let facts = match self.remembered(fingerprint, now) {
                Remembered::Present(facts) => Some(facts),
                Remembered::Absent => None,
                Remembered::Nothing => {
                    let loaded = self.cached.load(fingerprint).await.map_err(|error| denial_of(&error))?;
                    now = self.clock.now();
                    loaded
                }
            };
            if facts.is_some() {
                return Ok((facts, now));
            }
        }
        Ok((None, now))
    }

    /// What is known of a fingerprint without asking the store: own table, then shared cache.
    fn remembered(&self, key: Fingerprint, now: Now) -> Remembered {
        if let Some(facts) = self.tabled(&key, now) {
            return Remembered::Present(facts);
        }
        let remembered = self.cached.peek(&key, now);
        if let Remembered::Present(facts) = &remembered {
            self.table_facts(key, facts);
        }
        remembered
    }

    fn tabled(&self, key: &Fingerprint, now: Now) -> Option<Arc<Facts>> {
        let table = self.table.borrow();
        let (known, facts) = table.get(slot(key))?.as_ref()?;
        (known == key && self.cached.is_current(key, facts, now)).then(|| facts.clone())
    }

    fn table_facts(&self, key: Fingerprint, facts: &Arc<Facts>) {
        if let Some(place) = self.table.borrow_mut().get_mut(slot(&key)) {
            *place = Some((key, facts.clone()));
        }
    }
}

/// Proven facts, and what authorization needs besides.
pub struct Resolved {
    /// Who it is, if the decision agrees.
    pub principal: Principal,
    /// Whether the secret half of a pair was right.
    pub secret: SecretCheck,
    /// The time of the decision: later than that of the request if the store was asked.
    pub now: Now,
}

fn slot(key: &Fingerprint) -> usize {
    usize::try_from(key.slot_bits() % TABLE_SLOTS as u64).unwrap_or(0)
}

/// A store's failure is never a 401 (invariant 5).
fn denial_of(error: &StoreError) -> Denial {
    match error {
        StoreError::Unavailable(_) | StoreError::Foreign(_) => Denial::StoreUnavailable,
        StoreError::Corrupt(_) => Denial::CorruptRecord,
    }
}
