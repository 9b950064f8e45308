//! Surfaces of people: an e-mail address with a password, presented in a body.

use crate::config::reader::Section;
use crate::config::source::Located;
use crate::decide::kinds::{AccountSurface, CredentialKind};

use super::{demand, missing, needs, read_count};

/// An account, as written.
#[derive(Debug)]
pub struct WrittenAccount {
    /// Fields with login and password, each with its longest text; `None`: never presented.
    pub fields: Option<[(Located<String>, usize); 2]>,
}

pub(super) fn read(section: &Section<'_>) -> Option<WrittenAccount> {
    demand::<AccountSurface>(section, &[]);
    let (login, password) = (section.text("login_field"), section.text("password_field"));
    needs(section, &["login_max"], "login_field");
    needs(section, &["password_max"], "password_field");
    let fields = match (login, password) {
        (Some(login), Some(password)) => Some([
            (login, read_count(section, "login_max")),
            (password, read_count(section, "password_max")),
        ]),
        (None, None) => None,
        (Some(_), None) => {
            missing(section, "password_field", AccountSurface::WORD);
            return None;
        }
        (None, Some(_)) => {
            missing(section, "login_field", AccountSurface::WORD);
            return None;
        }
    };
    Some(WrittenAccount { fields })
}
