//! Settings of a provider as the store has them: whatever is read is written and read back as the same, its mistakes are told in
//! plain words, and a sealed text opens as what was sealed for its place, or not at all.
#![no_main]

use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use durward::base::clock::UnixMillis;
use durward::base::fingerprint::{Pepper, Peppers};
use durward::base::ids::CredentialId;
use durward::sign_on::client::{oidc_client, person_rules};
use durward::sign_on::provider::{ProviderProtocol, ProviderSettings, SamlSettings};
use durward::sign_on::saml::client::{SamlClient, SamlDeparture};
use durward::sign_on::saml::request::MessageId;
use durward::sign_on::saml::sample::SampleProvider;
use durward::sign_on::seal::{SealPurpose, SealScope, mark_of, open, seal};
use libfuzzer_sys::fuzz_target;
use url::Url;

#[path = "../edits.rs"]
mod edits;

const NOW: UnixMillis = UnixMillis(1_795_950_000_000);
const SECRET: &str = "c4n4ry-client-secret";

/// The provider whose settings are read.
struct Subject {
    id: CredentialId,
    peppers: Peppers,
    /// Settings without a mistake, of both kinds.
    right: [String; 2],
    /// What was sealed: a field, and its plain text.
    sealed: [(&'static str, Vec<u8>); 2],
}

fn scope<'s>(id: &'s CredentialId, field: &'s str) -> SealScope<'s> {
    SealScope {
        purpose: SealPurpose::ProviderSecret,
        owner: id.as_str(),
        field,
    }
}

fn subject() -> &'static Subject {
    static SUBJECT: OnceLock<Subject> = OnceLock::new();
    SUBJECT.get_or_init(|| {
        let id = CredentialId::parse("prv_1").unwrap();
        let peppers = Peppers::new(vec![Pepper::new(&[1; 32]).unwrap(), Pepper::new(&[2; 32]).unwrap()]).unwrap();
        let keys = SampleProvider::new(NOW).keys;
        let sealed = |field, plain: &[u8]| seal(peppers.first(), &scope(&id, field), plain).unwrap();
        let certificate = STANDARD.encode(keys.certificate());
        let (secret, key) = (sealed("client_secret", SECRET.as_bytes()), sealed("own_key", keys.private_der()));
        let right = [
            format!(
                r#"{{"version":1,"session":"session","account":"account","domains":["acme.example"],"provision":true,"max_session":3600,"claims":["department"],"roles":{{"claim":"groups","table":[{{"value":"admins","roles":["admin"],"scopes":["people:write"]}}],"default":["viewer"]}},"protocol":{{"oidc":{{"issuer":"https://login.example/tenant","client_id":"client","auth":"client_secret_basic","client_secret_sealed":"{secret}","scopes":["openid","email"],"prompt":"login","max_age":600,"acr_values":["mfa"],"userinfo":true,"id_token_algs":["ES256"]}}}}}}"#
            ),
            format!(
                r#"{{"version":1,"session":"session","account":"account","subject":"uid","protocol":{{"saml":{{"entity_id":"https://idp.example/metadata","sso_redirect_url":"https://idp.example/sso?a=b","slo_url":"https://idp.example/slo","certificates":["{certificate}"],"sign_requests":true,"want":"either","encryption":"required","skew":60,"own_key_sealed":"{key}","own_certificate":"{certificate}"}}}}}}"#
            ),
        ];
        for right in &right {
            assert_eq!(ProviderSettings::parse(right).unwrap().mistakes(), [], "{right}");
        }
        let sealed = [("client_secret", SECRET.into()), ("own_key", keys.private_der().to_vec())];
        Subject { id, peppers, right, sealed }
    })
}

/// A browser that is sent to the provider comes to the host that stands in the settings.
fn begin(subject: &Subject, saml: &SamlSettings) {
    let acs = "https://api.example.com/acs".to_owned();
    let Ok(client) = SamlClient::new(&subject.id, saml, &subject.peppers, acs, None) else {
        return;
    };
    let Ok(departure) = client.begin(&MessageId::generate().unwrap(), "state", NOW) else {
        return;
    };
    let (address, written) = match &departure {
        SamlDeparture::Redirect(address) => (address, saml.sso_redirect_url.as_ref().unwrap()),
        SamlDeparture::Post { url, .. } => (url, saml.sso_post_url.as_ref().unwrap()),
    };
    let authority = written.parse::<http::Uri>().unwrap().authority().unwrap().to_string();
    // A name that ends in a number is an address to a browser (`2130706433`), and a wrong one is followed by none.
    let host = authority.rsplit_once(':').map_or(authority.as_str(), |(host, _)| host);
    let is_number = host
        .rsplit('.')
        .next()
        .is_some_and(|last| last.starts_with(|c: char| c.is_ascii_digit()));
    if let Ok(url) = Url::parse(address)
        && !is_number
        && !host.starts_with('[')
    {
        assert_eq!(url.scheme(), "https", "{address}");
        assert!(url.username().is_empty() && url.password().is_none(), "{address}");
        assert!(url.host_str().is_some_and(|own| own.eq_ignore_ascii_case(host)), "{address}");
        assert_eq!(url.fragment(), None, "{address}");
    }
}

fn judge(subject: &Subject, mut settings: ProviderSettings) {
    let mistakes = settings.mistakes();
    for mistake in &mistakes {
        let words = mistake.to_string();
        assert!(!words.chars().any(char::is_control), "{words:?}");
        assert!(
            settings.sealed().all(|(_, text)| text.len() < 20 || !words.contains(text)),
            "{words}"
        );
    }
    let _ = person_rules(&settings);
    for (field, text) in settings.sealed() {
        if let Ok(plain) = open(&subject.peppers, &scope(&subject.id, field), text) {
            assert!(mark_of(text).is_some());
            assert!(
                subject.sealed.iter().any(|(own, sealed)| *own == field && *sealed == *plain),
                "{field} opens as something that was never sealed for it"
            );
        }
    }
    match &settings.protocol {
        ProviderProtocol::Oidc(oidc) => match oidc_client(&subject.id, oidc, &subject.peppers) {
            Ok(client) => assert!(!format!("{client:?}").contains(SECRET)),
            Err(fault) => assert!(!fault.to_string().chars().any(char::is_control), "{fault}"),
        },
        ProviderProtocol::Saml(saml) if mistakes.is_empty() => begin(subject, saml),
        ProviderProtocol::Saml(_) => {}
    }
    settings.remove_secrets();
    assert_eq!(settings.sealed().count(), 0);
}

// The first byte chooses: a text as it came, or edits of right settings.
fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else { return };
    let subject = subject();
    let text = match choice % 3 {
        0 => String::from_utf8(rest.to_vec()).ok(),
        1 => edits::edited(&subject.right[0], rest),
        _ => edits::edited(&subject.right[1], rest),
    };
    let Some(text) = text else { return };
    let Ok(settings) = ProviderSettings::parse(&text) else { return };
    // What is written may be longer than what was read, by members that have a default.
    if let Ok(written) = settings.to_text() {
        assert_eq!(ProviderSettings::parse(&written).as_ref(), Ok(&settings));
        assert_eq!(settings.to_text().as_ref(), Ok(&written));
    }
    judge(subject, settings);
});
