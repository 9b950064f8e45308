//! Renews the session of a caller who uses it: the response carries a new token, until the session's record ends.

use crate::base::clock::UnixMillis;
use crate::base::credential::{Credential, TokenOrigin};
use crate::decide::authorize::Permit;
use crate::decide::extract::extract;
use crate::decide::surface::{SessionRecord, SessionSurface, SurfaceIndex};
use crate::issue::token::{renew, session_cookie};
use crate::wire::fields::Fields;
use crate::wire::head::RequestHead;

use super::worker::SnapshotView;

/// Adds a renewed token to a response, if the surface renews tokens and the caller's token is old enough. The token is
/// set as a cookie if it came in one, and in the configured header if it came in a header.
///
/// The renewed token takes its claims from the record of the session and keeps `jti` and `iat`, since it is the same
/// session. It ends with its record, and with every log-out that would have ended the old token. Two renewals at the
/// same time give two valid tokens of one session.
pub(super) fn refresh(
    view: &SnapshotView,
    permit: &Permit,
    surface: Option<SurfaceIndex>,
    now: UnixMillis,
    head: &RequestHead,
    fields: &mut Fields,
) {
    let surfaces = &view.snapshot.surfaces;
    let found = surface.and_then(|index| Some((index, surfaces.get(index.0)?.kind.session()?)));
    let Some((
        index,
        SessionSurface {
            rules,
            record: SessionRecord::Own,
            minting: Some(minting),
            ..
        },
    )) = found
    else {
        return;
    };
    let principal = permit.principal();
    let claims = principal.and_then(|principal| principal.token.as_ref());
    let (Some(refresh), Some(principal), Some(claims)) = (&minting.refresh, principal, claims) else {
        return;
    };
    // All tokens have the same lifetime, so the time that is left tells the age of the present one.
    let due = now.plus(minting.lifetime.saturating_sub(refresh.after));
    if claims.expires_at > due {
        return;
    }
    let record_end = principal.facts.credential.expires_at;
    let end = now.plus(minting.lifetime);
    let end = record_end.map_or(end, |last| last.min(end));
    let Ok(extracted) = extract(&head.fields, surfaces, &[index]) else {
        return;
    };
    let Credential::Jwt { origin, .. } = extracted.credential else {
        return;
    };
    // If signing fails, the next request tries again. The present token still works.
    // The `sub` of a session names the person, and never the sign-on that the session hangs on.
    let (record, parent) = (&principal.facts.credential, principal.facts.hangs_on().map(|(parent, _)| parent));
    let Ok(Some(renewed)) = renew(rules, record, parent, claims.expires_at, end) else {
        return;
    };
    let mut is_added = false;
    if let (TokenOrigin::Cookie, Some(spec)) = (origin, &minting.cookie) {
        let remaining = record_end.unwrap_or(end).0.saturating_sub(now.0);
        let remaining = std::time::Duration::from_millis(u64::try_from(remaining).unwrap_or(0));
        fields.push(b"Set-Cookie", session_cookie(spec, &renewed.text, remaining).as_bytes());
        is_added = true;
    }
    if let (TokenOrigin::Header, Some(name)) = (origin, &refresh.header) {
        fields.push(name.as_bytes(), renewed.text.as_bytes());
        is_added = true;
    }
    if is_added {
        // The response carries a credential, whatever the upstream says about caching (RFC 9111, section 7.3).
        fields.push(b"Cache-Control", b"no-store");
    }
}
