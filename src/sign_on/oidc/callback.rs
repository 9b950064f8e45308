//! The callback: what the browser brings back from the provider (RFC 6749, section 4.1.2; RFC 9207).

use std::fmt;

use zeroize::Zeroizing;

use crate::sign_on::fault::{ProviderText, SignOnFault};

use super::discovery::ProviderMetadata;
use super::form::FormPairs;
use super::request::LogInValue;

/// Longest query of a callback. Codes of large providers have up to 2 KiB.
const MAX_QUERY: usize = 8 * 1024;

/// Longest code.
const MAX_CODE: usize = 4 * 1024;

/// A code that the provider gave for one log-in. It is a secret until it is used.
#[derive(Clone, PartialEq, Eq)]
pub struct AuthorizationCode(Zeroizing<String>);

impl AuthorizationCode {
    /// A code that no provider has given, to see what a provider says to it.
    pub(in crate::sign_on) fn of_nobody() -> Result<Self, SignOnFault> {
        Ok(Self(Zeroizing::new(LogInValue::random()?.text())))
    }

    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for AuthorizationCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthorizationCode(..)")
    }
}

/// What a callback says, before any of it is believed.
#[derive(Debug)]
pub struct Callback {
    state: String,
    issuer: Option<String>,
    code: Option<AuthorizationCode>,
    error: Option<(ProviderText, ProviderText)>,
}

impl Callback {
    /// Reads the query of a callback. Parameters that are not of the protocol are ignored.
    ///
    /// # Errors
    /// [`SignOnFault::CallbackForm`], [`SignOnFault::NoState`].
    pub fn parse(query: &[u8]) -> Result<Self, SignOnFault> {
        let pairs = FormPairs::parse(query, MAX_QUERY).map_err(|_| SignOnFault::CallbackForm)?;
        let one = |name| pairs.one(name).map_err(|_| SignOnFault::CallbackForm);
        let (code, error) = (one("code")?, one("error")?);
        let (issuer, description) = (one("iss")?, one("error_description")?);
        let state = one("state")?.ok_or(SignOnFault::NoState)?;
        // RFC 6749, appendix A.11: visible ASCII and spaces.
        if code.is_some_and(|code| code.len() > MAX_CODE || !code.bytes().all(|b| (b' '..=b'~').contains(&b))) {
            return Err(SignOnFault::CallbackForm);
        }
        Ok(Self {
            state: state.to_owned(),
            issuer: issuer.map(str::to_owned),
            code: code.map(|code| AuthorizationCode(Zeroizing::new(code.to_owned()))),
            error: error.map(|error| (ProviderText::of(error), ProviderText::of(description.unwrap_or("it says no more")))),
        })
    }

    /// The `state`, by which the browser's cookie for this log-in is found.
    #[must_use]
    pub fn state(&self) -> &str {
        &self.state
    }

    /// The code, if the callback belongs to the log-in with this `state` at this provider. An error is believed only then.
    ///
    /// # Errors
    /// [`SignOnFault`].
    pub fn code(self, state: &LogInValue, metadata: &ProviderMetadata) -> Result<AuthorizationCode, SignOnFault> {
        if !state.is(&self.state) {
            return Err(SignOnFault::WrongState);
        }
        match self.issuer {
            Some(issuer) if issuer != metadata.issuer => return Err(SignOnFault::WrongCallbackIssuer(ProviderText::of(&issuer))),
            None if metadata.announces_iss => return Err(SignOnFault::NoCallbackIssuer),
            _ => {}
        }
        match (self.error, self.code) {
            (Some((error, description)), _) => Err(SignOnFault::Refused(error, description)),
            (None, code) => code.ok_or(SignOnFault::NoCode),
        }
    }
}
