//! Numbers and addresses as text, as every request writes them: without the formatting machinery.

use std::io::Write as _;
use std::net::IpAddr;

/// Appends a number in decimal.
pub fn push_decimal(out: &mut Vec<u8>, mut value: u64) {
    if let (Ok(number), 0..=9_999) = (u16::try_from(value), value) {
        return short_decimal(out, number);
    }
    // 20 digits hold any u64.
    let mut digits = [b'0'; 20];
    let mut used = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
        used += 1;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(digits.len() - used..).unwrap_or_default());
}

/// Up to four digits, which nearly all numbers of a line have. No branch hangs on how many there are, and
/// nothing is copied of a length that the processor has to guess.
fn short_decimal(out: &mut Vec<u8>, number: u16) {
    let digit = |divisor: u16| b'0' + u8::try_from(number / divisor % 10).unwrap_or(0);
    let zeros = u32::from(number < 1_000) + u32::from(number < 100) + u32::from(number < 10);
    let digits = u32::from_le_bytes([digit(1_000), digit(100), digit(10), digit(1)]) >> (8 * zeros);
    out.extend_from_slice(&digits.to_le_bytes());
    out.truncate(out.len() - zeros as usize);
}

/// Appends an address as it is usually written.
pub fn push_address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => {
            for (i, octet) in v4.octets().into_iter().enumerate() {
                if i > 0 {
                    out.push(b'.');
                }
                push_decimal(out, u64::from(octet));
            }
        }
        // Writing into a vector cannot fail.
        IpAddr::V6(v6) => drop(write!(out, "{v6}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_everybody_writes_them() {
        for number in (0..12_000).chain([65_535, 65_536, u64::MAX]) {
            let mut out = b"n".to_vec();
            push_decimal(&mut out, number);
            assert_eq!(String::from_utf8(out).unwrap(), format!("n{number}"));
        }
    }

    #[test]
    fn addresses_are_written_as_everybody_writes_them() {
        for text in ["0.0.0.0", "127.0.0.1", "10.200.99.255", "::1", "2001:db8::7"] {
            let address: IpAddr = text.parse().unwrap();
            let mut out = Vec::new();
            push_address(&mut out, address);
            assert_eq!(String::from_utf8(out).unwrap(), address.to_string());
        }
    }
}
