//! Decides whether a header block may pass, and makes the block that replaces one that may not.

use super::REFUSED;
use super::hpack::{Decoder, HpackField, Indexing, InvalidBlock, OVERHEAD, TABLE, push_field, push_update};
use crate::wire::framing::is_token;
use crate::wire::head::{MAX_HEAD, MAX_TARGET};

/// Values of [`REFUSED`]: the head is over its limit, or the target has a fragment.
pub(super) const HEAD: &[u8] = b"head";
pub(super) const TARGET: &[u8] = b"target";

/// Most pseudo-fields of a block that are kept. Requests have up to five, and a repeated one has to be kept too.
const MAX_PSEUDO: usize = 8;
/// How many bytes of a target are kept: enough to see that it is too long. A target that fits into the table is kept
/// whole.
const KEPT_TARGET: usize = MAX_TARGET + 1;
/// In a replaced block: how many bytes are kept of a value that is no entry of the table. An authority has at most 255.
const KEPT: usize = 512;

/// Validates the current block. Its buffers are reused for the next one.
#[derive(Debug, Default)]
pub(super) struct BlockValidator {
    /// The size of the list, as the library counts it (RFC 9113, section 6.5.2).
    list: usize,
    /// How many fields became entries of the table.
    added: usize,
    updates: Vec<usize>,
    /// The pseudo-fields, one after the other, each name followed by its value.
    pseudo: Vec<u8>,
    spans: Vec<PseudoSpan>,
    in_order: FieldOrder,
    fault: BlockFault,
}

#[derive(Debug, Clone, Copy)]
struct PseudoSpan {
    name: usize,
    value: usize,
    indexing: Indexing,
}

/// Which kind of field came last.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum FieldOrder {
    #[default]
    Pseudo,
    Regular,
}

/// The worst fault of a block. A later variant is worse than an earlier one.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum BlockFault {
    #[default]
    None,
    /// A target with a fragment.
    Fragment,
    /// Something that is no field (RFC 9113, section 8.2.1), or no pseudo-field of a request.
    Malformed,
    /// A field with an empty name became an entry. The library cannot represent it and ends the connection.
    Nameless,
}

impl BlockValidator {
    pub(super) fn begin(&mut self) {
        (self.list, self.added, self.in_order, self.fault) = (0, 0, FieldOrder::Pseudo, BlockFault::None);
        self.updates.clear();
        self.pseudo.clear();
        self.spans.clear();
    }

    /// Decodes a block and validates its fields.
    ///
    /// # Errors
    /// [`InvalidBlock`], after which the connection cannot go on.
    pub(super) fn read(&mut self, decoder: &mut Decoder, block: &[u8]) -> Result<(), InvalidBlock> {
        let mut updates = std::mem::take(&mut self.updates);
        let read = decoder.decode(block, |size| updates.push(size), |field| self.check_field(field));
        self.updates = updates;
        match self.fault {
            BlockFault::Nameless => Err(InvalidBlock),
            _ => read,
        }
    }

    fn check_field(&mut self, field: HpackField<'_>) {
        let HpackField { name, value, indexing } = field;
        self.list += name.len() + value.len() + OVERHEAD;
        self.added += usize::from(indexing == Indexing::Added);
        let fault = match name.first() {
            None if indexing == Indexing::Added => BlockFault::Nameless,
            None => BlockFault::Malformed,
            Some(b':') if self.in_order == FieldOrder::Regular => BlockFault::Malformed,
            Some(b':') if self.spans.len() == MAX_PSEUDO => BlockFault::Malformed,
            Some(b':') => {
                self.keep_pseudo(field);
                match name {
                    _ if !is_pseudo(name, value) => BlockFault::Malformed,
                    b":path" if value.contains(&b'#') => BlockFault::Fragment,
                    _ => BlockFault::None,
                }
            }
            Some(_) => {
                self.in_order = FieldOrder::Regular;
                if is_name(name) && value.iter().all(|b| is_of_value(*b)) {
                    BlockFault::None
                } else {
                    BlockFault::Malformed
                }
            }
        };
        self.fault = self.fault.max(fault);
    }

    fn keep_pseudo(&mut self, field: HpackField<'_>) {
        let most = if field.name == b":path" { KEPT_TARGET } else { TABLE };
        let value = field.value.get(..most).unwrap_or(field.value);
        self.pseudo.extend_from_slice(field.name);
        self.pseudo.extend_from_slice(value);
        self.spans.push(PseudoSpan {
            name: field.name.len(),
            value: value.len(),
            indexing: field.indexing,
        });
    }

