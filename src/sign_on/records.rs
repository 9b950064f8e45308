//! The records of single sign-on: what each is found by, and how a provider's are made.

use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};

use crate::base::clock::UnixMillis;
use crate::base::fingerprint::{CredentialPart, Fingerprint, Pepper};
use crate::base::ids::{CredentialId, RoleId, SurfaceName, TenantId};
use crate::base::key::{IdKind, NoRandomness, mint_id};
use crate::base::principal::{
    CredentialRecord, CredentialState, Extras, PROVIDER_SETTINGS_SURFACE, PROVIDER_SURFACE, Parent, SIGN_ON_SURFACE,
};
use crate::base::scope::ScopeSet;

/// The id of the record with the settings of a provider.
#[must_use]
pub fn settings_id(provider: &CredentialId) -> Option<CredentialId> {
    CredentialId::parse(&format!("{provider}:settings")).ok()
}

/// What finds the settings of a provider, together with the provider itself, which stands above them.
#[must_use]
pub fn settings_fingerprint(provider: &CredentialId) -> Option<Fingerprint> {
    let surface = SurfaceName::parse(PROVIDER_SETTINGS_SURFACE).ok()?;
    Some(Fingerprint::of_id(&surface, provider))
}

/// What a new provider is.
#[derive(Debug, Clone)]
pub struct NewProvider {
    pub id: CredentialId,
    pub tenant: TenantId,
    /// The name that people see.
    pub name: String,
    /// With the roles, the most that anybody may do who signs on through it.
    pub scopes: ScopeSet,
    pub roles: Vec<RoleId>,
    /// The settings as `ProviderSettings::to_text` writes them.
    pub settings: Arc<str>,
    /// The store's time.
    pub now: UnixMillis,
}

/// A new id of a provider. Secrets are sealed for it before its records are made.
///
/// # Errors
/// [`NoRandomness`].
pub fn new_provider_id(now: UnixMillis) -> Result<CredentialId, NoRandomness> {
    mint_id(IdKind::Provider, now)
}

/// The two records of a provider, to be made in one step, in this order; `None` for an id that is none of a provider.
#[must_use]
pub fn provider_records(new: NewProvider) -> Option<[CredentialRecord; 2]> {
    let provider_surface = SurfaceName::parse(PROVIDER_SURFACE).ok()?;
    let settings_surface = SurfaceName::parse(PROVIDER_SETTINGS_SURFACE).ok()?;
    let (settings_id, settings_fingerprint) = (settings_id(&new.id)?, settings_fingerprint(&new.id)?);
    let provider = CredentialRecord {
        fingerprint: Fingerprint::of_id(&provider_surface, &new.id),
        id: new.id.clone(),
        surface: provider_surface.clone(),
        tenant: new.tenant.clone(),
        subject: None,
        mode: None,
        scopes: new.scopes,
        state: CredentialState::Active,
        secret_fingerprint: None,
        prefix: String::new(),
        last4: String::new(),
        name: Some(new.name),
        created_at: new.now,
        not_before: None,
        expires_at: None,
        valid_after: None,
        epoch: 0,
        pepper: None,
        extras: Extras {
            roles: new.roles,
            ..Extras::default()
        }
        .boxed(),
    };
    let settings = CredentialRecord {
        fingerprint: settings_fingerprint,
        id: settings_id,
        surface: settings_surface,
        scopes: ScopeSet::default(),
        name: None,
        extras: Extras {
            parent: Some(Parent {
                surface: provider_surface,
                id: new.id,
            }),
            granted: Some(ScopeSet::default()),
            settings: Some(new.settings),
            ..Extras::default()
        }
        .boxed(),
        ..provider.clone()
    };
    Some([provider, settings])
}

/// Most records of one person at one provider, one after the other, and most links of one account to one provider. A new one is
/// made when the one before was revoked, so each but the last is revoked for ever.
pub const MAX_FOLLOWING: usize = 16;

/// What finds the account of a person on a surface of accounts, or the link of a person: the provider, and the subject by which the
/// provider knows the person. The prefix keeps it apart from everything that a log-in name becomes. `number` counts the records of
/// this person that were revoked before it.
#[must_use]
pub fn person_fingerprint(pepper: &Pepper, account: &SurfaceName, provider: &CredentialId, subject: &str, number: usize) -> Fingerprint {
    let mut text = ["sso\0", provider.as_str(), "\0", subject].concat();
    // A subject has no control character, so no other subject makes the same text.
    if number > 0 {
        text.push_str(&format!("\0{number}"));
    }
    pepper.fingerprint(account, CredentialPart::Key, text.as_bytes())
}

