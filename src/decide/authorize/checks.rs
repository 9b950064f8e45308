//! The names of everything that is checked before a request is forwarded, in the words in which `explain` tells it.

use crate::base::denial::Denial;

macro_rules! checks {
    ($($check:ident $label:literal $question:literal;)*) => {
        /// One check of a request. The checks are listed in the order in which a request meets them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Check {
            $($check,)*
        }

        impl Check {
            /// Every check, in order.
            pub const ALL: &'static [Self] = &[$(Self::$check,)*];

            /// Its name in JSON. It stays the same between versions.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$check => $label,)*
                }
            }

            /// What is asked.
            #[must_use]
            pub const fn question(self) -> &'static str {
                match self {
                    $(Self::$check => $question,)*
                }
            }
        }
    };
}

checks! {
    Head "head" "the head is HTTP, and its framing is clear";
    Headers "headers" "no header imitates a protected one";
    Method "method" "the method is known";
    Target "target" "the request target can be read in one way only";
    Host "host" "the host is served on this connection";
    Preflight "preflight" "the CORS policy grants the preflight";
    Route "route" "a route takes host, path and method";
    Spelling "spelling" "the route takes this spelling of the path";
    AddressLimit "address_limit" "the address is within its rate limits";
    Credential "credential" "one credential of an accepted surface is presented";
    Facts "facts" "the credential is known, and its facts are fresh";
    Surface "surface" "the route accepts the surface";
    Possession "possession" "the presented credential proves its record";
    Mode "mode" "the modes agree";
    Force "force" "the credential, what it hangs on and its tenant are in force";
    Origin "origin" "the request is not another site's";
    Scopes "scopes" "the scopes cover what the route needs";
    Tenant "tenant" "the path names no other tenant";
    CallerLimit "caller_limit" "the caller is within its rate limits";
    Length "length" "the body is not too large";
}

impl Check {
    /// The checks that refuse for this reason, the usual one first. None for what is decided after the checks: by the
    /// service, by a served route, or by the load of the moment.
    #[must_use]
    pub const fn of_denial(denial: Denial) -> &'static [Self] {
        match denial {
            Denial::MalformedRequest
            | Denial::MalformedFraming
            | Denial::RequestTimeout
            | Denial::HeadTooLarge
            | Denial::UnsupportedCoding
            | Denial::UnsupportedVersion => &[Self::Head],
            Denial::TargetTooLong => &[Self::Head, Self::Target],
            Denial::ForgedHeader | Denial::ExpectationFailed => &[Self::Headers],
            Denial::MalformedTarget => &[Self::Target, Self::Spelling],
            Denial::MalformedHost => &[Self::Target],
            Denial::Misdirected => &[Self::Host],
            Denial::CorsOrigin => &[Self::Preflight, Self::Origin],
            Denial::CorsMethod | Denial::CorsHeader => &[Self::Preflight],
            Denial::NoRoute => &[Self::Route],
            Denial::MethodNotAllowed => &[Self::Route, Self::Method],
            Denial::RateLimited => &[Self::CallerLimit, Self::AddressLimit],
            Denial::MissingCredential | Denial::AmbiguousCredentials | Denial::MalformedCredential | Denial::MisplacedCredential => {
                &[Self::Credential]
            }
            Denial::WrongSurface => &[Self::Credential, Self::Surface],
            Denial::UnknownCredential => &[Self::Facts],
            Denial::InvalidToken => &[Self::Facts, Self::Force],
            Denial::StoreUnavailable | Denial::CorruptRecord => &[
                Self::Facts,
                Self::Surface,
                Self::Tenant,
                Self::AddressLimit,
                Self::CallerLimit,
                Self::Length,
            ],
            Denial::WrongSecret => &[Self::Possession],
            Denial::WrongMode => &[Self::Mode, Self::Credential],
            Denial::RevokedCredential
            | Denial::DisabledCredential
            | Denial::ExpiredCredential
            | Denial::EarlyCredential
            | Denial::InactiveTenant => &[Self::Force],
            Denial::CrossSite => &[Self::Origin],
            Denial::InsufficientScope => &[Self::Scopes],
            Denial::ForeignTenant => &[Self::Tenant],
            Denial::BodyTooLarge => &[Self::Length],
            Denial::InvalidBody
            | Denial::WrongMediaType
            | Denial::InvalidFields
            | Denial::NotFound
            | Denial::Taken
            | Denial::TooManyCredentials
            | Denial::RefusedByService
            | Denial::SignOnInvalid
            | Denial::SignOnRefused
            | Denial::NoRole
            | Denial::ProviderFailed
            | Denial::NotRecordable
            | Denial::Overloaded
            | Denial::UpstreamUnreachable
            | Denial::UpstreamTimeout
            | Denial::UpstreamInvalid
            | Denial::Internal => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_has_a_name_of_its_own() {
        let mut labels: Vec<&str> = Check::ALL.iter().map(|check| check.label()).collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), Check::ALL.len());
        assert!(Check::ALL.iter().all(|check| !check.question().is_empty()));
    }
}
