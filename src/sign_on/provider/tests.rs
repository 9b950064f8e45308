//! Settings are read back as they were written, and every mistake in them is named with its field.

use serde_json::json;

use super::*;
use crate::base::fingerprint::Pepper;
use crate::sign_on::seal::{SealPurpose, SealScope, seal};

fn sealed(field: &str) -> String {
    let scope = SealScope {
        purpose: SealPurpose::ProviderSecret,
        owner: "prv_1",
        field,
    };
    seal(&Pepper::new(&[7; 32]).unwrap(), &scope, b"secret").unwrap()
}

/// Settings without a mistake.
pub(in crate::sign_on) fn oidc(domains: &[&str]) -> ProviderSettings {
    ProviderSettings {
        version: SETTINGS_VERSION,
        session: "session".into(),
        account: "account".into(),
        domains: domains.iter().map(|domain| (*domain).to_owned()).collect(),
        provision: true,
        max_session: Some(3_600),
        subject: None,
        email: None,
        name: None,
        claims: vec!["department".into()],
        roles: Some(RoleSettings {
            claim: "groups".into(),
            table: vec![RoleMapping {
                value: "admins".into(),
                roles: vec!["admin".into()],
                scopes: vec!["people:write".into()],
            }],
            default: vec!["viewer".into()],
        }),
        protocol: ProviderProtocol::Oidc(OidcSettings {
            issuer: "https://login.example/tenant".into(),
            client_id: "client".into(),
            auth: ClientAuthMethod::ClientSecretBasic,
            client_secret_sealed: Some(sealed("client_secret")),
            private_key_sealed: None,
            scopes: default_scopes(),
            prompt: None,
            max_age: None,
            acr_values: Vec::new(),
            userinfo: false,
            refresh_tokens: false,
            id_token_algs: Vec::new(),
        }),
    }
}

fn certificate() -> String {
    let certificate = rcgen::generate_simple_self_signed(vec!["idp.example".into()]).unwrap();
    base64::Engine::encode(&base64::engine::general_purpose::STANDARD, certificate.cert.der())
}

fn saml() -> ProviderSettings {
    ProviderSettings {
        protocol: ProviderProtocol::Saml(SamlSettings {
            entity_id: "https://idp.example/metadata".into(),
            sso_redirect_url: Some("https://idp.example/sso".into()),
            sso_post_url: None,
            slo_url: None,
            slo_post_url: None,
            slo_response_url: None,
            certificates: vec![certificate()],
            sp_entity_id: None,
            sign_requests: true,
            want: SignedPart::Either,
            encryption: EncryptionDemand::Required,
            idp_initiated: false,
            name_id_format: None,
            skew: default_skew(),
            own_key_sealed: Some(sealed("own_key")),
            own_certificate: Some(certificate()),
        }),
        ..oidc(&[])
    }
}

/// The fields of all mistakes, in order.
fn fields(settings: &ProviderSettings) -> Vec<String> {
    settings.mistakes().into_iter().map(|mistake| mistake.field).collect()
}

#[test]
fn settings_are_read_back_as_they_were_written() {
    for settings in [oidc(&["acme.example"]), saml()] {
        assert_eq!(settings.mistakes(), []);
        let text = settings.to_text().unwrap();
        assert_eq!(ProviderSettings::parse(&text), Ok(settings.clone()));
        assert_eq!(settings.kind(), if settings.oidc().is_some() { "oidc" } else { "saml" });
    }
}

