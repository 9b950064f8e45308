//! The log-in record: what a sign-on that was begun must be finished with. It is sealed into a cookie of its own, so that a
//! sign-on can only be finished in the browser that began it, and the store holds nothing until somebody is proven.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use std::time::Duration;

use crate::base::clock::UnixMillis;
use crate::base::fingerprint::Peppers;
use crate::base::ids::{CredentialId, SurfaceName, TenantId};

use super::fault::SignOnFault;
use super::oidc::{LogInValue, LogInValues};
use super::seal::{SealPurpose, SealScope, open, seal};

/// How the names of the cookies begin; the first characters of the state follow, so that several tabs have one each.
/// The prefix `__Host-` keeps other hosts from setting them.
pub const LOG_IN_COOKIE: &str = "__Host-durward-sign-on-";

/// Characters of the state in the name of its cookie.
const STATE_IN_NAME: usize = 8;

/// How long a sign-on may take: people look for a second factor, and no browser keeps the cookie for longer.
pub const LOG_IN_TIME: Duration = Duration::from_secs(600);

/// Most sign-ons that one browser may have begun at a time. Each is a cookie of about 1 KiB that comes with every request,
/// and pages of other sites can begin sign-ons too. With more, the oldest are forgotten.
pub const MAX_LOG_INS: usize = 5;

/// Longest value of a cookie that is opened. Browsers keep at most 4 KiB.
const MAX_SEALED: usize = 4_096;

/// A sign-on that was begun.
#[derive(Clone, PartialEq, Eq)]
pub struct LogInRecord {
    /// By it the record is used once.
    pub id: [u8; 16],
    pub tenant: TenantId,
    pub provider: CredentialId,
    /// What comes back from the provider beside its answer: `state` of OIDC, `RelayState` of SAML.
    pub state: LogInValue,
    pub protocol: LogInProtocol,
    /// Where the browser goes afterwards. It was checked when the sign-on was begun.
    pub return_to: String,
    /// Who began it to link an account; `None`: it gives a session.
    pub link: Option<LinkIntent>,
    pub expires_at: UnixMillis,
}

/// Which session wants to link its account. The record is sealed, so it proves that this session began it, also where the answer of
/// the provider brings no session cookie: a `Lax` cookie does not come with the POST of a SAML provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkIntent {
    /// The surface of the session, by which it is found.
    pub surface: SurfaceName,
    pub session: CredentialId,
    /// The account that the session hangs on.
    pub account: CredentialId,
}

/// What the answer of the provider must fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogInProtocol {
    /// The values that its request and its ID token are tied to. The state among them is that of the record.
    Oidc(LogInValues),
    Saml {
        /// The id of our request, which the response names.
        request_id: String,
    },
}

impl std::fmt::Debug for LogInRecord {
    /// Shows whose it is, and none of its secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LogInRecord({}, {})", self.tenant, self.provider)
    }
}

/// A record as it is sealed.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SealedForm {
    i: String,
    t: String,
    p: String,
    s: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    n: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    v: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    q: Option<String>,
    r: String,
    /// Surface, session and account of a link. A gateway from before links does not open a record with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    l: Option<[String; 3]>,
    e: i64,
}

/// The name of the cookie for this state; `None` for a text that is none of our states.
#[must_use]
pub fn cookie_name(state: &str) -> Option<String> {
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    let beginning = state.get(..STATE_IN_NAME).filter(|_| plain(state))?;
    Some(format!("{LOG_IN_COOKIE}{beginning}"))
}

/// A record is sealed for its cookie, so that it opens in no other.
const fn scope(cookie: &str) -> SealScope<'_> {
    SealScope {
        purpose: SealPurpose::LogIn,
        owner: cookie,
        field: "",
    }
}

