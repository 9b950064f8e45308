//! The refresh token of a sign-on: what the provider is asked with whether the session there goes on. It is stored sealed, in a
//! record of its own below the sign-on.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::base::clock::UnixMillis;
use crate::base::fingerprint::{Fingerprint, Pepper, Peppers};
use crate::base::ids::{CredentialId, SurfaceName};
use crate::base::principal::{CredentialRecord, CredentialState, Extras, Parent, REFRESH_TOKEN_SURFACE};
use crate::base::scope::ScopeSet;
use crate::store::StoreError;

use super::fault::SignOnFault;
use super::seal::{SealPurpose, SealScope, open, seal};

/// Longest refresh token that is kept. Those of Entra ID have up to 2 KiB.
pub const MAX_REFRESH_TOKEN: usize = 4 * 1024;

/// How long nobody else asks after a gateway began to ask. The questions of one exchange take 35 s at most by their deadlines: the
/// configuration 5 s, the tokens 10 s, the keys 5 s twice, userinfo 10 s. Many providers end a session when a refresh token comes
/// a second time, so two gateways must never ask at a time.
pub const EXCHANGE: Duration = Duration::from_secs(45);

/// A refresh token (RFC 6749, section 1.5). `Debug` shows nothing of it; its memory is wiped when it is dropped.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RefreshToken(String);

impl RefreshToken {
    /// Takes a text that can be one: visible ASCII, at most [`MAX_REFRESH_TOKEN`] characters.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (1..=MAX_REFRESH_TOKEN).contains(&text.len()) && text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        fits.then(|| Self(text.to_owned()))
    }

    /// The token, for the provider alone.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RefreshToken(..)")
    }
}

/// What the ID token of a sign-on said. Later ID tokens of the same sign-on must say the same (OpenID Connect Core 1.0,
/// section 12.2).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SignOnOrigin {
    /// `sub`.
    pub subject: String,
    pub nonce: String,
    /// `sid`.
    pub session_id: Option<String>,
    pub auth_time: Option<UnixMillis>,
}

/// A refresh token, and the sign-on that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignOnRefresh {
    pub token: RefreshToken,
    pub origin: SignOnOrigin,
}

/// What is sealed.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlainRefresh {
    token: RefreshToken,
    sub: String,
    nonce: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    auth_time: Option<i64>,
}

/// What the record of a refresh token holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoredRefresh {
    /// `None` after the sign-on was ended: then nothing is renewed by it any more.
    sealed: Option<String>,
    /// When the provider was last asked with success, by the store's time; at first, when the sign-on began.
    pub confirmed_at: UnixMillis,
    /// When a gateway last began to ask. For [`EXCHANGE`] from then on no other one does.
    pub asked_at: Option<UnixMillis>,
}

/// The form in the record.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireRefresh {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sealed: Option<String>,
    confirmed_at: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    asked_at: Option<i64>,
}

impl StoredRefresh {
    /// Seals a refresh token for this sign-on.
    ///
    /// # Errors
    /// [`SignOnFault::NoRandomness`].
    pub fn seal(sign_on: &CredentialId, refresh: &SignOnRefresh, confirmed_at: UnixMillis, pepper: &Pepper) -> Result<Self, SignOnFault> {
        let SignOnRefresh { token, origin } = refresh;
        let plain = PlainRefresh {
            token: token.clone(),
            sub: origin.subject.clone(),
            nonce: origin.nonce.clone(),
            sid: origin.session_id.clone(),
            auth_time: origin.auth_time.map(|at| at.0),
        };
        let plain = Zeroizing::new(serde_json::to_vec(&plain).unwrap_or_default());
        let sealed = seal(pepper, &scope(sign_on), &plain).map_err(|_| SignOnFault::NoRandomness)?;
        Ok(Self {
            sealed: Some(sealed),
            confirmed_at,
            asked_at: None,
        })
    }

    /// Opens the refresh token of this sign-on; `None` if it was dropped.
    ///
    /// # Errors
    /// [`SignOnFault::Sealed`].
    pub fn open(&self, sign_on: &CredentialId, peppers: &Peppers) -> Result<Option<SignOnRefresh>, SignOnFault> {
        let Some(sealed) = &self.sealed else { return Ok(None) };
        let plain = open(peppers, &scope(sign_on), sealed).map_err(SignOnFault::Sealed)?;
        let broken = || SignOnFault::Sealed(super::seal::SealError::Form);
        let plain: PlainRefresh = serde_json::from_slice(&plain).map_err(|_| broken())?;
        Ok(Some(SignOnRefresh {
            token: plain.token,
            origin: SignOnOrigin {
                subject: plain.sub,
                nonce: plain.nonce,
                session_id: plain.sid,
                auth_time: plain.auth_time.map(UnixMillis),
            },
        }))
    }

