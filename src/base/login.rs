//! Log-in names. An account is found by its log-in name, which is never its identity.

use super::fingerprint::{CredentialPart, Fingerprint, Pepper};
use super::ids::SurfaceName;

/// Longest e-mail address (RFC 5321, section 4.5.3.1.3, without the brackets).
pub const MAX_EMAIL: usize = 254;

/// The fingerprint of an account of this surface: the keyed hash of the normal form of its e-mail address. So the
/// index of the store does not show who has an account.
#[must_use]
pub fn login_fingerprint(pepper: &Pepper, surface: &SurfaceName, login: &str) -> Fingerprint {
    pepper.fingerprint(surface, CredentialPart::Key, normal_login(login).as_bytes())
}

/// The normal form of a log-in name, in which its spellings are equal: without white space around it, in lower case.
/// Mail systems treat `A@b.co` and `a@b.co` alike; dots and `+tags` are left to them.
#[must_use]
pub fn normal_login(login: &str) -> String {
    login.trim().to_lowercase()
}

/// Whether a text is an e-mail address that every mail system takes: a local part of visible ASCII without quotes,
/// and a host name with a dot. Only a message to it can tell whether the mailbox exists.
#[must_use]
pub fn is_email(text: &str) -> bool {
    let Some((local, host)) = text.rsplit_once('@') else {
        return false;
    };
    let atom = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(&b);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= MAX_EMAIL
        && (1..=64).contains(&local.len())
        && local.bytes().all(atom)
        && !local.starts_with('.')
        && !local.ends_with('.')
        && !local.contains("..")
        && host.contains('.')
        && host.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_address_are_one_account_and_surfaces_are_apart() {
        let pepper = Pepper::new(&[7; 32]).unwrap();
        let surface = |name| SurfaceName::parse(name).unwrap();
        let of = |name, login| login_fingerprint(&pepper, &surface(name), login);
        assert_eq!(of("account", "Ann@Example.com "), of("account", "ann@example.com"));
        assert_ne!(of("account", "ann@example.com"), of("account", "ann+x@example.com"));
        assert_ne!(of("account", "ann@example.com"), of("staff", "ann@example.com"));
    }

    #[test]
    fn an_email_address_is_what_every_mail_system_takes() {
        for good in ["a@b.co", "first.last+tag@mail.example.com", "o'brien@x-y.org"] {
            assert!(is_email(good), "{good}");
        }
        for bad in [
            "",
            "a",
            "a@b",
            "@b.co",
            "a@",
            "a b@c.de",
            "a@b..co",
            ".a@b.co",
            "a.@b.co",
            "a..b@c.de",
            "a@-b.co",
            "a@b.co\r\n",
            "ä@b.co",
            "a@b@c.de",
            "\"a\"@b.co",
        ] {
            assert!(!is_email(bad), "{bad}");
        }
        assert!(!is_email(&format!("{}@b.co", "a".repeat(65))));
    }
}
