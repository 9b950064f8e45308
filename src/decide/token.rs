//! Session tokens: HS256 JWTs verified by rules of our own around `jsonwebtoken` (hardening 1.4).

use std::time::Duration;

/// How tokens of one surface are verified. Built at load time.
pub struct TokenRules {
    /// Verification keys, newest first; several while a secret is rotated.
    pub keys: Vec<jsonwebtoken::DecodingKey>,
    /// Exact value of the `kind` claim.
    pub kind: String,
    /// Exact `iss`, if configured; then required.
    pub issuer: Option<String>,
    /// A value `aud` must contain, if configured; then required.
    pub audience: Option<String>,
    /// Tolerated clock difference, at most [`super::surface::MAX_SKEW`].
    pub skew: Duration,
    /// The claim that lists scopes, if scopes come from the token.
    pub scopes_claim: Option<String>,
    /// Claims that become headers, with the lower-case header names.
    pub claim_headers: Vec<ClaimHeader>,
}

/// A claim forwarded as a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimHeader {
    /// The claim's name.
    pub claim: String,
    /// The header's name as written upstream, e.g. `X-Transaction-Id`.
    pub header: String,
}

impl std::fmt::Debug for TokenRules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenRules").field("kind", &self.kind).finish_non_exhaustive()
    }
}