    /// The same, with when a gateway last began to ask.
    #[must_use]
    pub fn asked(self, asked_at: Option<UnixMillis>) -> Self {
        Self { asked_at, ..self }
    }

    /// What stays when the sign-on was ended: nothing that the provider would take.
    #[must_use]
    pub fn dropped(&self) -> Self {
        Self {
            sealed: None,
            asked_at: None,
            ..self.clone()
        }
    }

    #[must_use]
    pub const fn is_dropped(&self) -> bool {
        self.sealed.is_none()
    }

    /// Whether both hold the same sealed text, which no two seals do.
    #[must_use]
    pub fn has_token_of(&self, other: &Self) -> bool {
        self.sealed == other.sealed
    }

    /// How much longer the provider's last word counts, if it counts for this time.
    #[must_use]
    pub fn confirmed_for(&self, counts_for: Duration, now: UnixMillis) -> Option<Duration> {
        let left = self.confirmed_at.plus(counts_for).0.saturating_sub(now.0);
        u64::try_from(left).ok().filter(|left| *left > 0).map(Duration::from_millis)
    }

    /// How much longer the gateway that asks is waited for.
    #[must_use]
    pub fn asked_for(&self, now: UnixMillis) -> Option<Duration> {
        let left = self.asked_at?.plus(EXCHANGE).0.saturating_sub(now.0);
        u64::try_from(left).ok().filter(|left| *left > 0).map(Duration::from_millis)
    }

    /// Reads what a record holds.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`].
    pub fn of_record(record: &CredentialRecord) -> Result<Self, StoreError> {
        let text = record.settings().filter(|_| record.is_refresh_token());
        let read = text.and_then(|text| serde_json::from_str::<WireRefresh>(text).ok());
        let wire = read.ok_or_else(|| StoreError::Corrupt(format!("the record {} holds no refresh token", record.id)))?;
        Ok(Self {
            sealed: wire.sealed,
            confirmed_at: UnixMillis(wire.confirmed_at),
            asked_at: wire.asked_at.map(UnixMillis),
        })
    }

    /// The text that the record holds.
    #[must_use]
    pub fn to_text(&self) -> Arc<str> {
        let wire = WireRefresh {
            sealed: self.sealed.clone(),
            confirmed_at: self.confirmed_at.0,
            asked_at: self.asked_at.map(|at| at.0),
        };
        // Texts and numbers always become JSON.
        serde_json::to_string(&wire).unwrap_or_default().into()
    }
}

fn scope(sign_on: &CredentialId) -> SealScope<'_> {
    SealScope {
        purpose: SealPurpose::RefreshToken,
        owner: sign_on.as_str(),
        field: "refresh_token",
    }
}

/// The id of the record with the refresh token of a sign-on.
#[must_use]
pub fn refresh_token_id(sign_on: &CredentialId) -> Option<CredentialId> {
    CredentialId::parse(&format!("{sign_on}:refresh")).ok()
}

/// What finds the refresh token of a sign-on, together with the sign-on, which stands above it.
#[must_use]
pub fn refresh_token_fingerprint(sign_on: &CredentialId) -> Option<Fingerprint> {
    let surface = SurfaceName::parse(REFRESH_TOKEN_SURFACE).ok()?;
    Some(Fingerprint::of_id(&surface, &refresh_token_id(sign_on)?))
}

