//! What one worker remembers of tokens: that their signatures were verified, and what they claim. It answers for the very same bytes
//! only, and says nothing about time, record or scopes.

use std::sync::Arc;

use crate::base::clock::Now;
use crate::base::credential::{Credential, Unproven};
use crate::base::fingerprint::Fingerprint;
use crate::base::interned::ValueSet;
use crate::base::principal::TokenClaims;
use crate::base::scope::ScopeSet;
use crate::decide::external::MAX_EXTERNAL_TOKEN;
use crate::decide::surface::{Surface, Verified};
use crate::decide::token::VerifiedClaims;

/// Most tokens of one worker. The slots take 1.8 MiB once a token was verified, and nothing before. With 10,000 tokens in use, one
/// in thirty finds its set full at times, and is then verified again.
const SLOTS: usize = 32_768;

/// Slots in which a token may stand: neighbours.
const WAYS: usize = 4;

/// Most bytes of claims of one worker, by [`weight`]. A session weighs about 1,000, a token with two hundred groups up to 20,000.
const MAX_WEIGHT: usize = 32 * 1024 * 1024;

/// Most sets of scopes that tokens share in memory, and the longest text of one. Sets of scopes of one letter take 8 KiB each, so
/// all sets take 2 MiB at most. Callers get their scopes from tens of templates.
const MAX_SHARED_SCOPES: usize = 256;
const MAX_SHARED_TEXT: usize = 256;

/// The tokens that one worker has verified. Only tokens that were found good enter, so whoever cannot sign can push none out.
pub(super) struct VerifiedTokens {
    /// Sets of [`WAYS`] slots, in each the token that was used last first. Empty until the first token is kept.
    slots: Vec<Option<Remembered>>,
    /// The number of slots that there will be: a power of two, at least [`WAYS`].
    size: usize,
    /// What the claims of all tokens weigh together.
    weight: usize,
    max_weight: usize,
    /// The slot that is emptied next when the claims weigh too much.
    hand: usize,
    /// Scopes of tokens, so that the processor's caches still hold those of the last caller when the next one has the same.
    scopes: ValueSet<ScopeSet>,
}

struct Remembered {
    fingerprint: Fingerprint,
    token: VerifiedClaims,
}

impl VerifiedTokens {
    pub(super) fn new() -> Self {
        Self::with_limits(SLOTS, MAX_WEIGHT)
    }

    fn with_limits(size: usize, max_weight: usize) -> Self {
        Self {
            slots: Vec::new(),
            size,
            weight: 0,
            max_weight,
            hand: 0,
            scopes: ValueSet::new(MAX_SHARED_SCOPES),
        }
    }

    /// Verifies a credential that may be a token, or judges at `now` what was verified of the same bytes before. What is wrong is not
    /// remembered. What may have changed since is judged anew: here the key and the time, by `authorize` all that depends on the
    /// record and the route.
    ///
    /// # Errors
    /// As [`CredentialKind::verify`](crate::decide::kinds::CredentialKind::verify).
    pub(super) fn verify<'s>(&mut self, surface: &'s Surface, credential: Credential<'_>, now: Now) -> Result<Verified<'s>, Unproven> {
        let Credential::Jwt { token, .. } = credential else {
            return surface.kind.verify(credential, now);
        };
        // Verifying refuses a longer one by its length, so it is not hashed either.
        if token.len() > MAX_EXTERNAL_TOKEN {
            return surface.kind.verify(credential, now);
        }
        let fingerprint = Fingerprint::of_token(token);
        if let Some(known) = self.find(&fingerprint)
            && let Some(verdict) = surface.kind.judge_again(&known, now)
        {
            return verdict.map(|()| Verified::Token(known));
        }
        let mut verified = surface.kind.verify(credential, now)?;
        if let Verified::Token(token) = &mut verified {
            self.share_scopes(token);
            self.keep(fingerprint, token.clone());
        }
        Ok(verified)
    }

    fn share_scopes(&mut self, token: &mut VerifiedClaims) {
        let scopes = Arc::get_mut(&mut token.claims).and_then(|claims| claims.scopes.as_mut());
        if let Some(scopes) = scopes.filter(|scopes| scopes.joined().len() <= MAX_SHARED_TEXT) {
            self.scopes.intern(scopes);
        }
    }

    /// The token of this fingerprint.
    fn find(&mut self, fingerprint: &Fingerprint) -> Option<VerifiedClaims> {
        let set = self.set_of(fingerprint)?;
        let place = set.iter().position(|slot| is_of(slot.as_ref(), fingerprint))?;
        set.get_mut(..=place)?.rotate_right(1);
        let found = set.first()?.as_ref()?;
        found.token.claims.memo.fetch();
        Some(found.token.clone())
    }

    /// Remembers a good token, in place of the one of its set that was not used for longest.
    fn keep(&mut self, fingerprint: Fingerprint, token: VerifiedClaims) {
        let added = weight(&token.claims);
        if added > self.max_weight {
            return;
        }
        if self.slots.is_empty() {
            self.slots.resize_with(self.size, || None);
        }
        let Some(set) = self.set_of(&fingerprint) else { return };
        let place = set.iter().position(|slot| is_of(slot.as_ref(), &fingerprint)).unwrap_or(WAYS - 1);
        if let Some(moved) = set.get_mut(..=place) {
            moved.rotate_right(1);
        }
        let replaced = set.first_mut().and_then(|first| first.replace(Remembered { fingerprint, token }));
        self.weight = self.weight + added - replaced.map_or(0, |old| weight(&old.token.claims));
        for _ in 0..self.size {
            if self.weight <= self.max_weight {
                break;
            }
            let emptied = self.slots.get_mut(self.hand).and_then(Option::take);
            self.weight -= emptied.map_or(0, |old| weight(&old.token.claims));
            self.hand = (self.hand + 1) & (self.size - 1);
        }
    }

    fn set_of(&mut self, fingerprint: &Fingerprint) -> Option<&mut [Option<Remembered>]> {
        let set = usize::try_from(fingerprint.slot_bits()).unwrap_or(0) & (self.size / WAYS - 1);
        self.slots.get_mut(set * WAYS..(set + 1) * WAYS)
    }
}

/// A hash of the whole token is compared. Who learns a part of such a hash by time can make no token from it.
fn is_of(slot: Option<&Remembered>, fingerprint: &Fingerprint) -> bool {
    slot.is_some_and(|taken| taken.fingerprint == *fingerprint)
}

/// The bytes that claims take, with their texts, as nearly as it is worth while to count them. Each text that becomes a header counts
/// twice: the header lines that are kept with the token have it, too.
fn weight(claims: &TokenClaims) -> usize {
    /// What an allocation takes besides its contents.
    const EACH: usize = 32;
    let headers = claims.headers.iter().flatten();
    let headers: usize = headers.map(|text| 2 * text.len() + EACH).sum::<usize>() + claims.headers.len() * size_of::<Option<&str>>();
    // A scope stands in two lists, in the joined text, and in a header line.
    let scopes: usize = claims
        .scopes
        .iter()
        .flat_map(|scopes| scopes.iter())
        .map(|scope| 3 * scope.as_str().len() + 96)
        .sum();
    size_of::<TokenClaims>() + 5 * EACH + 2 * claims.subject.as_str().len() + claims.record.as_str().len() + headers + scopes
}

#[cfg(test)]
mod tests;
