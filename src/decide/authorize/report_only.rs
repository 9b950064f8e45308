//! Which refusals a route with `insecure_report_only` only reports.

use crate::base::denial::Denial;

/// Whether a route that only reports forwards a request that is refused for this reason.
///
/// It forwards what is refused because of who the caller is or is not, also when nobody can tell because the store does not
/// answer: before durward stood there, the request would have been served. It does not forward what protects the service
/// whoever calls: unclear HTTP, sizes, rate limits, overload. Those stay refused, since a request that two programs read
/// differently must not be sent on.
#[must_use]
pub const fn is_reported_only(denial: Denial) -> bool {
    match denial {
        Denial::AmbiguousCredentials
        | Denial::MissingCredential
        | Denial::MalformedCredential
        | Denial::WrongSurface
        | Denial::MisplacedCredential
        | Denial::WrongMode
        | Denial::UnknownCredential
        | Denial::WrongSecret
        | Denial::RevokedCredential
        | Denial::DisabledCredential
        | Denial::ExpiredCredential
        | Denial::EarlyCredential
        | Denial::InvalidToken
        | Denial::InactiveTenant
        | Denial::InsufficientScope
        | Denial::ForeignTenant
        | Denial::CrossSite
        | Denial::StoreUnavailable
        | Denial::CorruptRecord => true,
        Denial::NotRecordable
        | Denial::MalformedRequest
        | Denial::MalformedTarget
        | Denial::MalformedHost
        | Denial::MalformedFraming
        | Denial::ForgedHeader
        | Denial::InvalidBody
        | Denial::RequestTimeout
        | Denial::BodyTooLarge
        | Denial::TargetTooLong
        | Denial::WrongMediaType
        | Denial::ExpectationFailed
        | Denial::Misdirected
        | Denial::InvalidFields
        | Denial::HeadTooLarge
        | Denial::UnsupportedCoding
        | Denial::UnsupportedVersion
        | Denial::NoRoute
        | Denial::NotFound
        | Denial::MethodNotAllowed
        | Denial::Taken
        | Denial::TooManyCredentials
        | Denial::RefusedByService
        | Denial::SignOnInvalid
        | Denial::SignOnRefused
        | Denial::NoRole
        | Denial::ProviderFailed
        | Denial::CorsOrigin
        | Denial::CorsMethod
        | Denial::CorsHeader
        | Denial::RateLimited
        | Denial::Overloaded
        | Denial::UpstreamUnreachable
        | Denial::UpstreamTimeout
        | Denial::UpstreamInvalid
        | Denial::Internal => false,
    }
}