/// The record of a refresh token, which hangs on its sign-on and ends with it; `None` for an id that is none of a sign-on.
#[must_use]
pub fn refresh_token_record(sign_on: &CredentialRecord, stored: &StoredRefresh, now: UnixMillis) -> Option<CredentialRecord> {
    let id = refresh_token_id(&sign_on.id)?;
    Some(CredentialRecord {
        fingerprint: refresh_token_fingerprint(&sign_on.id)?,
        id,
        surface: SurfaceName::parse(REFRESH_TOKEN_SURFACE).ok()?,
        scopes: ScopeSet::default(),
        name: None,
        state: CredentialState::Active,
        created_at: now,
        valid_after: None,
        epoch: 0,
        pepper: None,
        extras: Extras {
            parent: Some(Parent {
                surface: sign_on.surface.clone(),
                id: sign_on.id.clone(),
            }),
            granted: Some(ScopeSet::default()),
            settings: Some(stored.to_text()),
            ..Extras::default()
        }
        .boxed(),
        ..sign_on.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::principal::MAX_REFRESH_TOKEN_TEXT;
    use crate::decide::samples;

    fn peppers(byte: u8) -> Peppers {
        Peppers::new(vec![Pepper::new(&[byte; 32]).unwrap()]).unwrap()
    }

    fn refresh(token: &str) -> SignOnRefresh {
        SignOnRefresh {
            token: RefreshToken::parse(token).unwrap(),
            origin: SignOnOrigin {
                subject: "ann".into(),
                nonce: "n".into(),
                session_id: Some("sid-1".into()),
                auth_time: Some(UnixMillis(7_000)),
            },
        }
    }

    fn sign_on(id: &str) -> CredentialId {
        CredentialId::parse(id).unwrap()
    }

    #[test]
    fn b40_a_refresh_token_is_stored_sealed_and_opens_for_its_sign_on_alone() {
        let (own, other) = (sign_on("sgn_1"), sign_on("sgn_2"));
        let stored = StoredRefresh::seal(&own, &refresh("canary"), UnixMillis(5), peppers(1).first()).unwrap();
        let text = stored.to_text();
        assert!(!text.contains("canary") && !text.contains("ann"), "{text}");
        assert!(!format!("{:?}", refresh("canary")).contains("canary"));
        assert_eq!(stored.open(&own, &peppers(1)).unwrap(), Some(refresh("canary")));
        assert!(matches!(stored.open(&other, &peppers(1)), Err(SignOnFault::Sealed(_))));
        assert!(matches!(stored.open(&own, &peppers(2)), Err(SignOnFault::Sealed(_))));
        assert_eq!(stored.dropped().open(&own, &peppers(1)).unwrap(), None);
        assert!(!stored.dropped().to_text().contains("sealed"));
    }

    #[test]
    fn the_record_hangs_on_its_sign_on_is_found_by_its_id_and_read_back() {
        let mut above = samples::facts("sign_on", "sgn_1", "acme").credential;
        above.expires_at = Some(UnixMillis(99));
        let longest = "x".repeat(MAX_REFRESH_TOKEN);
        let mut stored = StoredRefresh::seal(&above.id, &refresh(&longest), UnixMillis(5), peppers(1).first()).unwrap();
        stored.asked_at = Some(UnixMillis(6));
        let record = refresh_token_record(&above, &stored, UnixMillis(5)).unwrap();
        assert!(record.is_refresh_token() && !record.is_sign_on() && !record.is_session_of_sign_on() && !record.needs_pepper());
        assert_eq!(record.parent().unwrap().id, above.id);
        assert_eq!((record.id.as_str(), record.expires_at), ("sgn_1:refresh", Some(UnixMillis(99))));
        assert_eq!(Some(record.fingerprint), refresh_token_fingerprint(&above.id));
        assert_eq!(StoredRefresh::of_record(&record), Ok(stored.clone()));
        assert!(stored.to_text().len() <= MAX_REFRESH_TOKEN_TEXT, "{}", stored.to_text().len());
        assert!(StoredRefresh::of_record(&above).is_err());
    }

    #[test]
    fn what_cannot_be_a_refresh_token_is_none() {
        for bad in ["", "a\nb", "\u{e9}", &"x".repeat(MAX_REFRESH_TOKEN + 1)] {
            assert_eq!(RefreshToken::parse(bad), None, "{}", bad.len());
        }
        assert!(RefreshToken::parse("a b~").is_some());
    }

    #[test]
    fn a_word_of_the_provider_and_the_right_to_ask_last_for_their_time() {
        let stored = StoredRefresh {
            confirmed_at: UnixMillis(1_000),
            asked_at: Some(UnixMillis(2_000)),
            ..StoredRefresh::default()
        };
        let minute = Duration::from_secs(60);
        assert_eq!(stored.confirmed_for(minute, UnixMillis(60_999)), Some(Duration::from_millis(1)));
        assert_eq!(stored.confirmed_for(minute, UnixMillis(61_000)), None);
        let end = UnixMillis(2_000).plus(EXCHANGE);
        assert_eq!(stored.asked_for(UnixMillis(end.0 - 1)), Some(Duration::from_millis(1)));
        assert_eq!(stored.asked_for(end), None);
        assert_eq!(StoredRefresh::default().asked_for(UnixMillis(1)), None);
    }
}
