//! What verifying a token has found out, as a fact: true for the same bytes under the same rules for as long as they trust the key.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::principal::TokenClaims;

static NUMBERS: AtomicU64 = AtomicU64::new(0);

/// Identifies the rules of one surface as they were loaded. It cannot be copied, so rules that are loaded again never have the
/// identity of others, even if they ask for the same.
#[derive(Debug)]
pub struct RulesId(u64);

impl RulesId {
    /// An identity that nothing else in this process has.
    #[must_use]
    pub fn unique() -> Self {
        Self(NUMBERS.fetch_add(1, Ordering::Relaxed))
    }
}

/// A token whose signature was verified, as its rules read it. Nothing in it depends on the time, on a record or on what the caller
/// asks for: these are judged anew each time.
#[derive(Debug, Clone)]
pub struct VerifiedClaims {
    pub claims: Arc<TokenClaims>,
    /// The number of the rules that read it.
    rules: u64,
}

impl VerifiedClaims {
    pub(in crate::decide) fn new(claims: TokenClaims, rules: &RulesId) -> Self {
        Self {
            claims: Arc::new(claims),
            rules: rules.0,
        }
    }

    /// Whether these rules read the token.
    pub(in crate::decide) const fn is_read_by(&self, rules: &RulesId) -> bool {
        self.rules == rules.0
    }
}
