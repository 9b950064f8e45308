//! The logout token, with which a provider ends sessions behind the browser's back (OpenID Connect Back-Channel Logout 1.0).

use crate::base::clock::UnixMillis;
use crate::base::ids::Subject;
use crate::decide::external::KeySet;
use crate::decide::token::json::{JsonObject, JsonValue};
use crate::sign_on::fault::SignOnFault;

use super::signed::{MAX_AGE, SKEW, check_common, is_name, verify};

/// The event of the token (section 2.4).
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// What a provider has ended: a session, or all of a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogoutToken {
    /// The `jti`. A token is used once.
    pub id: String,
    /// The person, if it is told.
    pub subject: Option<String>,
    /// The session, if it is told. Without it, all sessions of the person have ended.
    pub session_id: Option<String>,
    /// Until when the `jti` must be remembered: later, the token is too old.
    pub until: UnixMillis,
}

impl LogoutToken {
    /// Verifies a logout token of this issuer for this client.
    ///
    /// # Errors
    /// [`SignOnFault`].
    pub fn verify(token: &str, keys: &KeySet, issuer: &str, client_id: &str, now: UnixMillis) -> Result<Self, SignOnFault> {
        // Older providers write `JWT`; `events` and `nonce` then tell it from an ID token.
        let token = verify(token, keys, &["logout+jwt", "JWT"])?;
        let claims = JsonObject::parse(&token.payload).map_err(SignOnFault::Token)?;
        check_common(&claims, issuer, client_id, now)?;
        if claims.find("nonce").is_some() {
            return Err(SignOnFault::LogOutMember("it has `nonce`, so it is an ID token"));
        }
        let is_log_out = matches!(claims.find("events"), Some(JsonValue::Object(events))
            if events.iter().any(|(name, value)| name == EVENT && matches!(value, JsonValue::Object(_))));
        if !is_log_out {
            return Err(SignOnFault::LogOutMember("`events` does not have the event of back-channel logout"));
        }
        let name = |member: &'static str, fault: &'static str| match claims.find(member) {
            None | Some(JsonValue::Null) => Ok(None),
            Some(JsonValue::Text(text)) if is_name(text) => Ok(Some(text.to_string())),
            Some(_) => Err(SignOnFault::LogOutMember(fault)),
        };
        let id = name("jti", "`jti` is not a text of 1 to 255 characters")?.ok_or(SignOnFault::LogOutMember("`jti` is missing"))?;
        let session_id = name("sid", "`sid` is not a text of 1 to 255 characters")?;
        let subject = match claims.find("sub") {
            None | Some(JsonValue::Null) => None,
            Some(value) => {
                let text = value.text().filter(|text| Subject::parse(text).is_ok());
                Some(text.ok_or(SignOnFault::Subject)?.to_owned())
            }
        };
        if session_id.is_none() && subject.is_none() {
            return Err(SignOnFault::LogOutMember("it has neither `sid` nor `sub`"));
        }
        Ok(Self {
            id,
            subject,
            session_id,
            // Its `iat` is at most a skew ahead of now, and it is taken for MAX_AGE and a skew after it.
            until: now.plus(MAX_AGE).plus(SKEW).plus(SKEW),
        })
    }
}
