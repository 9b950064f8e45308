//! The decision: may this principal use this route now? The only maker of [`Permit`].

use crate::base::principal::Principal;

/// Proof that a request may be forwarded. Only this module can make one; forwarding demands it.
#[must_use]
#[derive(Debug)]
pub struct Permit {
    principal: Option<Principal>,
}

impl Permit {
    /// Who was admitted; `None` on public routes.
    #[must_use]
    pub const fn principal(&self) -> Option<&Principal> {
        self.principal.as_ref()
    }
}
