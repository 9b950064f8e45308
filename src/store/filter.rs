//! Which credentials a list holds: one rule that every store applies.

use crate::base::clock::UnixMillis;
use crate::base::ids::{CredentialId, Subject, SurfaceName, TenantId};
use crate::base::principal::{CredentialRecord, State};

use super::peppers::{UnderPepper, pepper_of};

/// Selects credentials to list.
#[derive(Debug, Clone, Default)]
pub struct CredentialFilter {
    /// Of this tenant only.
    pub tenant: Option<TenantId>,
    /// Of this surface only.
    pub surface: Option<SurfaceName>,
    /// Hanging on this record only.
    pub parent: Option<CredentialId>,
    /// Of this subject only.
    pub subject: Option<Subject>,
    /// With a claim of this name that is, or contains, this text.
    pub claim: Option<(String, String)>,
    /// Found only with this pepper.
    pub pepper: Option<UnderPepper>,
    /// Neither revoked nor expired nor idle for too long at this time.
    pub live_at: Option<UnixMillis>,
    /// Leave out records that cannot be read, with an alarm that names each, instead of failing.
    pub passes_over_broken: bool,
    /// After this id (exclusive), for paging.
    pub after: Option<CredentialId>,
    /// At most this many; stores cap it at 1,000.
    pub limit: usize,
}

impl CredentialFilter {
    /// Whether a record belongs into the list, its place in the order apart.
    #[must_use]
    pub fn admits(&self, record: &CredentialRecord) -> bool {
        self.tenant.as_ref().is_none_or(|t| *t == record.tenant)
            && self.surface.as_ref().is_none_or(|s| *s == record.surface)
            && self.parent.as_ref().is_none_or(|p| record.parent().is_some_and(|own| own.id == *p))
            && self.subject.as_ref().is_none_or(|s| record.subject.as_ref() == Some(s))
            && self
                .claim
                .as_ref()
                .is_none_or(|(name, text)| record.claim(name).is_some_and(|value| value.names(text)))
            && self.pepper.is_none_or(|under| pepper_of(record, under.oldest) == Some(under.mark))
            && self.live_at.is_none_or(|now| is_live(record, now))
    }
}

fn is_live(record: &CredentialRecord, now: UnixMillis) -> bool {
    !matches!(record.state, State::Revoked { .. })
        && record.expires_at.is_none_or(|end| now < end)
        && record.idle().is_none_or(|idle| now < idle.ends_at())
}
