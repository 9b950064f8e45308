//! What a served route of single sign-on does: data that `config` builds and checks, and `issue` runs.

use std::sync::Arc;

use crate::base::ids::TenantId;
use crate::decide::external::FetchAddresses;
use crate::decide::return_to::ReturnRules;

use super::served_route::{Extent, Mint};

/// What all routes of single sign-on share.
#[derive(Debug)]
pub struct SignOnSettings {
    /// Scheme and host under which browsers and providers reach the gateway. It is configured, since a `Host` header
    /// is written by whoever sends a request.
    pub public_url: String,
    /// Where a browser may be sent after a sign-on or a log-out.
    pub return_to: ReturnRules,
    /// Whom people ask, as pages write it.
    pub contact: String,
    /// How servers of providers are verified.
    pub tls: Arc<rustls::ClientConfig>,
    /// The addresses that they may have.
    pub addresses: FetchAddresses,
}

/// One step of single sign-on.
#[derive(Debug)]
pub struct SignOnRoute {
    pub settings: Arc<SignOnSettings>,
    pub step: SignOnStep,
}

/// What the route does.
#[derive(Debug)]
pub enum SignOnStep {
    /// Sends a browser to the identity provider, or lets people choose among several.
    Start(StartStep),
    /// Takes the code of an OIDC provider, and makes a session.
    FinishOidc(FinishStep),
    /// Takes the response of a SAML provider, and makes a session.
    FinishSaml(FinishStep),
    /// Ends what a SAML provider says by redirect has ended there, and takes its answers to our log-outs.
    SamlLogOut(SamlLogOutStep),
    /// Tells a SAML provider about us.
    SamlMetadata {
        /// The path parameter with the tenant.
        tenant: String,
        /// Where responses are sent, and messages of single logout by POST.
        finish: RouteUrl,
        /// Where messages of single logout are sent by redirect; `None`: they are taken by POST alone.
        log_out: Option<RouteUrl>,
        /// The address of this route, which is our name.
        own: RouteUrl,
    },
    /// Ends the caller's session here, and sends the browser to the provider, which ends its own.
    LogOut {
        extent: Extent,
        /// The routes by which SAML providers know us; `None`: sessions at such providers are left.
        saml: Option<SamlUrls>,
    },
    /// Ends what a provider says has ended there.
    BackChannel {
        /// The path parameter with the tenant.
        tenant: String,
    },
}

/// How a sign-on begins.
#[derive(Debug)]
pub struct StartStep {
    pub tenant: StartTenant,
    /// The route that takes the codes of OIDC providers; `None`: such providers are not offered.
    pub oidc: Option<RouteUrl>,
    /// The route that takes the responses of SAML providers; `None`: such providers are not offered.
    pub saml: Option<SamlUrls>,
}

/// The routes that a SAML provider knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SamlUrls {
    pub finish: RouteUrl,
    /// The route with our metadata, whose address is our name unless the provider's settings have another one. `None`:
    /// then the address of `finish` is.
    pub metadata: Option<RouteUrl>,
}

/// What takes the messages of single logout that come by redirect.
#[derive(Debug)]
pub struct SamlLogOutStep {
    /// The path parameter with the tenant.
    pub tenant: String,
    /// The address of this route.
    pub url: RouteUrl,
    /// The routes whose addresses are our name.
    pub urls: SamlUrls,
}

/// Whose providers a sign-on may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartTenant {
    /// Those of the tenant in this path parameter.
    Path(String),
    /// Those to which the domain of the e-mail address in the query belongs.
    EmailDomain,
}

/// How a sign-on ends.
#[derive(Debug)]
pub struct FinishStep {
    /// The path parameter with the tenant; `None`: the sign-on that was begun says which tenant it is.
    pub tenant: Option<String>,
    /// The session. It is set as a cookie.
    pub mint: Mint,
    /// The address of this route.
    pub url: RouteUrl,
    /// Of SAML: the address of our metadata.
    pub metadata: Option<RouteUrl>,
}

/// The address of a route, for one tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteUrl {
    /// Scheme and host.
    pub public_url: String,
    /// The pattern of the path. It has no parameter but that of the tenant.
    pub pattern: String,
}

impl RouteUrl {
    /// The address for a tenant. The id of a tenant consists of characters that stand in a path as themselves.
    #[must_use]
    pub fn of(&self, tenant: &TenantId) -> String {
        let segments = self
            .pattern
            .split('/')
            .map(|segment| if segment.starts_with('{') { tenant.as_str() } else { segment });
        let path: Vec<&str> = segments.collect();
        format!("{}{}", self.public_url, path.join("/"))
    }
}

impl SignOnStep {
    #[must_use]
    pub fn mints(&self) -> &[Mint] {
        match self {
            Self::FinishOidc(finish) | Self::FinishSaml(finish) => std::slice::from_ref(&finish.mint),
            Self::Start(_) | Self::SamlLogOut(_) | Self::SamlMetadata { .. } | Self::LogOut { .. } | Self::BackChannel { .. } => &[],
        }
    }

    /// Whether people see the answers of this step in a browser. Providers and programs see those of the others.
    #[must_use]
    pub const fn is_seen_by_people(&self) -> bool {
        match self {
            Self::Start(_) | Self::FinishOidc(_) | Self::FinishSaml(_) | Self::SamlLogOut(_) | Self::LogOut { .. } => true,
            Self::SamlMetadata { .. } | Self::BackChannel { .. } => false,
        }
    }

    /// Whether sessions end by this step, and nobody signs on.
    #[must_use]
    pub const fn logs_out(&self) -> bool {
        matches!(self, Self::SamlLogOut(_) | Self::LogOut { .. } | Self::BackChannel { .. })
    }

    /// The method of its requests.
    #[must_use]
    pub const fn method(&self) -> &'static str {
        match self {
            Self::Start(_) | Self::FinishOidc(_) | Self::SamlLogOut(_) | Self::SamlMetadata { .. } => "GET",
            Self::FinishSaml(_) | Self::LogOut { .. } | Self::BackChannel { .. } => "POST",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_a_route_names_the_tenant() {
        let url = |pattern: &str| RouteUrl {
            public_url: "https://api.example.com".into(),
            pattern: pattern.into(),
        };
        let acme = TenantId::parse("acme").unwrap();
        assert_eq!(
            url("/v1/auth/saml/{tenantId}/acs").of(&acme),
            "https://api.example.com/v1/auth/saml/acme/acs"
        );
        assert_eq!(
            url("/v1/auth/sso/callback").of(&acme),
            "https://api.example.com/v1/auth/sso/callback"
        );
    }
}
