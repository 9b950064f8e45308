//! HTTP/1.1 on the wire, as pure functions over bytes: heads in, heads out, chunks, lengths.
//!
//! Tokenising is `httparse`'s; what is ours is the strictness around it and a flat list of fields
//! that serves both HTTP versions without a hash map per request.

pub mod body;
pub mod chunked;
pub mod fields;
pub mod framing;
pub mod head;
pub mod websocket;
pub mod yield_once;
