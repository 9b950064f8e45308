//! What tokens are admitted and refused, by the ids of the hardening list.
