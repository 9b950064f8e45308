//! What extraction admits and refuses, by the ids of the hardening list.
