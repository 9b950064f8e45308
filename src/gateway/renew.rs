//! Renews the session of a caller who uses it: the response carries a new token, until the session's record ends.
//!
//! A session by sign-on is renewed only with the word of its identity provider, where that has given a refresh token. The provider
//! is asked while the request is forwarded.

use std::rc::Rc;
use std::time::Duration;

use crate::base::clock::UnixMillis;
use crate::base::credential::{Credential, TokenOrigin};
use crate::base::principal::{CredentialRecord, Principal};
use crate::decide::authorize::Permit;
use crate::decide::extract::extract;
use crate::decide::surface::{Minting, SessionRecord, SessionSurface, SurfaceIndex};
use crate::decide::token::TokenRules;
use crate::issue::engine::{BegunRenewal, RenewalVerdict, RenewedRecords, SessionRenewal};
use crate::issue::token::{renew, session_cookie};
use crate::wire::fields::Fields;

use super::worker::{SnapshotView, Worker};
use super::{AccessRecord, RequestContext};

/// How long an answer of a service waits for the provider at most. A token request commonly takes 50 to 300 ms, and it began
/// before the service was asked. What comes later is for the next request.
const WAIT: Duration = Duration::from_secs(1);

/// A token that is old enough to be renewed.
pub(super) struct DueToken {
    surface: SurfaceIndex,
    /// How the caller is told the new one.
    origin: TokenOrigin,
    begun: BegunRenewal,
}

/// What a token may be renewed from.
pub(super) struct RenewableToken {
    surface: SurfaceIndex,
    origin: TokenOrigin,
    /// `None`: the facts that the request was judged by.
    records: Option<Box<RenewedRecords>>,
}

/// Whether the caller's token is due for renewal: the surface renews tokens, the token is old enough, and the caller can be told a
/// new one. For a session by sign-on, begins to ask the provider.
pub(super) fn begin(context: RequestContext<'_>, permit: &Permit, access: &AccessRecord) -> Option<Box<DueToken>> {
    let surfaces = &context.view.snapshot.surfaces;
    let (index, principal) = (access.surface()?, permit.principal()?);
    let (_, minting) = renewing(context.view, index)?;
    let (refresh, claims) = (minting.refresh.as_ref()?, principal.token.as_ref()?);
    // All tokens have the same lifetime, so the time that is left tells the age of the present one.
    let due = access.now().wall.plus(minting.lifetime.saturating_sub(refresh.after));
    if claims.expires_at > due {
        return None;
    }
    let extracted = extract(&context.head.fields, surfaces, &[index]).ok()?;
    let Credential::Jwt { origin, .. } = extracted.credential else {
        return None;
    };
    let is_told = match origin {
        TokenOrigin::Cookie => minting.cookie.is_some(),
        TokenOrigin::Header => refresh.header.is_some(),
    };
    is_told.then(|| {
        Box::new(DueToken {
            surface: index,
            origin,
            begun: begin_asking(context.worker, context.view, principal, index, refresh.after, access),
        })
    })
}

fn begin_asking(
    worker: &Rc<Worker>,
    view: &SnapshotView,
    principal: &Principal,
    surface: SurfaceIndex,
    after: Duration,
    access: &AccessRecord,
) -> BegunRenewal {
    let above = &principal.facts.ancestors;
    let (Some(sign_on), Some(provider)) = (
        above.first().filter(|record| record.is_sign_on()),
        above.last().filter(|record| record.is_provider()),
    ) else {
        return BegunRenewal::Renew;
    };
    worker.engine.begin_renewal(SessionRenewal {
        snapshot: view.snapshot.clone(),
        surface,
        session: principal.facts.credential.id.clone(),
        sign_on: sign_on.id.clone(),
        provider: provider.id.clone(),
        after,
        request_id: access.request_id().to_owned(),
    })
}

/// The rules and the minting of a surface that keeps a record of each session.
fn renewing(view: &SnapshotView, index: SurfaceIndex) -> Option<(&TokenRules, &Minting)> {
    match view.snapshot.surfaces.get(index.0)?.kind.session()? {
        SessionSurface {
            rules,
            record: SessionRecord::Own,
            minting: Some(minting),
            ..
        } => Some((rules, minting)),
        _ => None,
    }
}

/// Waits for the provider's word, [`WAIT`] at most. If the client leaves meanwhile, the provider's answer is still taken.
pub(super) async fn judged(due: Box<DueToken>, access: &mut AccessRecord) -> Option<RenewableToken> {
    let DueToken { surface, origin, begun } = *due;
    let renewable = |records| RenewableToken { surface, origin, records };
    let asking = match begun {
        BegunRenewal::Renew => return Some(renewable(None)),
        BegunRenewal::Keep => return None,
        BegunRenewal::Asking(asking) => asking,
    };
    match tokio::time::timeout(WAIT, asking).await {
        Ok(Ok(RenewalVerdict::Renew(records))) => {
            if let Some(done) = records.as_ref().and_then(|records| records.done.as_ref()) {
                access.note_done(done);
            }
            Some(renewable(records))
        }
        Ok(Ok(RenewalVerdict::Ended(done))) => {
            access.note_done(&done);
            None
        }
        Ok(Ok(RenewalVerdict::Keep)) | Err(_) => None,
        Ok(Err(error)) => {
            tracing::error!(%error, "the renewal of a session ended early");
            None
        }
    }
}

/// Adds a renewed token to a response. The token is set as a cookie if it came in one, and in the configured header if it came in
/// a header.
///
/// The renewed token takes its claims from the record of the session and keeps `jti` and `iat`, since it is the same
/// session. It ends with its record, and with every log-out that would have ended the old token. Two renewals at the
/// same time give two valid tokens of one session.
pub(super) fn refresh(view: &SnapshotView, permit: &Permit, token: &RenewableToken, now: UnixMillis, fields: &mut Fields) {
    let principal = permit.principal();
    let claims = principal.and_then(|principal| principal.token.as_ref());
    let (Some((rules, minting)), Some(principal), Some(claims)) = (renewing(view, token.surface), principal, claims) else {
        return;
    };
    // The `sub` of a session names the person, and never the sign-on that the session hangs on.
    let (record, parent): (&CredentialRecord, Option<&CredentialRecord>) = match &token.records {
        Some(records) => (&records.session, Some(&records.person)),
        None => (&principal.facts.credential, principal.facts.hangs_on().map(|(parent, _)| parent)),
    };
    let record_end = record.expires_at;
    let end = now.plus(minting.lifetime);
    let end = record_end.map_or(end, |last| last.min(end));
    // If signing fails, the next request tries again. The present token still works.
    let Ok(Some(renewed)) = renew(rules, record, parent, claims.expires_at, end) else {
        return;
    };
    match (
        token.origin,
        &minting.cookie,
        minting.refresh.as_ref().and_then(|refresh| refresh.header.as_ref()),
    ) {
        (TokenOrigin::Cookie, Some(spec), _) => {
            let remaining = record_end.unwrap_or(end).0.saturating_sub(now.0);
            let remaining = Duration::from_millis(u64::try_from(remaining).unwrap_or(0));
            fields.push(b"Set-Cookie", session_cookie(spec, &renewed.text, remaining).as_bytes());
        }
        (TokenOrigin::Header, _, Some(name)) => fields.push(name.as_bytes(), renewed.text.as_bytes()),
        _ => return,
    }
    // The response carries a credential, whatever the upstream says about caching (RFC 9111, section 7.3).
    fields.push(b"Cache-Control", b"no-store");
}