    /// The block that replaces the one that was read. `None` if that one may pass.
    pub(super) fn replacement(&self, is_request: bool, decoder: &Decoder) -> Option<Vec<u8>> {
        let why = match self.fault {
            BlockFault::Malformed | BlockFault::Nameless => None,
            _ if self.list >= MAX_HEAD => Some(HEAD).filter(|_| is_request),
            BlockFault::Fragment => Some(TARGET).filter(|_| is_request),
            BlockFault::None => return None,
        };
        let mut block = Vec::new();
        for size in &self.updates {
            push_update(&mut block, *size);
        }
        if why.is_some() {
            self.push_pseudo(&mut block, decoder.newest(self.added).count());
        }
        // The entries of this block that are still in the table are added again, so that the library's table begins as
        // the client's does. The library's table may have older entries as well, which the client has evicted.
        for (name, value) in decoder.newest(self.added) {
            if why.is_none() || name.first() != Some(&b':') {
                let (name, value) = harmless(name, value);
                push_field(
                    &mut block,
                    HpackField {
                        name: &name,
                        value: &value,
                        indexing: Indexing::Added,
                    },
                );
            }
        }
        // `Connection` makes the message malformed (RFC 9113, section 8.2.2), and the library resets its stream.
        let (name, value) = why.map_or(("connection", b"close".as_slice()), |why| (REFUSED, why));
        push_field(
            &mut block,
            HpackField {
                name: name.as_bytes(),
                value,
                indexing: Indexing::None,
            },
        );
        Some(block)
    }

    /// Appends the pseudo-fields. The last `remain` entries that the block added are still in the table. A value that
    /// is not among them is cut to [`KEPT`] bytes, unless it is the first target. So all of them fit into one frame,
    /// even if a target is repeated.
    fn push_pseudo(&self, block: &mut Vec<u8>, remain: usize) {
        let (mut rest, mut made, mut has_target) = (self.pseudo.as_slice(), 0, false);
        for span in &self.spans {
            let Some((name, after)) = rest.split_at_checked(span.name) else {
                return;
            };
            let Some((value, after)) = after.split_at_checked(span.value) else {
                return;
            };
            let (name, value) = harmless(name, value);
            let remains = span.indexing == Indexing::Added && self.added - made <= remain;
            made += usize::from(span.indexing == Indexing::Added);
            let is_target = name == b":path" && !has_target;
            has_target |= is_target;
            let part = if remains || is_target { value.len() } else { value.len().min(KEPT) };
            push_field(
                block,
                HpackField {
                    name: &name,
                    value: value.get(..part).unwrap_or_default(),
                    indexing: if remains { Indexing::Added } else { Indexing::None },
                },
            );
            rest = after;
        }
    }
}

/// Whether this is a pseudo-field of requests, with a value that the library accepts.
fn is_pseudo(name: &[u8], value: &[u8]) -> bool {
    match name {
        b":method" => !value.is_empty() && value.iter().all(|b| is_token(*b)),
        b":authority" | b":path" | b":scheme" | b":protocol" => std::str::from_utf8(value).is_ok(),
        _ => false,
    }
}

fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|b| is_token(*b) && !b.is_ascii_uppercase())
}

const fn is_of_value(b: u8) -> bool {
    b == b'\t' || (b >= b' ' && b != 0x7f)
}

/// A field of the same size that the library accepts, so that its table evicts what the client's table evicts.
fn harmless(name: &[u8], value: &[u8]) -> (Vec<u8>, Vec<u8>) {
    if name.first() == Some(&b':') {
        let known = is_pseudo(name, b"x") && (name != b":method" || !value.is_empty());
        let plain = |b: &u8| {
            if is_token(*b) || matches!(b, b'/' | b':' | b'?' | b'=') && name != b":method" {
                *b
            } else {
                b'x'
            }
        };
        let value = value.iter().map(|b| if *b == b'#' { b'x' } else { plain(b) }).collect();
        return (if known { name.to_vec() } else { vec![b'x'; name.len()] }, value);
    }
    let name = if is_name(name) { name.to_vec() } else { vec![b'x'; name.len()] };
    let value = value.iter().map(|b| if is_of_value(*b) { *b } else { b'x' }).collect();
    (name, value)
}
