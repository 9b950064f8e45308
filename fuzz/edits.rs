//! Edits of a signed message: what an attacker changes in a message that the provider did sign.

/// Applies edits to a text: for each, two bytes say where, one how much is taken away, one how much of what follows is put there.
pub fn edited(text: &str, mut edits: &[u8]) -> Option<String> {
    let mut bytes = text.as_bytes().to_vec();
    while let [high, low, taken, put, rest @ ..] = edits {
        let at = usize::from(u16::from_be_bytes([*high, *low])) % bytes.len().max(1);
        let end = (at + usize::from(*taken)).min(bytes.len());
        let put = rest.get(..usize::from(*put)).unwrap_or(rest);
        bytes.splice(at.min(bytes.len())..end, put.iter().copied());
        edits = &rest[put.len()..];
    }
    String::from_utf8(bytes).ok()
}
