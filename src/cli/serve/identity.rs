//! The identity of this gateway in its receipts.

use crate::base::ids::GatewayId;
use crate::snapshot::Settings;
use crate::store::announce::Identity;

/// Where the kernel tells the host's name.
const HOST_NAME: &str = "/proc/sys/kernel/hostname";

/// Longest part of an id that is the host's name: one label of a name has no more (RFC 1123, section 2.1).
const MAX_HOST: usize = 63;

/// The identity of this process: its configured id, or an id of host, process and a random number, so that a restarted
/// gateway is never taken for the one before it.
///
/// # Errors
/// When no randomness is to be had.
pub(super) fn identity(settings: &Settings) -> std::io::Result<Identity> {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| std::io::Error::other("no randomness"))?;
    let run = u64::from_le_bytes(bytes);
    let host = std::fs::read_to_string(HOST_NAME).unwrap_or_default();
    Ok(Identity {
        id: settings.id.clone().unwrap_or_else(|| made_up(&host, std::process::id(), run)),
        run,
        version: env!("CARGO_PKG_VERSION").into(),
        max_age: settings.store.max_age,
        stream_interval: settings.stream_check,
    })
}

fn made_up(host: &str, process: u32, run: u64) -> GatewayId {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') {
            c
        } else {
            '-'
        }
    };
    let mut host: String = host.trim().chars().map(plain).take(MAX_HOST).collect();
    if host.is_empty() {
        host.push_str("gateway");
    }
    let id = format!("{host}-{process}-{:06x}", run & 0x00ff_ffff);
    // The text has only characters of an id. If it is not an id after all, the number alone is one.
    GatewayId::parse(&id).unwrap_or_else(|_| GatewayId::of_number(run))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_up_id_names_host_and_process_whatever_the_host_is_called() {
        assert_eq!(made_up("edge-1.example\n", 42, 0xabc).as_str(), "edge-1.example-42-000abc");
        assert_eq!(made_up("b\u{fc}ro 1", 42, 1).as_str(), "b-ro-1-42-000001");
        assert_eq!(made_up("", 42, 1).as_str(), "gateway-42-000001");
        assert!(made_up(&"x".repeat(1_000), u32::MAX, u64::MAX).as_str().len() <= 128);
    }

    #[test]
    fn two_runs_of_one_host_have_two_ids() {
        assert_ne!(made_up("edge-1", 42, 1), made_up("edge-1", 42, 2));
    }
}
