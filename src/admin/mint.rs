//! New ids and new keys: random, and a shape that leak scanners and the gateway recognise.

use aws_lc_rs::rand;

use super::error::OperationError;

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A new key: prefix, 256 random bits, checksum (design 5).
pub(crate) fn mint_key(prefix: &str) -> Result<String, OperationError> {
    let mut key = format!("{prefix}{}", random_base62(43)?);
    let mut sum = u64::from(crc32fast::hash(key.as_bytes()));
    let mut digits = [b'0'; 6];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62.get(usize::try_from(sum % 62).unwrap_or(0)).copied().unwrap_or(b'0');
        sum /= 62;
    }
    key.extend(digits.map(char::from));
    Ok(key)
}

/// A new credential id: 131 random bits, so that ids of two gateways never meet. Not a secret.
pub(crate) fn mint_id() -> Result<String, OperationError> {
    Ok(format!("cred_{}", random_base62(22)?))
}

/// Uniform characters: bytes of 248 and above are thrown away, or the first eight characters of the
/// alphabet would come more often.
fn random_base62(length: usize) -> Result<String, OperationError> {
    let mut text = String::with_capacity(length);
    let mut bytes = [0_u8; 64];
    while text.len() < length {
        rand::fill(&mut bytes).map_err(|_| OperationError::Corrupt("the system gives no random bytes".into()))?;
        let usable = bytes.iter().filter(|b| **b < 248);
        let chars = usable.filter_map(|b| BASE62.get(usize::from(b % 62)).copied().map(char::from));
        text.extend(chars.take(length - text.len()));
    }
    Ok(text)
}
