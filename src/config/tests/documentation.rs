//! `docs/configuration.md` says of every key what the code does.
