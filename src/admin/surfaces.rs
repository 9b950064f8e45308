//! Finds the surface that an operator means.

use crate::decide::surface::{Surface, SurfaceKind};
use crate::snapshot::Snapshot;

use super::error::OperationError;
use super::keys::parse_surface;
use super::times::printable;

/// The surface of this name if `fits` it; without a name the only one that fits. `what` is what such
/// surfaces take, for people.
///
/// # Errors
/// [`OperationError::Usage`], which names those there are.
pub(crate) fn find_surface_of<'s>(
    snapshot: &'s Snapshot,
    what: &str,
    fits: fn(&SurfaceKind) -> bool,
    name: Option<&str>,
) -> Result<&'s Surface, OperationError> {
    let all: Vec<&Surface> = snapshot.surfaces.iter().filter(|s| fits(&s.kind)).collect();
    let names = || all.iter().map(|s| s.name.as_str()).collect::<Vec<_>>().join(", ");
    let refusal = match (name, all.as_slice()) {
        (_, []) => format!("no surface of the configuration is one of {what}"),
        (None, [only]) => return Ok(only),
        (None, _) => format!("there is more than one surface of {what}: say --surface with one of {}", names()),
        (Some(name), all) => {
            parse_surface(name)?;
            match all.iter().find(|s| s.name.as_str() == name) {
                Some(surface) => return Ok(surface),
                None => format!("`{}` is not a surface of {what}; there is: {}", printable(name), names()),
            }
        }
    };
    Err(OperationError::Usage(refusal))
}
