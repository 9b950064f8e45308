//! Finds the one credential of a request; two are a refusal, never a choice.

use crate::base::credential::Credential;
use crate::base::denial::Denial;
use crate::base::scope::Mode;
use crate::wire::fields::Fields;

use super::surface::{Surface, SurfaceIndex};

/// A credential and the surface it was presented on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extracted<'h> {
    /// The surface.
    pub surface: SurfaceIndex,
    /// The credential, borrowed from the head.
    pub credential: Credential<'h>,
    /// The mode its prefix tells, if any.
    pub mode: Option<Mode>,
}

/// Finds the credential for a route that accepts `accepted`, among all `surfaces`.
///
/// # Errors
/// [`Denial::MissingCredential`], [`Denial::AmbiguousCredentials`], [`Denial::MalformedCredential`],
/// [`Denial::WrongSurface`], [`Denial::WrongMode`].
pub fn extract<'h>(fields: &'h Fields, surfaces: &[Surface], accepted: &[SurfaceIndex]) -> Result<Extracted<'h>, Denial> {
    let _ = (fields, surfaces, accepted);
    Err(Denial::MissingCredential)
}