#[test]
fn what_the_store_need_not_say_has_a_default() {
    let least = json!({
        "version": 1, "session": "s", "account": "a",
        "protocol": { "oidc": { "issuer": "https://i.example", "client_id": "c" } },
    });
    let settings = ProviderSettings::parse(&least.to_string()).unwrap();
    let own = settings.oidc().unwrap();
    assert_eq!(
        (settings.provision, own.userinfo, own.auth),
        (false, false, ClientAuthMethod::ClientSecretBasic)
    );
    assert_eq!(own.scopes, ["openid", "email", "profile"]);
    assert_eq!(
        (settings.subject_claim(), settings.email_claim(), settings.name_claim()),
        ("sub", "email", "name")
    );
    let least = json!({
        "version": 1, "session": "s", "account": "a", "name": "cn",
        "protocol": { "saml": { "entity_id": "e", "certificates": [] } },
    });
    let settings = ProviderSettings::parse(&least.to_string()).unwrap();
    let own = settings.saml().unwrap();
    assert_eq!(
        (own.skew, own.want, own.encryption, own.idp_initiated),
        (60, SignedPart::Either, EncryptionDemand::Optional, false)
    );
    assert_eq!((settings.subject_claim(), settings.name_claim()), ("NameID", "cn"));
}

#[test]
fn what_is_not_the_json_of_settings_is_refused_without_being_repeated() {
    let good: serde_json::Value = serde_json::from_str(&oidc(&[]).to_text().unwrap()).unwrap();
    let with = |name: &str, value: serde_json::Value| {
        let mut changed = good.clone();
        changed[name] = value;
        changed.to_string()
    };
    for bad in [
        String::new(),
        "{}".into(),
        "canary".into(),
        with("unknown", json!("canary")),
        with("domains", json!("canary")),
        with("protocol", json!({ "ldap": {} })),
        with("protocol", json!({ "saml": { "entity_id": "canary" } })),
    ] {
        let error = ProviderSettings::parse(&bad).unwrap_err();
        assert!(matches!(error, SettingsError::Syntax { .. }), "{error}");
        assert!(!error.to_string().contains("canary"), "{error}");
    }
    assert_eq!(ProviderSettings::parse(&with("version", json!(2))), Err(SettingsError::Version(2)));
    let long = "x".repeat(MAX_SETTINGS + 1);
    assert_eq!(ProviderSettings::parse(&long), Err(SettingsError::TooLong(MAX_SETTINGS + 1)));
}

#[test]
fn every_mistake_is_named_at_once() {
    let mut settings = oidc(&["acme.example", "Acme.example", "acme.example", "example", "a@b.example", "10.0.0.1"]);
    settings.session = "a b".into();
    settings.max_session = Some(1);
    settings.subject = Some(String::new());
    settings.claims = vec!["ok".into(), "a\nb".into()];
    let roles = settings.roles.as_mut().unwrap();
    roles.table.push(roles.table[0].clone());
    roles.table.push(RoleMapping {
        value: "nothing".into(),
        roles: Vec::new(),
        scopes: Vec::new(),
    });
    roles.table[0].roles = vec!["not an id".into()];
    roles.table[0].scopes = vec!["two words".into()];
    roles.default = vec![String::new()];
    let ProviderProtocol::Oidc(own) = &mut settings.protocol else {
        panic!("it is oidc")
    };
    own.issuer = "http://login.example".into();
    own.client_id = String::new();
    own.client_secret_sealed = Some("plain".into());
    own.scopes = vec!["email".into()];
    own.prompt = Some("none".into());
    own.id_token_algs = vec!["HS256".into(), "none".into(), "ES256".into()];
    assert_eq!(
        fields(&settings),
        [
            "session",
            "domains[1]",
            "domains[2]",
            "domains[3]",
            "domains[4]",
            "domains[5]",
            "max_session",
            "subject",
            "claims[1]",
            "roles.table[0].roles",
            "roles.table[0].scopes",
            "roles.table[1].value",
            "roles.table[2]",
            "roles.default",
            "protocol.oidc.issuer",
            "protocol.oidc.client_id",
            "protocol.oidc.client_secret_sealed",
            "protocol.oidc.scopes",
            "protocol.oidc.prompt",
            "protocol.oidc.id_token_algs",
            "protocol.oidc.id_token_algs",
        ]
    );
    assert!(settings.mistakes().iter().all(|mistake| !mistake.to_string().contains("plain")));
}

