//! Sessions that are used are renewed: a new token on the answer, up to the end of the session's record.

use crate::base::clock::UnixMillis;
use crate::base::credential::{Credential, TokenOrigin};
use crate::decide::authorize::Permit;
use crate::decide::extract::extract;
use crate::decide::surface::{SessionRecord, SessionSurface, SurfaceIndex};
use crate::issue::token::{renew, session_cookie};
use crate::wire::fields::Fields;
use crate::wire::head::RequestHead;

use super::worker::View;

/// Adds a renewed token to an answer, where the surface renews and the caller's token is old enough:
/// as its cookie if it came in one, and in the configured header.
///
/// The renewed token says what the session's record says, and keeps `jti` and `iat`: it is the same
/// session, as old as it was, which ends with its record and by every log-out that would have ended it
/// before. Two renewals at
/// the same time are two good tokens of one session.
pub(super) fn refresh(
    view: &View,
    permit: &Permit,
    (surface, now): (Option<SurfaceIndex>, UnixMillis),
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
    // How long the present token has left tells how old it is: all are made to live as long.
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
    // What cannot be signed now is tried again with the next request; the old one still works.
    let (record, parent) = (&principal.facts.credential, principal.facts.ancestors.first());
    let Ok(Some(renewed)) = renew(rules, record, parent, (claims.expires_at, end)) else {
        return;
    };
    let mut told = false;
    if let (TokenOrigin::Cookie, Some(spec)) = (origin, &minting.cookie) {
        let remaining = record_end.unwrap_or(end).0.saturating_sub(now.0);
        let remaining = std::time::Duration::from_millis(u64::try_from(remaining).unwrap_or(0));
        fields.push(b"Set-Cookie", session_cookie(spec, &renewed.text, remaining).as_bytes());
        told = true;
    }
    if let (TokenOrigin::Header, Some(name)) = (origin, &refresh.header) {
        fields.push(name.as_bytes(), renewed.text.as_bytes());
        told = true;
    }
    if told {
        // Whatever the service says about its answer: this one holds a credential (RFC 9111, section 7.3).
        fields.push(b"Cache-Control", b"no-store");
    }
}
