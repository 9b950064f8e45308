//! Single sign-on against real identity providers, in a real browser.

mod peers;
mod samples;
