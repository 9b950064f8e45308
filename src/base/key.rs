//! The form of keys durward generates, and the check that refuses random ones before any I/O.
