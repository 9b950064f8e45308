//! Who signed on: what the claims of a provider make of a person, by the table in the provider's settings.

use crate::base::clock::UnixMillis;
use crate::base::ids::{RoleId, Subject};
use crate::base::principal::{ClaimValue, MAX_ROLES};
use crate::base::scope::{Scope, ScopeSet};

use super::fault::{ProviderText, SignOnFault};

/// Longest e-mail address and name that are shown: that of an address in SMTP (RFC 5321, section 4.5.3.1.3).
const MAX_SHOWN: usize = 254;

/// Most values of the claim with roles that are looked at. Directories put at most a few hundred groups into a token.
const MAX_VALUES: usize = 2_000;

/// What a provider has proven about one person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedOnPerson {
    /// The identity, together with the provider. Never the e-mail address.
    pub subject: String,
    /// As it is shown.
    pub email: Option<String>,
    /// As it is shown.
    pub name: Option<String>,
    /// The roles that the provider's table gives.
    pub roles: Vec<RoleId>,
    /// The scopes that the provider's table gives.
    pub scopes: ScopeSet,
    /// The session at the provider: `sid` or `SessionIndex`.
    pub session_id: Option<String>,
    /// When the session must end, if the provider says so (`SessionNotOnOrAfter`).
    pub ends_at: Option<UnixMillis>,
    /// Claims that the settings keep.
    pub claims: Vec<(String, ClaimValue)>,
    /// When the person logged in at the provider.
    pub auth_time: Option<UnixMillis>,
}

/// The claims or attributes of one person, whichever protocol carried them.
pub trait ProviderClaims {
    /// The claim, if it is exactly one text.
    fn text(&self, name: &str) -> Option<String>;

    /// Every text of a claim: one, or the items of a list that are texts. `None` if there is no such claim.
    fn texts(&self, name: &str) -> Option<Vec<String>>;
}

/// The part of a provider's settings that is about people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersonRules {
    /// The claim with the subject: `sub` in OpenID Connect.
    pub subject: String,
    /// The claim with the e-mail address.
    pub email: String,
    /// The claim with the name.
    pub name: String,
    /// `None`: roles are not given by the provider.
    pub roles: Option<RoleRules>,
    /// Claims that are kept under their own names.
    pub claims: Vec<String>,
}

/// The table that makes roles and scopes of values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleRules {
    /// The claim whose values the rows name.
    pub claim: String,
    pub table: Vec<RoleRow>,
    /// The roles of a person whom no row gives anything.
    pub default: Vec<RoleId>,
}

/// One row: who has this value has these roles and scopes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleRow {
    /// Compared exactly.
    pub value: String,
    pub roles: Vec<RoleId>,
    pub scopes: ScopeSet,
}

/// What the table gives one person.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GivenRoles {
    pub roles: Vec<RoleId>,
    pub scopes: ScopeSet,
}

impl PersonRules {
    /// What the table gives whoever has these claims; `None` if roles are not given by the provider.
    ///
    /// # Errors
    /// [`SignOnFault`]: a claim that is missing, nothing that gives a role, too many roles.
    pub fn given_roles(&self, claims: &dyn ProviderClaims) -> Result<Option<GivenRoles>, SignOnFault> {
        self.roles.as_ref().map(|table| table.apply(claims)).transpose()
    }
}

/// What a provider says about the session of the person.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProviderSession {
    pub id: Option<String>,
    pub ends_at: Option<UnixMillis>,
    pub auth_time: Option<UnixMillis>,
}

impl SignedOnPerson {
    /// What the claims make of a person. `subject` is the identity, which the caller has read from the signed part.
    ///
    /// # Errors
    /// [`SignOnFault`]: a subject that is none, a claim that is missing, and nothing that gives a role.
    pub fn of(subject: &str, claims: &dyn ProviderClaims, rules: &PersonRules, session: ProviderSession) -> Result<Self, SignOnFault> {
        let subject = Subject::parse(subject).map_err(|_| SignOnFault::Subject)?;
        let GivenRoles { roles, scopes } = rules.given_roles(claims)?.unwrap_or_default();
        Ok(Self {
            subject: subject.as_str().to_owned(),
            email: claims.text(&rules.email).filter(|text| is_shown(text)),
            name: claims.text(&rules.name).filter(|text| is_shown(text)),
            roles,
            scopes,
            session_id: session.id,
            ends_at: session.ends_at,
            claims: rules.claims.iter().filter_map(|name| kept(claims, name)).collect(),
            auth_time: session.auth_time,
        })
    }
}

impl RoleRules {
    fn apply(&self, claims: &dyn ProviderClaims) -> Result<GivenRoles, SignOnFault> {
        let values = claims.texts(&self.claim);
        let is_missing = values.is_none();
        let mut values = values.unwrap_or_default();
        values.truncate(MAX_VALUES);
        values.sort_unstable();
        let mut roles: Vec<RoleId> = Vec::new();
        let mut scopes: Vec<Scope> = Vec::new();
        for row in self.table.iter().filter(|row| values.binary_search(&row.value).is_ok()) {
            roles.extend(row.roles.iter().cloned());
            scopes.extend(row.scopes.iter().cloned());
        }
        if roles.is_empty() && scopes.is_empty() {
            roles.extend(self.default.iter().cloned());
        }
        let mut seen = std::collections::HashSet::new();
        roles.retain(|role| seen.insert(role.clone()));
        if roles.is_empty() && scopes.is_empty() {
            return Err(if is_missing {
                SignOnFault::MissingClaim(ProviderText::of(&self.claim))
            } else {
                SignOnFault::NoRole
            });
        }
        if roles.len() > MAX_ROLES {
            return Err(SignOnFault::TooManyRoles);
        }
        Ok(GivenRoles {
            roles,
            scopes: scopes.into_iter().collect(),
        })
    }
}

