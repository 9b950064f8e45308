//! Single sign-on through the real binary.

mod confined;
mod fake;
mod routes;
mod site;
