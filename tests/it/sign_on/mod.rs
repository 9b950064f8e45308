//! Single sign-on.

mod confined;
