//! Userinfo (OpenID Connect Core 1.0, section 5.3): claims that the ID token lacks.

use std::fmt;

use crate::decide::token::json::{JsonObject, JsonValue};
use crate::sign_on::fault::SignOnFault;
use crate::sign_on::person::{GivenRoles, PersonRules};

use super::claims::JsonClaims;

/// Longest answer. It holds at most what an ID token holds.
pub const MAX_USERINFO_LEN: usize = 64 * 1024;

/// The answer of a userinfo endpoint about the person of an ID token.
pub struct UserInfo(Vec<u8>);

impl fmt::Debug for UserInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserInfo(..)")
    }
}

impl UserInfo {
    /// Reads an answer in JSON, which must be about this subject. Otherwise the claims of one person could be given to another
    /// (section 5.3.2).
    ///
    /// # Errors
    /// [`SignOnFault::UserInfoForm`], [`SignOnFault::UserInfoSubject`].
    pub fn parse(json: &[u8], subject: &str) -> Result<Self, SignOnFault> {
        let members = JsonObject::parse(json).map_err(SignOnFault::UserInfoForm)?;
        if members.find("sub").and_then(JsonValue::text) != Some(subject) {
            return Err(SignOnFault::UserInfoSubject);
        }
        Ok(Self(json.to_vec()))
    }

    /// What the provider's table gives the person of a refreshed sign-on, where no ID token came.
    ///
    /// # Errors
    /// [`SignOnFault`].
    pub fn given_roles(&self, rules: &PersonRules) -> Result<Option<GivenRoles>, SignOnFault> {
        let claims = self.claims()?;
        rules.given_roles(&JsonClaims {
            first: &claims,
            second: None,
        })
    }

    pub(super) fn claims(&self) -> Result<JsonObject<'_>, SignOnFault> {
        JsonObject::parse(&self.0).map_err(SignOnFault::UserInfoForm)
    }
}
