//! Why a sign-on was refused: a stable word for logs and the audit trail, and a sentence that an administrator can act on.

use std::fmt;

use crate::base::credential::TokenFault;
use crate::decide::external::KeySetError;
use crate::fetch::{FetchFault, InvalidUrl};

use super::saml::SamlFault;
use super::seal::SealError;

/// Most characters of a provider's own words in one fault, as they are written.
const MAX_PROVIDER_TEXT: usize = 200;

/// Words of a provider or a browser as a fault may hold them: bounded, and every control or other odd character escaped. Never a
/// secret: no code, token or password is made one.
#[derive(Clone, PartialEq, Eq)]
pub struct ProviderText(String);

impl ProviderText {
    /// The beginning of a text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let (mut kept, mut length) = (String::new(), 0);
        for c in text.chars() {
            let is_plain = matches!(c, ' '..='~') || c.is_alphanumeric();
            let written = if is_plain { c.to_string() } else { c.escape_default().to_string() };
            length += written.chars().count();
            if length > MAX_PROVIDER_TEXT {
                kept.push('\u{2026}');
                break;
            }
            kept.push_str(&written);
        }
        Self(kept)
    }

    #[cfg(any(test, feature = "internals"))]
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProviderText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ProviderText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// What a provider was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProviderPart {
    /// Its configuration (OpenID Connect Discovery 1.0).
    Discovery,
    /// Its public keys.
    Keys,
    /// Tokens for an authorization code.
    Tokens,
    /// Claims about the person.
    UserInfo,
    /// Its SAML metadata.
    SamlMetadata,
}

impl ProviderPart {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Discovery => "its configuration (`/.well-known/openid-configuration`)",
            Self::Keys => "its public keys (`jwks_uri`)",
            Self::Tokens => "its token endpoint",
            Self::UserInfo => "its userinfo endpoint",
            Self::SamlMetadata => "its SAML metadata",
        }
    }
}

impl fmt::Display for ProviderPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who has to act on a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultSide {
    /// The browser sent something else than what its log-in needs: begun elsewhere, sent twice, changed, or attacked.
    Browser,
    /// The provider says something that is not taken.
    Provider,
    /// The provider, or a part of this gateway, does not answer now. Trying again may help.
    Unavailable,
    /// The settings of the provider here do not fit to the provider.
    Settings,
    /// The provider has proven who the person is, and the person may not come in.
    Person,
}