#[test]
fn a_client_needs_what_it_authenticates_with() {
    for (auth, secret, key, wrong) in [
        (ClientAuthMethod::ClientSecretBasic, true, false, None),
        (ClientAuthMethod::ClientSecretPost, true, false, None),
        (ClientAuthMethod::PrivateKeyJwt, false, true, None),
        (
            ClientAuthMethod::ClientSecretBasic,
            false,
            true,
            Some("protocol.oidc.client_secret_sealed"),
        ),
        (
            ClientAuthMethod::ClientSecretPost,
            false,
            false,
            Some("protocol.oidc.client_secret_sealed"),
        ),
        (
            ClientAuthMethod::PrivateKeyJwt,
            true,
            false,
            Some("protocol.oidc.private_key_sealed"),
        ),
    ] {
        let mut settings = oidc(&[]);
        let ProviderProtocol::Oidc(own) = &mut settings.protocol else {
            panic!("it is oidc")
        };
        own.auth = auth;
        own.client_secret_sealed = secret.then(|| sealed("client_secret"));
        own.private_key_sealed = key.then(|| sealed("private_key"));
        assert_eq!(fields(&settings).first().map(String::as_str), wrong, "{auth:?}");
        assert_eq!(settings.sealed().count(), usize::from(secret) + usize::from(key));
    }
}

#[test]
fn a_saml_provider_needs_addresses_certificates_and_our_key() {
    let change = |change: fn(&mut SamlSettings)| {
        let mut settings = saml();
        let ProviderProtocol::Saml(own) = &mut settings.protocol else {
            panic!("it is saml")
        };
        change(own);
        fields(&settings)
    };
    let none: [&str; 0] = [];
    assert_eq!(change(|_| ()), none);
    assert_eq!(change(|own| own.sso_post_url = own.sso_redirect_url.take()), none);
    assert_eq!(change(|own| own.sso_redirect_url = None), ["protocol.saml.sso_redirect_url"]);
    assert_eq!(
        change(|own| own.sso_redirect_url = Some("https://user@idp.example/".into())),
        ["protocol.saml.sso_redirect_url"]
    );
    assert_eq!(change(|own| own.certificates.clear()), ["protocol.saml.certificates"]);
    assert_eq!(
        change(|own| own.certificates.push("AAAA".into())),
        ["protocol.saml.certificates[1]"]
    );
    assert_eq!(
        change(|own| own.certificates = vec![own.certificates[0].clone(); 5]),
        ["protocol.saml.certificates"]
    );
    assert_eq!(change(|own| own.skew = 301), ["protocol.saml.skew"]);
    assert_eq!(change(|own| own.own_certificate = None), ["protocol.saml.own_key_sealed"]);
    let without_key = |own: &mut SamlSettings| (own.own_key_sealed, own.own_certificate) = (None, None);
    assert_eq!(change(without_key), ["protocol.saml.own_key_sealed"]);
    assert_eq!(
        change(|own| {
            (own.own_key_sealed, own.own_certificate) = (None, None);
            (own.sign_requests, own.encryption) = (false, EncryptionDemand::Optional);
        }),
        none
    );
}

#[test]
fn addresses_of_providers_are_https_without_user_and_fragment() {
    let issuer = |url: &str| {
        let mut settings = oidc(&[]);
        let ProviderProtocol::Oidc(own) = &mut settings.protocol else {
            panic!("it is oidc")
        };
        own.issuer = url.into();
        fields(&settings).len()
    };
    for good in [
        "https://a.example",
        "https://a.example/",
        "https://a.example:8443/b",
        "https://[::1]/x",
        "https://10.0.0.1",
    ] {
        assert_eq!(issuer(good), 0, "{good}");
    }
    for bad in [
        "",
        "https://",
        "https:///x",
        "http://a.example",
        "HTTPS://a.example",
        "https://u:p@a.example",
        "https://a.example/#f",
        "https://a.example/a b",
        "https://a.example/\u{e4}",
        "https://a.example:port/",
        "https://a.example/?x",
    ] {
        assert!(issuer(bad) > 0, "{bad}");
    }
}
