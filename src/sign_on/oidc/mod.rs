//! OpenID Connect as a relying party (OpenID Connect Core 1.0, authorization code with PKCE): pure functions over bytes and the time.

pub mod callback;
pub mod claims;
pub mod client_key;
pub mod discovery;
mod form;
pub mod id_token;
pub mod log_out;
pub mod logout_token;
pub mod request;
mod signed;
pub mod token;
pub mod userinfo;

pub use callback::{AuthorizationCode, Callback};
pub use client_key::ClientKey;
pub use discovery::ProviderMetadata;
pub use id_token::{IdToken, IdTokenRules};
pub use log_out::log_out_url;
pub use logout_token::LogoutToken;
pub use request::{ClientAuthentication, LogInValue, LogInValues, OidcClient};
pub use token::{SentSecrets, TokenAnswer, TokenRequest};
pub use userinfo::UserInfo;
