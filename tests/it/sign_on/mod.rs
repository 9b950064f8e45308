//! Single sign-on through the real binary.

mod fake;
mod routes;
mod site;