/// Whether a text may be shown to people and written into a record: bounded, and without control characters.
fn is_shown(text: &str) -> bool {
    !text.is_empty() && text.chars().count() <= MAX_SHOWN && !text.chars().any(char::is_control)
}

fn kept(claims: &dyn ProviderClaims, name: &str) -> Option<(String, ClaimValue)> {
    let value = match claims.text(name) {
        Some(text) => ClaimValue::Text(text),
        None => ClaimValue::List(claims.texts(name)?),
    };
    Some((name.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Listed(&'static [(&'static str, &'static [&'static str])]);

    impl ProviderClaims for Listed {
        fn text(&self, name: &str) -> Option<String> {
            self.texts(name).filter(|texts| texts.len() == 1).and_then(|mut texts| texts.pop())
        }

        fn texts(&self, name: &str) -> Option<Vec<String>> {
            let found = self.0.iter().find(|(own, _)| *own == name);
            found.map(|(_, values)| values.iter().map(ToString::to_string).collect())
        }
    }

    fn role(name: &str) -> RoleId {
        RoleId::parse(name).unwrap()
    }

    fn row(value: &str, roles: &[&str], scopes: &[&str]) -> RoleRow {
        RoleRow {
            value: value.to_owned(),
            roles: roles.iter().map(|name| role(name)).collect(),
            scopes: scopes.iter().map(|text| Scope::parse(text).unwrap()).collect(),
        }
    }

    fn rules(roles: Option<RoleRules>) -> PersonRules {
        PersonRules {
            subject: "sub".into(),
            email: "email".into(),
            name: "name".into(),
            roles,
            claims: vec!["department".into()],
        }
    }

    fn table(default: &[&str]) -> Option<RoleRules> {
        Some(RoleRules {
            claim: "groups".into(),
            table: vec![
                row("admins", &["admin"], &["people:write"]),
                row("readers", &["viewer", "admin"], &["orders:read"]),
                row("empty", &[], &[]),
            ],
            default: default.iter().map(|name| role(name)).collect(),
        })
    }

    fn of(claims: &Listed, roles: Option<RoleRules>) -> Result<SignedOnPerson, SignOnFault> {
        SignedOnPerson::of("u-1", claims, &rules(roles), ProviderSession::default())
    }

    #[test]
    fn rows_give_roles_and_scopes_to_who_has_exactly_their_value() {
        let person = of(
            &Listed(&[("groups", &["readers", "admins", "x"]), ("department", &["sales"])]),
            table(&[]),
        )
        .unwrap();
        assert_eq!(person.roles, [role("admin"), role("viewer")]);
        assert_eq!(person.scopes.joined(), "people:write orders:read");
        assert_eq!(person.claims, [("department".to_owned(), ClaimValue::Text("sales".to_owned()))]);
        for other in [&["Admins"][..], &["admins "], &["empty"], &[]] {
            let claims = Listed(Box::leak(Box::new([("groups", other)])));
            assert_eq!(of(&claims, table(&[])), Err(SignOnFault::NoRole), "{other:?}");
        }
    }

    #[test]
    fn who_has_no_row_has_the_default_or_is_told_which_claim_is_missing() {
        let nobody = Listed(&[("groups", &["x"])]);
        assert_eq!(of(&nobody, table(&["viewer"])).unwrap().roles, [role("viewer")]);
        let without = Listed(&[]);
        assert_eq!(of(&without, table(&["viewer"])).unwrap().roles, [role("viewer")]);
        let missing = SignOnFault::MissingClaim(ProviderText::of("groups"));
        assert_eq!(of(&without, table(&[])), Err(missing));
        assert!(of(&without, None).unwrap().roles.is_empty(), "roles are given elsewhere");
        let admin = Listed(&[("groups", &["admins"])]);
        assert_eq!(
            of(&admin, table(&["viewer"])).unwrap().roles,
            [role("admin")],
            "a default is no addition"
        );
    }

    #[test]
    fn texts_that_are_shown_are_bounded_and_a_subject_must_be_one() {
        let claims = Listed(&[("email", &["a@b.example"]), ("name", &["A\u{7}"])]);
        let person = of(&claims, None).unwrap();
        assert_eq!((person.email.as_deref(), person.name), (Some("a@b.example"), None));
        for bad in ["", "a\0b", &"x".repeat(256)] {
            let result = SignedOnPerson::of(bad, &claims, &rules(None), ProviderSession::default());
            assert_eq!(result, Err(SignOnFault::Subject));
        }
    }

    #[test]
    fn a_table_gives_no_more_roles_than_a_record_holds() {
        let names: Vec<String> = (0..=MAX_ROLES).map(|n| format!("r{n}")).collect();
        let roles: Vec<&str> = names.iter().map(String::as_str).collect();
        let rules = |n: usize| {
            Some(RoleRules {
                claim: "groups".into(),
                table: vec![row("all", &roles[..n], &[])],
                default: Vec::new(),
            })
        };
        let claims = Listed(&[("groups", &["all"])]);
        assert_eq!(of(&claims, rules(MAX_ROLES)).unwrap().roles.len(), MAX_ROLES);
        assert_eq!(of(&claims, rules(MAX_ROLES + 1)), Err(SignOnFault::TooManyRoles));
    }
}
