//! The log-out record: what a log-out at a SAML provider that was begun here must be finished with. It is sealed into a cookie, so
//! that the provider's answer leads the browser on that began it, and no other.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::base::clock::UnixMillis;
use crate::base::fingerprint::Peppers;
use crate::base::ids::{CredentialId, TenantId};

use super::fault::SignOnFault;
use super::oidc::LogInValue;
use super::seal::{SealPurpose, SealScope, open, seal};

/// The name of its cookie. A browser has one log-out at a time: a later one takes the place of an earlier one, which has ended its
/// session here anyway.
pub const LOG_OUT_COOKIE: &str = "__Host-durward-log-out";

/// How long a log-out may take: a provider may ask the person, and tells other applications first.
pub const LOG_OUT_TIME: Duration = Duration::from_secs(600);

/// Longest value of the cookie that is opened. Browsers keep at most 4 KiB.
const MAX_SEALED: usize = 4_096;

const SCOPE: SealScope<'_> = SealScope {
    purpose: SealPurpose::LogOut,
    owner: LOG_OUT_COOKIE,
    field: "",
};

/// A log-out that was begun here.
#[derive(Clone, PartialEq, Eq)]
pub struct LogOutRecord {
    pub tenant: TenantId,
    pub provider: CredentialId,
    /// What comes back beside the provider's answer (`RelayState`).
    pub state: LogInValue,
    /// The id of our request, which the answer names. By it the record is used once.
    pub request_id: String,
    /// Where the browser goes afterwards. It was checked when the log-out was begun.
    pub return_to: String,
    pub expires_at: UnixMillis,
}

impl std::fmt::Debug for LogOutRecord {
    /// Shows whose it is, and none of its secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LogOutRecord({}, {})", self.tenant, self.provider)
    }
}

/// A record as it is sealed.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SealedForm {
    t: String,
    p: String,
    s: String,
    q: String,
    r: String,
    e: i64,
}

/// The value of a `Set-Cookie` field with a sealed record. A provider may answer by a POST from its site, which brings a cookie of
/// `None` alone.
#[must_use]
pub fn set_cookie(sealed: &str) -> String {
    let seconds = LOG_OUT_TIME.as_secs();
    format!("{LOG_OUT_COOKIE}={sealed}; Path=/; HttpOnly; Secure; SameSite=None; Max-Age={seconds}")
}

/// The value of a `Set-Cookie` field that removes the record.
#[must_use]
pub fn remove_cookie() -> String {
    format!("{LOG_OUT_COOKIE}=; Path=/; HttpOnly; Secure; SameSite=None; Max-Age=0")
}

impl LogOutRecord {
    /// Seals the record under the first pepper.
    ///
    /// # Errors
    /// [`SignOnFault::NoRandomness`].
    pub fn seal(&self, peppers: &Peppers) -> Result<String, SignOnFault> {
        let form = SealedForm {
            t: self.tenant.as_str().to_owned(),
            p: self.provider.as_str().to_owned(),
            s: self.state.text(),
            q: self.request_id.clone(),
            r: self.return_to.clone(),
            e: self.expires_at.0,
        };
        // Texts and numbers always become JSON.
        let text = Zeroizing::new(serde_json::to_vec(&form).unwrap_or_default());
        seal(peppers.first(), &SCOPE, &text).map_err(|_| SignOnFault::NoRandomness)
    }

    /// Opens the record in the cookie. `None`: no gateway has sealed it, it is of another log-out than this state, or its time is
    /// over.
    #[must_use]
    pub fn open(sealed: &str, state: &str, peppers: &Peppers, now: UnixMillis) -> Option<Self> {
        if sealed.len() > MAX_SEALED {
            return None;
        }
        let text = open(peppers, &SCOPE, sealed).ok()?;
        let form: SealedForm = serde_json::from_slice(&text).ok()?;
        let record = Self {
            tenant: TenantId::parse(&form.t).ok()?,
            provider: CredentialId::parse(&form.p).ok()?,
            state: LogInValue::from_bytes(URL_SAFE_NO_PAD.decode(form.s).ok()?.try_into().ok()?),
            request_id: form.q,
            return_to: form.r,
            expires_at: UnixMillis(form.e),
        };
        (record.state.is(state) && now < record.expires_at).then_some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::fingerprint::Pepper;

    const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

    fn peppers(bytes: &[u8]) -> Peppers {
        Peppers::new(bytes.iter().map(|byte| Pepper::new(&[*byte; 32]).unwrap()).collect()).unwrap()
    }

    #[test]
    fn a_record_opens_for_its_state_in_its_time() {
        let record = LogOutRecord {
            tenant: TenantId::parse("acme").unwrap(),
            provider: CredentialId::parse("prv_1").unwrap(),
            state: LogInValue::random().unwrap(),
            request_id: "_1".into(),
            return_to: format!("https://app.example.com/{}", "a".repeat(1_000)),
            expires_at: NOW.plus(LOG_OUT_TIME),
        };
        let state = record.state.text();
        assert!(state.len() <= 80, "a provider gives it back unchanged");
        let sealed = record.seal(&peppers(&[7])).unwrap();
        let open = |state: &str, bytes: &[u8], now| LogOutRecord::open(&sealed, state, &peppers(bytes), now);
        for bytes in [&[7][..], &[8, 7]] {
            assert_eq!(open(&state, bytes, NOW), Some(record.clone()));
        }
        assert_eq!(open(&state, &[8], NOW), None, "of another pepper");
        assert_eq!(open(&state, &[7], record.expires_at), None, "its time is over");
        for other in ["", "x", &LogInValue::random().unwrap().text()] {
            assert_eq!(open(other, &[7], NOW), None, "{other}");
        }
        let mut broken = sealed.clone().into_bytes();
        let last = broken.len() - 5;
        broken[last] = if broken[last] == b'A' { b'B' } else { b'A' };
        for bad in ["", "v1..", std::str::from_utf8(&broken).unwrap(), &"a".repeat(5_000)] {
            assert_eq!(LogOutRecord::open(bad, &state, &peppers(&[7]), NOW), None, "{bad}");
        }
        let cookie = set_cookie(&sealed);
        assert!(cookie.len() < 4_096, "browsers keep it: {}", cookie.len());
        assert!(!format!("{record:?}").contains(&state));
        assert!(remove_cookie().ends_with("Max-Age=0"));
    }
}
