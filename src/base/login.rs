//! Log-in names: what an account is found by, and never who it is.

use super::fingerprint::{CredentialPart, Fingerprint, Pepper};
use super::ids::SurfaceName;

/// Longest e-mail address (RFC 5321, section 4.5.3.1.3, without the brackets).
pub const MAX_EMAIL: usize = 254;

/// What an account of this surface is found by: the keyed hash of the normal form of its e-mail
/// address, so that the store's index does not tell who has an account.
#[must_use]
pub fn login_fingerprint(pepper: &Pepper, surface: &SurfaceName, login: &str) -> Fingerprint {
    pepper.fingerprint(surface, CredentialPart::Key, normal_login(login).as_bytes())
}

/// The form in which two spellings of one log-in name are equal: without white space around it, in
/// lower case. Mail systems do not tell `A@b.co` from `a@b.co`; dots and `+tags` are theirs to judge.
#[must_use]
pub fn normal_login(login: &str) -> String {
    login.trim().to_lowercase()
}

/// What every mail system takes: a local part of visible ASCII without quotes, and a host name with a
/// dot. Whether the mailbox exists only a message to it can tell.
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