/// The value of a `Set-Cookie` field with a sealed record. The answer of an OIDC provider is a GET of the browser, which
/// brings a `Lax` cookie. That of a SAML provider is a POST from another site, which brings a cookie of `None` alone.
#[must_use]
pub fn set_cookie(name: &str, sealed: &str, protocol: &LogInProtocol) -> String {
    let same_site = match protocol {
        LogInProtocol::Oidc(_) => "Lax",
        LogInProtocol::Saml { .. } => "None",
    };
    let seconds = LOG_IN_TIME.as_secs();
    format!("{name}={sealed}; Path=/; HttpOnly; Secure; SameSite={same_site}; Max-Age={seconds}")
}

/// The value of a `Set-Cookie` field that removes a record. It is removed from another site's POST too.
#[must_use]
pub fn remove_cookie(name: &str) -> String {
    format!("{name}=; Path=/; HttpOnly; Secure; SameSite=None; Max-Age=0")
}

impl LogInRecord {
    /// Seals the record under the first pepper.
    ///
    /// # Errors
    /// [`SignOnFault::NoRandomness`].
    pub fn seal(&self, peppers: &Peppers) -> Result<String, SignOnFault> {
        let (nonce, verifier, request) = match &self.protocol {
            LogInProtocol::Oidc(values) => (Some(values.nonce.text()), Some(values.verifier.text()), None),
            LogInProtocol::Saml { request_id } => (None, None, Some(request_id.clone())),
        };
        let cookie = self.cookie().ok_or(SignOnFault::NoRandomness)?;
        let form = SealedForm {
            i: URL_SAFE_NO_PAD.encode(self.id),
            t: self.tenant.as_str().to_owned(),
            p: self.provider.as_str().to_owned(),
            s: self.state.text(),
            n: nonce,
            v: verifier,
            q: request,
            r: self.return_to.clone(),
            l: self
                .link
                .as_ref()
                .map(|link| [link.surface.as_str(), link.session.as_str(), link.account.as_str()].map(str::to_owned)),
            e: self.expires_at.0,
        };
        // Texts and numbers always become JSON.
        let text = Zeroizing::new(serde_json::to_vec(&form).unwrap_or_default());
        seal(peppers.first(), &scope(&cookie), &text).map_err(|_| SignOnFault::NoRandomness)
    }

    /// The name of its cookie.
    #[must_use]
    pub fn cookie(&self) -> Option<String> {
        cookie_name(&self.state.text())
    }

