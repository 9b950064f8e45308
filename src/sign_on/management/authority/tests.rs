//! What an administrator may do with providers, and the same for an operator, who may do all of it.

use super::*;
use crate::base::scope::Scope;
use crate::sign_on::provider::ProviderProtocol;
use crate::sign_on::provider::tests::oidc;

fn scopes(words: &[&str]) -> ScopeSet {
    words.iter().map(|word| Scope::parse(word).unwrap()).collect()
}

fn administrator(own: &[&str], claims: &[&str], mode: Option<Mode>) -> ProviderAuthority {
    ProviderAuthority::Administrator(Box::new(Administrator {
        tenant: TenantId::parse("acme").unwrap(),
        mode,
        scopes: scopes(own),
        claims: claims.iter().map(|claim| (*claim).to_owned()).collect(),
        surfaces: Some(ProviderSurfaces {
            session: "session".into(),
            account: "account".into(),
        }),
        rests_on: RestsOn::default(),
    }))
}

/// Settings that keep no claim.
fn plain() -> ProviderSettings {
    ProviderSettings {
        claims: Vec::new(),
        ..oidc(&[])
    }
}

fn changed(change: impl FnOnce(&mut ProviderSettings)) -> ProviderSettings {
    let mut settings = plain();
    change(&mut settings);
    settings
}

fn fields(mistakes: &[SettingsMistake]) -> Vec<&str> {
    mistakes.iter().map(|mistake| mistake.field.as_str()).collect()
}

#[test]
fn b30_a_provider_that_may_give_more_than_its_administrator_is_not_theirs_to_change() {
    let one = administrator(&["read", "sso"], &["department"], None);
    for ceiling in [&[][..], &["read"], &["read", "sso"]] {
        assert_eq!(one.check_not_above(&scopes(ceiling), &plain()), Ok(()), "{ceiling:?}");
        assert_eq!(one.check_scopes(&scopes(ceiling)), Ok(()), "{ceiling:?}");
    }
    for ceiling in [&["write"][..], &["read", "write"]] {
        let above = one.check_not_above(&scopes(ceiling), &plain());
        assert!(matches!(above, Err(ManagementError::Forbidden(_))), "{ceiling:?}");
        assert!(one.check_scopes(&scopes(ceiling)).is_err(), "{ceiling:?}");
        assert_eq!(ProviderAuthority::Operator.check_not_above(&scopes(ceiling), &plain()), Ok(()));
        assert_eq!(ProviderAuthority::Operator.check_scopes(&scopes(ceiling)), Ok(()));
    }
}

#[test]
fn b30_a_provider_whose_claims_accounts_keep_is_changed_where_the_route_says_so() {
    let keeps = |claim: &str| changed(|settings| settings.claims = vec![claim.to_owned()]);
    let one = administrator(&[], &["department"], None);
    assert_eq!(one.check_not_above(&scopes(&[]), &keeps("department")), Ok(()));
    assert!(one.check_not_above(&scopes(&[]), &keeps("participant_id")).is_err());
    assert_eq!(fields(&one.mistakes(None, &keeps("department"))), Vec::<&str>::new());
    assert_eq!(fields(&one.mistakes(None, &keeps("participant_id"))), ["claims"]);
    assert_eq!(
        fields(&ProviderAuthority::Operator.mistakes(None, &keeps("participant_id"))),
        Vec::<&str>::new()
    );
}

#[test]
fn b30_a_credential_of_one_mode_changes_no_provider() {
    assert_eq!(administrator(&[], &[], None).check_mode(), Ok(()));
    for mode in [Mode::Test, Mode::Live] {
        assert!(administrator(&[], &[], Some(mode)).check_mode().is_err(), "{mode:?}");
    }
}

#[test]
fn b32_domains_are_the_operators_word_and_stay_on_an_update() {
    let one = administrator(&[], &[], None);
    let with = |domains: &[&str]| changed(|settings| settings.domains = domains.iter().map(|domain| (*domain).to_owned()).collect());
    let (own, none) = (with(&["acme.example"]), plain());
    assert_eq!(one.mistakes(Some(&own), &own), []);
    assert_eq!(one.mistakes(None, &none), []);
    for (before, after) in [
        (None, &own),
        (Some(&none), &own),
        (Some(&own), &none),
        (Some(&own), &with(&["acme.example", "other.example"])),
    ] {
        assert_eq!(fields(&one.mistakes(before, after)), ["domains"]);
        assert_eq!(ProviderAuthority::Operator.mistakes(before, after), []);
    }
}

#[test]
fn surfaces_are_those_of_the_route_and_then_those_of_the_provider() {
    let one = administrator(&[], &[], None);
    let other = changed(|settings| settings.session = "staff".into());
    assert_eq!(one.mistakes(None, &plain()), []);
    assert_eq!(fields(&one.mistakes(None, &other)), ["session"]);
    assert_eq!(one.mistakes(Some(&other), &other), [], "the operator has made it so");
    assert_eq!(fields(&one.mistakes(Some(&plain()), &other)), ["session"]);
    let accounts = changed(|settings| settings.account = "staff".into());
    assert_eq!(fields(&one.mistakes(Some(&plain()), &accounts)), ["session"]);
}

#[test]
fn b31_the_secret_for_one_issuer_is_never_sent_to_another() {
    let one = administrator(&[], &[], None);
    let before = plain();
    let elsewhere = |secret: Option<&str>| {
        changed(|settings| {
            let ProviderProtocol::Oidc(oidc) = &mut settings.protocol else {
                panic!()
            };
            oidc.issuer = "https://evil.example".into();
            if let Some(secret) = secret {
                oidc.client_secret_sealed = Some(secret.to_owned());
            } else {
                oidc.client_secret_sealed.clone_from(&before.oidc().unwrap().client_secret_sealed);
            }
        })
    };
    assert_eq!(fields(&one.mistakes(Some(&before), &elsewhere(None))), ["secrets.client_secret"]);
    assert_eq!(one.mistakes(Some(&before), &elsewhere(Some("v1.new.secret"))), []);
    assert_eq!(ProviderAuthority::Operator.mistakes(Some(&before), &elsewhere(None)), []);
    let scopes = {
        let mut same = before.clone();
        let ProviderProtocol::Oidc(oidc) = &mut same.protocol else {
            panic!()
        };
        oidc.scopes.push("groups".into());
        same
    };
    assert_eq!(one.mistakes(Some(&before), &scopes), [], "the issuer stays");
}