macro_rules! faults {
    ($($(#[$($doc:tt)*])* $fault:ident $(($($part:ty),+))? $label:literal $side:ident $text:literal;)*) => {
        /// Why a sign-on was refused. Nothing in it is a secret.
        #[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
        pub enum SignOnFault {
            /// A SAML message was refused; the reason has a label and a side of its own.
            #[error("{0}")]
            Saml(SamlFault),
            $($(#[$($doc)*])* #[error($text)] $fault $(($($part),+))?,)*
        }

        impl SignOnFault {
            /// Every label, once.
            #[cfg(any(test, feature = "internals"))]
            pub const LABELS: &'static [&'static str] = &[$($label,)*];

            /// The word in logs and in `cause` of the audit trail. It stays the same between versions.
            #[must_use]
            pub const fn label(&self) -> &'static str {
                match self {
                    Self::Saml(fault) => fault.label(),
                    $(Self::$fault { .. } => $label,)*
                }
            }

            /// Who has to act.
            #[must_use]
            pub const fn side(&self) -> FaultSide {
                match self {
                    Self::Saml(fault) => fault.side(),
                    $(Self::$fault { .. } => FaultSide::$side,)*
                }
            }
        }
    };
}

faults! {
    // The way to the provider.
    /// A question to the provider brought no answer.
    Fetch(ProviderPart, FetchFault) "provider_unreachable" Unavailable
        "the provider did not give {0}: {1}";
    /// More questions to providers at a time than this gateway asks.
    Busy "provider_busy" Unavailable
        "too many sign-ons wait for an answer of their provider; try again in a moment";
    /// The system gave no random bytes.
    NoRandomness "no_randomness" Unavailable
        "this machine gives no random numbers";

    // The configuration of the provider.
    /// The issuer of the settings is no URL.
    IssuerUrl(InvalidUrl) "issuer_url" Settings
        "the issuer is not a URL that can be asked: {0}";
    /// The issuer of the settings has a query.
    IssuerQuery "issuer_query" Settings
        "the issuer has a query or a fragment; an issuer has neither (OpenID Connect Discovery 1.0, section 3)";
    /// The provider's configuration is not one JSON object.
    MetadataForm(TokenFault) "metadata_form" Provider
        "the provider's configuration is not one JSON object ({0}); is the issuer's URL right?";
    /// The provider's keys cannot be used.
    KeySet(KeySetError) "key_set" Provider
        "the provider's public keys (`jwks_uri`) cannot be used: {0}";
    /// The URL of SAML metadata is none.
    SamlMetadataUrl(InvalidUrl) "saml_metadata_url" Settings
        "the URL of the SAML metadata cannot be asked: {0}";
    /// The configuration is that of another issuer.
    MetadataIssuer(ProviderText) "metadata_issuer" Settings
        "the provider's configuration is of the issuer `{0}`; write exactly this text as issuer, if it is the provider that is meant";
    /// A member of the configuration is missing or of another type.
    MetadataMember(&'static str) "metadata_member" Provider
        "`{0}` is missing in the provider's configuration, or is not of its type";
    /// An endpoint is no URL that may be used.
    MetadataUrl(&'static str, InvalidUrl) "metadata_url" Provider
        "`{0}` of the provider's configuration cannot be used: {1}";
    /// An endpoint has a parameter that we append.
    MetadataParameter(&'static str) "metadata_parameter" Provider
        "`{0}` of the provider's configuration has a query with a parameter of the protocol";
    /// The provider does not do what sign-on needs.
    MetadataLacks(&'static str) "metadata_lacks" Provider
        "by its configuration the provider does not support {0}";

    // What the browser brings back.
    /// The callback's query cannot be read.
    CallbackForm "callback_form" Browser
        "the query of the callback cannot be read: it is too long, not UTF-8, or says one parameter twice";
    /// The callback has no `state`.
    NoState "no_state" Browser
        "the callback has no `state`: it does not come from a log-in that was begun here";
    /// The callback's `state` is that of another log-in.
    WrongState "wrong_state" Browser
        "the callback's `state` is not that of this browser's log-in: it belongs to another log-in or browser, or was made up";
    /// The provider announces `iss` in its callbacks and this one has none.
    NoCallbackIssuer "no_callback_issuer" Browser
        "the callback has no `iss`, which the provider announces (RFC 9207): it may come from another provider";
    /// The callback comes from another provider.
    WrongCallbackIssuer(ProviderText) "wrong_callback_issuer" Browser
        "the callback says `iss` `{0}`, which is another provider than the log-in was begun with (mix-up, RFC 9207)";
    /// The callback has neither a code nor an error.
    NoCode "no_code" Browser
        "the callback has neither `code` nor `error`";
    /// The provider ended the log-in with an error.
    Refused(ProviderText, ProviderText) "provider_refused" Provider
        "the provider ended the log-in with the error `{0}`: {1}";

    // The start, and the log-in record of the browser.
    /// The query of a start cannot be read.
    StartForm "start_form" Browser
        "the query of the start cannot be read: `provider`, `email` and `return_to` may be there once each, and in their form";
    /// The address to return to is not listed.
    ReturnTo "return_to" Browser
        "the address in `return_to` is not within one that `[sign_on]` lists; list its origin, or its origin and path";
    /// There is no active provider that the request could mean.
    NoProvider "no_provider" Browser
        "the tenant has no active provider that this route can use, or the one that was named is another tenant's";
    /// No provider has the domain of an address.
    UnknownDomain "unknown_domain" Browser
        "no active provider has the domain of this e-mail address";
    /// Providers of several tenants have the domain of an address.
    DomainOfSeveral "domain_of_several" Settings
        "providers of several tenants claim the domain of this e-mail address; it belongs to one tenant: take it from the others";
    /// The browser has no record of this log-in.
    NoLogIn "no_log_in" Browser
        "this browser has no record of this log-in: it was begun in another browser or more than ten minutes ago, or the browser \
         keeps no cookies";
    /// The record of the log-in was used.
    LogInUsed "log_in_used" Browser
        "this log-in was finished already: its answer came a second time";
    /// The path names another tenant than that of the log-in.
    WrongTenant "wrong_tenant" Browser
        "the path names another tenant than the one whose log-in was begun";
    /// The form has no SAML response.
    NoSamlResponse "no_saml_response" Browser
        "the form has no `SAMLResponse`";
    /// The browser has no record of this log-out.
    NoLogOut "no_log_out" Browser
        "this browser has no record of the log-out that the provider answers: it was begun in another browser or more than ten \
         minutes ago, or the browser keeps no cookies";
    /// The sign-on does not know how the provider calls it.
    NoLogOutName "no_log_out_name" Settings
        "the sign-on does not have the provider's name for it: it was made before the provider's settings had an address for \
         log-outs, the name is longer than 1 KiB, or the pepper under which it was sealed is gone";
    /// Several providers may begin sign-ons.
    SeveralMayBegin "several_may_begin" Settings
        "the response answers no sign-on of this browser, and several SAML providers of the tenant may begin one; allow it to one";
    /// The log-in was begun by another protocol.
    WrongProtocol "wrong_protocol" Browser
        "the answer came by another protocol than that of the provider";

    // The provider here.
    /// The provider was disabled or deleted.
    ProviderEnded "provider_ended" Settings
        "the provider is disabled or was deleted";
    /// The provider was changed while the log-in went on.
    SettingsChanged "settings_changed" Browser
        "the provider or its settings were changed while this log-in went on; begin it again";
    /// The provider's sessions are of another surface than those of the route.
    WrongSessionSurface "wrong_session_surface" Settings
        "the provider is for sessions of another surface than the one that this route makes; make it with `--surface` of that one";
    /// The account surface of the provider is none.
    NoAccountSurface "no_account_surface" Settings
        "the provider's settings name a surface for accounts that is not in the configuration, or not of kind `account`";
    /// A secret of the provider is not there.
    NoSecret "no_secret" Settings
        "the provider has no client secret or key for its way of authentication";
    /// A secret of the provider cannot be opened.
    Sealed(SealError) "sealed" Settings
        "a secret of the provider cannot be opened: {0}; set it again with `durward providers update`";

    // Tokens.
    /// The provider did not take the client's authentication.
    ClientRefused(ProviderText) "client_refused" Settings
        "the provider did not take this gateway's client secret or key (`invalid_client`): {0}; is it right and not expired, and is \
         the way of authentication the one that the provider expects?";
    /// The provider did not take the code.
    CodeRefused(ProviderText) "code_refused" Browser
        "the provider did not take the code (`invalid_grant`): {0}; it was used before, has expired, is of another client or browser, \
         or the callback's URL is not the registered one";
    /// The token endpoint answered another error.
    TokensRefused(ProviderText, ProviderText) "tokens_refused" Provider
        "the token endpoint answered the error `{0}`: {1}";
    /// The token endpoint's answer is not one JSON object.
    TokenAnswerForm(TokenFault) "token_answer_form" Provider
        "the answer of the token endpoint is not one JSON object ({0})";
    /// A member of the token endpoint's answer is missing or of another type.
    TokenAnswerMember(&'static str) "token_answer_member" Provider
        "`{0}` is missing in the answer of the token endpoint, or is not what OpenID Connect demands";
    /// Tokens for a code that nobody was given.
    TokensForNobody "tokens_for_nobody" Provider
        "the token endpoint gave tokens for a code that was made up: whoever asks it is anybody";
    /// No key is for an algorithm of the settings.
    NoKeyOfAlgorithms "no_key_of_algorithms" Settings
        "no key of the provider is for an algorithm that the settings take (`id_token_algs`)";
    /// The client's private key cannot be used.
    ClientKey "client_key" Settings
        "the private key of `private_key_jwt` cannot be used: it must be a PKCS#8 key in PEM, of RSA with 2048 to 4096 bits, P-256, or \
         Ed25519";
    /// The client's id or secret cannot be sent.
    ClientText "client_text" Settings
        "the client's id or secret is empty, or too long to be sent";

    // ID tokens and logout tokens.
    /// The token's form, key or signature is not that of the provider.
    Token(TokenFault) "token" Provider
        "the provider's token is not taken: {0}";
    /// The token has no signature.
    Unsigned "unsigned" Provider
        "the provider's token is not signed (`alg` `none`)";
    /// The token is signed with a way that is not taken.
    TokenAlgorithm(ProviderText) "token_algorithm" Provider
        "the provider's token names the algorithm `{0}`, which is not that of the provider's key; register this client for RS256, ES256 \
         or EdDSA (a token that is signed with the client secret is not taken)";
    /// `iss` of the token is another issuer.
    TokenIssuer "token_issuer" Provider
        "the token is of another issuer";
    /// The token is for another client.
    TokenAudience "token_audience" Provider
        "the token is for another client: `aud` does not name the client's id";
    /// The token was issued to another party.
    TokenParty "token_party" Provider
        "the token was issued to another client (`azp`), or is for several and does not say to whom it was issued";
    /// The token has expired.
    TokenExpired(Ago) "token_expired" Provider
        "the token expired {0} by this gateway's clock; if it is new, one of the two clocks is wrong";
    /// The token is from the future.
    TokenFuture(Ahead) "token_future" Provider
        "the token is dated {0} by this gateway's clock; one of the two clocks is wrong";
    /// The token is not new.
    TokenOld(Ago) "token_old" Provider
        "the token was issued {0} by this gateway's clock, and a new one was expected; if it is new, one of the two clocks is wrong";
    /// The token has no `nonce`.
    NoNonce "no_nonce" Provider
        "the ID token has no `nonce`: it was not made for a log-in that was begun here";
    /// The token's `nonce` is that of another log-in.
    WrongNonce "wrong_nonce" Browser
        "the ID token's `nonce` is not that of this browser's log-in: the code or the token comes from another log-in";
    /// `at_hash` is not that of the access token.
    AccessTokenHash "access_token_hash" Provider
        "`at_hash` of the ID token is not the hash of the access token that came with it";
    /// `auth_time` is missing where `max_age` was asked for.
    NoAuthTime "no_auth_time" Provider
        "the ID token has no `auth_time`, though `max_age` was asked for";
    /// The person logged in too long ago.
    AuthTimeOld(Ago) "auth_time_old" Provider
        "the person logged in at the provider {0}, longer ago than `max_age` allows";
    /// The log-in is not of a wanted kind.
    WrongAcr "wrong_acr" Provider
        "`acr` of the ID token is missing or none of `acr_values`: the provider did not log the person in in a wanted way";
    /// Userinfo is not one JSON object.
    UserInfoForm(TokenFault) "userinfo_form" Provider
        "the answer of the userinfo endpoint is not one JSON object ({0})";
    /// Userinfo is about another person.
    UserInfoSubject "userinfo_subject" Provider
        "the userinfo endpoint told about another person than the ID token (`sub`)";

    // Logout tokens.
    /// The request of the provider has no logout token.
    LogOutForm "log_out_form" Provider
        "the request is not a form with one `logout_token`";
    /// A member of the logout token is missing or must not be there.
    LogOutMember(&'static str) "log_out_member" Provider
        "the logout token is not taken: {0}";

    /// The logout token was used.
    LogOutReplayed "log_out_replayed" Provider
        "the logout token was used before (`jti`)";

    // The person.
    /// A claim that is needed is missing.
    MissingClaim(ProviderText) "missing_claim" Settings
        "the claim `{0}` is missing, or is not a text: the provider must be configured to send it";
    /// The subject cannot be an identity.
    Subject "subject" Provider
        "the subject is empty, longer than 255 characters, or holds a control character";
    /// No row of the table gives the person a role.
    NoRole "no_role" Person
        "the person has no value that gives a role by the provider's table; add one at the provider, or a row to the table";
    /// The person has no account here.
    NotProvisioned "not_provisioned" Person
        "the person has never signed on, and the provider's settings make no accounts (`provision`)";
    /// The person's account was disabled.
    PersonDisabled "person_disabled" Person
        "the person's account here is disabled, or has expired";
    /// The person's account was ended.
    PersonRevoked "person_revoked" Person
        "the person's account here was revoked, which is for ever";
    /// The session at the provider has ended.
    SessionEnded "session_ended" Person
        "the provider has ended this session, or all sessions of the person were ended while this log-in went on";
    /// The session at the provider is that of another person.
    SessionOfAnother "session_of_another" Provider
        "the provider names a session that it gave to another person";
    /// The claims that are kept are too large.
    ClaimsTooLarge "claims_too_large" Settings
        "the claims that the settings keep are too many, too long, or have names that no record takes";
    /// More roles than a record may have.
    TooManyRoles "too_many_roles" Settings
        "the table of roles gives this person more than 16 roles";
}

/// A time in the past, as sentences tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ago(pub i64);

impl fmt::Display for Ago {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_span(f, self.0)?;
        f.write_str(" ago")
    }
}

/// A time in the future, as sentences tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ahead(pub i64);

impl fmt::Display for Ahead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_span(f, self.0)?;
        f.write_str(" ahead")
    }
}

/// Milliseconds in the two largest units.
fn write_span(f: &mut fmt::Formatter<'_>, millis: i64) -> fmt::Result {
    let seconds = millis.max(0) / 1000;
    match seconds {
        0..120 => write!(f, "{seconds} s"),
        120..7200 => write!(f, "{} min", seconds / 60),
        7200..172_800 => write!(f, "{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => write!(f, "{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_is_a_word_of_its_own() {
        let mut labels = SignOnFault::LABELS.to_vec();
        assert!(
            labels
                .iter()
                .all(|label| label.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
        );
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), SignOnFault::LABELS.len());
    }

    #[test]
    fn what_a_provider_says_is_bounded_and_writes_no_line_of_its_own() {
        assert_eq!(ProviderText::of("AADSTS50105: not assigned").as_str(), "AADSTS50105: not assigned");
        assert_eq!(ProviderText::of("J\u{fc}rgen").as_str(), "J\u{fc}rgen");
        assert_eq!(ProviderText::of("a\r\nb\u{202e}\u{9b}").as_str(), "a\\r\\nb\\u{202e}\\u{9b}");
        let length = |text: &str| ProviderText::of(text).as_str().chars().count();
        assert_eq!(length(&"x".repeat(MAX_PROVIDER_TEXT)), MAX_PROVIDER_TEXT);
        assert_eq!(length(&"x".repeat(100_000)), MAX_PROVIDER_TEXT + 1);
        assert!(length(&"\u{7f}".repeat(100_000)) <= MAX_PROVIDER_TEXT + 1, "as it is written");
    }

    #[test]
    fn a_wrong_clock_is_told_with_how_wrong_it_is() {
        for (fault, words) in [
            (SignOnFault::TokenExpired(Ago(61_000)), "expired 61 s ago"),
            (SignOnFault::TokenFuture(Ahead(3_600_000)), "dated 60 min ahead"),
            (SignOnFault::TokenOld(Ago(7_500_000)), "issued 2 h 5 min ago"),
            (SignOnFault::AuthTimeOld(Ago(3 * 86_400_000)), "3 days ago"),
        ] {
            assert!(fault.to_string().contains(words), "{fault}");
        }
    }
}
