//! Single sign-on.

mod oidc;
