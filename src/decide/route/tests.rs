//! Which route a request finds, against a naive reading of the rules.
