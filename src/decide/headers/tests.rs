//! Header rules as tables.