    /// Opens the record in a cookie of this name. `None`: no gateway has sealed it for this cookie, or its time is over.
    #[must_use]
    pub fn open(cookie: &str, sealed: &str, peppers: &Peppers, now: UnixMillis) -> Option<Self> {
        if sealed.len() > MAX_SEALED {
            return None;
        }
        let text = open(peppers, &scope(cookie), sealed).ok()?;
        let form: SealedForm = serde_json::from_slice(&text).ok()?;
        let value = |text: String| Some(LogInValue::from_bytes(URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?));
        let state = value(form.s)?;
        let record = Self {
            id: URL_SAFE_NO_PAD.decode(form.i).ok()?.try_into().ok()?,
            tenant: TenantId::parse(&form.t).ok()?,
            provider: CredentialId::parse(&form.p).ok()?,
            state,
            protocol: match (form.n, form.v, form.q) {
                (Some(nonce), Some(verifier), None) => LogInProtocol::Oidc(LogInValues {
                    state,
                    nonce: value(nonce)?,
                    verifier: value(verifier)?,
                }),
                (None, None, Some(request_id)) => LogInProtocol::Saml { request_id },
                _ => return None,
            },
            return_to: form.r,
            link: match form.l {
                None => None,
                Some([surface, session, account]) => Some(LinkIntent {
                    surface: SurfaceName::parse(&surface).ok()?,
                    session: CredentialId::parse(&session).ok()?,
                    account: CredentialId::parse(&account).ok()?,
                }),
            },
            expires_at: UnixMillis(form.e),
        };
        (now < record.expires_at).then_some(record)
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

    fn record(protocol: LogInProtocol) -> LogInRecord {
        LogInRecord {
            id: [9; 16],
            tenant: TenantId::parse("acme").unwrap(),
            provider: CredentialId::parse("prv_1").unwrap(),
            state: match &protocol {
                LogInProtocol::Oidc(values) => values.state,
                LogInProtocol::Saml { .. } => LogInValue::random().unwrap(),
            },
            protocol,
            return_to: format!("https://app.example.com/{}", "a".repeat(1_000)),
            link: Some(LinkIntent {
                surface: SurfaceName::parse("session").unwrap(),
                session: CredentialId::parse("ses_1").unwrap(),
                account: CredentialId::parse("acc_1").unwrap(),
            }),
            expires_at: NOW.plus(LOG_IN_TIME),
        }
    }

    fn oidc() -> LogInProtocol {
        LogInProtocol::Oidc(LogInValues::random().unwrap())
    }

    #[test]
    fn b4_a_record_opens_in_its_own_cookie_and_in_no_other() {
        let saml = LogInProtocol::Saml { request_id: "_1".into() };
        let mut linked = false;
        for protocol in [oidc(), saml.clone(), oidc(), saml] {
            let mut record = record(protocol);
            let links = !std::mem::replace(&mut linked, true);
            record.link = record.link.filter(|_| links);
            let name = record.cookie().unwrap();
            let sealed = record.seal(&peppers(&[7])).unwrap();
            let open = |name: &str, sealed: &str, bytes: &[u8], now| LogInRecord::open(name, sealed, &peppers(bytes), now);
            assert_eq!(open(&name, &sealed, &[7], NOW), Some(record.clone()));
            assert_eq!(
                open(&name, &sealed, &[8, 7], NOW),
                Some(record.clone()),
                "the pepper was changed meanwhile"
            );
            assert_eq!(open(&name, &sealed, &[8], NOW), None);
            assert_eq!(open(&name, &sealed, &[7], record.expires_at), None, "its time is over");
            assert_eq!(open(&format!("{LOG_IN_COOKIE}AAAAAAAA"), &sealed, &[7], NOW), None);
            let mut broken = sealed.clone().into_bytes();
            let last = broken.len() - 5;
            broken[last] = if broken[last] == b'A' { b'B' } else { b'A' };
            assert_eq!(open(&name, std::str::from_utf8(&broken).unwrap(), &[7], NOW), None);
            for bad in ["", "v1", "v1..", &"a".repeat(5_000)] {
                assert_eq!(open(&name, bad, &[7], NOW), None, "{bad}");
            }
        }
    }

    #[test]
    fn a_cookie_is_named_after_a_state_of_ours_alone() {
        assert_eq!(cookie_name("abcdefghijkl"), Some(format!("{LOG_IN_COOKIE}abcdefgh")));
        for bad in ["", "short", "abcdefg;", "abcdefgh; Domain=evil", "äbcdefghi", "abcdefgh="] {
            assert_eq!(cookie_name(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_cookie_comes_back_from_the_provider_and_to_nobody_else() {
        let saml = LogInProtocol::Saml { request_id: "_1".into() };
        for (protocol, same_site) in [(oidc(), "Lax"), (saml, "None")] {
            let record = record(protocol);
            let name = record.cookie().unwrap();
            let sealed = record.seal(&peppers(&[7])).unwrap();
            let cookie = set_cookie(&name, &sealed, &record.protocol);
            let wanted = format!("; Path=/; HttpOnly; Secure; SameSite={same_site}; Max-Age=600");
            assert!(
                cookie.starts_with("__Host-durward-sign-on-") && cookie.ends_with(&wanted),
                "{cookie}"
            );
            assert!(cookie.len() < 4_096, "browsers keep it: {}", cookie.len());
            let LogInProtocol::Oidc(values) = &record.protocol else { continue };
            let shown = format!("{record:?}");
            assert!(
                !shown.contains(&values.verifier.text()) && !shown.contains(&values.state.text()),
                "{shown}"
            );
            assert!(remove_cookie(&name).ends_with("Max-Age=0"));
        }
    }
}
