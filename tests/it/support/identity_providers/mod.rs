//! Real identity providers, each a program of its own on a free port: `oidc-provider` (npm), `LemonLDAP::NG` (Debian), `pysaml2`
//! (PyPI). `scripts/test` installs them. All are reached over TLS under one test authority, and end with the value that started them.

mod authority;
mod front;
mod lemonldap;
mod oidc_provider;
mod program;
mod pysaml2;

use serde_json::{Value, json};

pub(crate) use authority::authority;
pub(crate) use front::Front;
pub(crate) use lemonldap::{Encrypt, LemonLdap, RelyingParty};
pub(crate) use oidc_provider::OidcProvider;
pub(crate) use pysaml2::{SamlProvider, SamlServiceProvider};

/// Who can log in at `oidc-provider` and at `pysaml2`: `ann` with groups, `bob` without. Their passwords are not looked at.
pub(crate) fn people() -> Value {
    json!({
        "ann": { "name": "Ann Ada", "email": "ann@acme.example", "email_verified": true, "groups": ["staff", "admins"] },
        "bob": { "name": "Bob Bell", "email": "bob@acme.example", "email_verified": false },
    })
}