/// The id of the link between an account and a provider. It is made of both, so that an account never has two links to one provider,
/// and the account's person can undo a link without knowing the subject. `number` counts the links of both that were revoked before.
#[must_use]
pub fn link_id(provider: &CredentialId, account: &CredentialId, number: usize) -> Option<CredentialId> {
    let mut context = Context::new(&SHA256);
    for part in ["durward link", provider.as_str(), account.as_str(), &number.to_string()] {
        context.update(part.as_bytes());
        context.update(b"\0");
    }
    let mut text = IdKind::Link.prefix().to_owned();
    for byte in context.finish().as_ref().iter().take(16) {
        text.push_str(&format!("{byte:02x}"));
    }
    CredentialId::parse(&text).ok()
}

/// What finds the sign-on of a session at a provider, by `sid` or `SessionIndex`.
#[must_use]
pub fn sign_on_fingerprint(pepper: &Pepper, provider: &CredentialId, session: &str) -> Option<Fingerprint> {
    let surface = SurfaceName::parse(SIGN_ON_SURFACE).ok()?;
    let text = [provider.as_str(), "\0", session].concat();
    Some(pepper.fingerprint(&surface, CredentialPart::Key, text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::login::login_fingerprint;
    use crate::base::principal::Facts;
    use crate::decide::samples;
    use crate::sign_on::provider::ProviderSettings;
    use crate::sign_on::provider::tests::oidc;

    #[test]
    fn the_settings_are_found_by_the_id_of_their_provider_and_hang_on_it() {
        let id = new_provider_id(UnixMillis(1)).unwrap();
        assert!(id.as_str().starts_with("prv_"));
        let new = NewProvider {
            id: id.clone(),
            tenant: TenantId::parse("acme").unwrap(),
            name: "Acme".into(),
            scopes: ScopeSet::default(),
            roles: vec![RoleId::parse("admin").unwrap()],
            settings: oidc(&[]).to_text().unwrap(),
            now: UnixMillis(1),
        };
        let [provider, settings] = provider_records(new).unwrap();
        assert!(provider.is_provider() && settings.is_provider_settings());
        assert_eq!(settings.parent().unwrap().id, id);
        assert_eq!(Some(settings.fingerprint), settings_fingerprint(&id));
        assert_ne!(settings.fingerprint, provider.fingerprint);
        assert!(!provider.needs_pepper() && !settings.needs_pepper());
        assert_eq!(ProviderSettings::of_record(&settings).unwrap().kind(), "oidc");
        assert!(ProviderSettings::of_record(&provider).is_err());
    }

    #[test]
    fn a_session_hangs_on_the_person_and_not_on_the_sign_on() {
        let mut facts: Facts = samples::facts("session", "ses_1", "acme");
        assert!(facts.hangs_on().is_none());
        let record = |surface: &str, id: &str| samples::facts(surface, id, "acme").credential;
        facts.ancestors = vec![record("account", "acc_1"), record("provider", "prv_1")];
        let (parent, above) = facts.hangs_on().unwrap();
        assert_eq!((parent.id.as_str(), above.len()), ("acc_1", 1));
        facts.ancestors.insert(0, record("sign_on", "sgn_1"));
        let (parent, above) = facts.hangs_on().unwrap();
        assert_eq!((parent.id.as_str(), above.len()), ("acc_1", 1));
        facts.ancestors.truncate(1);
        assert!(facts.hangs_on().is_none(), "a sign-on without its person is nobody");
    }

    #[test]
    fn a_person_is_known_by_provider_and_subject_and_never_by_an_address() {
        let pepper = Pepper::new(&[7; 32]).unwrap();
        let id = |text: &str| CredentialId::parse(text).unwrap();
        let surface = SurfaceName::parse("account").unwrap();
        let person = |provider: &str, subject: &str| person_fingerprint(&pepper, &surface, &id(provider), subject, 0);
        let all = [
            person("prv_1", "ann@acme.example"),
            person("prv_2", "ann@acme.example"),
            person("prv_1", "bob"),
            person("prv_1:", "bob"),
            person_fingerprint(&pepper, &surface, &id("prv_1"), "bob", 1),
            person("prv_1", "bob1"),
            login_fingerprint(&pepper, &surface, "ann@acme.example"),
            sign_on_fingerprint(&pepper, &id("prv_1"), "bob").unwrap(),
            sign_on_fingerprint(&pepper, &id("prv_2"), "bob").unwrap(),
        ];
        for (i, one) in all.iter().enumerate() {
            assert!(all[i + 1..].iter().all(|other| one != other), "{i}");
        }
        assert_eq!(person("prv_1", "bob"), all[2]);
    }

    #[test]
    fn a_link_has_one_id_for_its_account_and_its_provider() {
        let id = |text: &str| CredentialId::parse(text).unwrap();
        let link = |provider: &str, account: &str, number| link_id(&id(provider), &id(account), number).unwrap();
        let one = link("prv_1", "acc_1", 0);
        assert!(one.as_str().starts_with("lnk_") && one == link("prv_1", "acc_1", 0));
        for other in [
            link("prv_1", "acc_1", 1),
            link("prv_1", "acc_2", 0),
            link("prv_2", "acc_1", 0),
            link("acc_1", "prv_1", 0),
        ] {
            assert_ne!(one, other);
        }
    }
}
