//! No message of single logout counts that the provider did not sign, by either binding, and whatever is changed: what verifies
//! says what was signed.
#![no_main]

use std::sync::OnceLock;

use durward::base::clock::UnixMillis;
use durward::sign_on::saml::logout::{LogoutAnswerClaims, LogoutClaims};
use durward::sign_on::saml::query::{QueryMessage, RedirectQuery, inflate};
use durward::sign_on::saml::request::redirect_url;
use durward::sign_on::saml::sample::{ENTITY_ID, SampleProvider, SignatureStyle};
use durward::sign_on::saml::verifier::{JobKeys, LogoutJob, LogoutMessage, verify_logout_answer, verify_logout_request};
use libfuzzer_sys::fuzz_target;

#[path = "../edits.rs"]
mod edits;

const NOW: UnixMillis = UnixMillis(1_795_950_000_000);

struct Signed {
    provider: SampleProvider,
    posted: String,
    query: String,
    claims: LogoutClaims,
    answer: String,
    answered: LogoutAnswerClaims,
}

fn signed() -> &'static Signed {
    static SIGNED: OnceLock<Signed> = OnceLock::new();
    SIGNED.get_or_init(|| {
        let provider = SampleProvider::new(NOW);
        let request = format!(
            r#"<samlp:LogoutRequest xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol" xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion" ID="_logout" Version="2.0" IssueInstant="2026-11-29T11:00:00Z" Destination="https://gateway.example/slo"><saml:Issuer>{ENTITY_ID}</saml:Issuer><saml:NameID>ada@corp.example</saml:NameID><samlp:SessionIndex>_session</samlp:SessionIndex></samlp:LogoutRequest>"#
        );
        let posted = provider.sign(&request, "_logout", &SignatureStyle::default());
        let url = redirect_url("https://x", QueryMessage::Request, &request, Some("state"), Some(&provider.keys)).unwrap();
        let query = url.split_once('?').unwrap().1.to_owned();
        let claims = verify(&provider, LogoutMessage::Posted(posted.clone())).unwrap();
        let parsed = RedirectQuery::parse(&query, QueryMessage::Request).unwrap();
        assert_eq!(verify(&provider, LogoutMessage::Redirected(parsed.signed)), Some(claims.clone()));
        let answer = format!(
            r#"<samlp:LogoutResponse xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol" xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion" ID="_answer" Version="2.0" IssueInstant="2026-11-29T11:00:00Z" Destination="https://gateway.example/slo" InResponseTo="_ours"><saml:Issuer>{ENTITY_ID}</saml:Issuer><samlp:Status><samlp:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:Success"/></samlp:Status></samlp:LogoutResponse>"#
        );
        let answer = provider.sign(&answer, "_answer", &SignatureStyle::default());
        let answered = verify_answer(&provider, LogoutMessage::Posted(answer.clone())).unwrap();
        Signed {
            provider,
            posted,
            query,
            claims,
            answer,
            answered,
        }
    })
}

fn verify(provider: &SampleProvider, message: LogoutMessage) -> Option<LogoutClaims> {
    let keys = JobKeys::new(&[provider.certificate()], NOW);
    verify_logout_request(&LogoutJob { message, keys }).ok()
}

fn verify_answer(provider: &SampleProvider, message: LogoutMessage) -> Option<LogoutAnswerClaims> {
    let keys = JobKeys::new(&[provider.certificate()], NOW);
    verify_logout_answer(&LogoutJob { message, keys }).ok()
}

// The first byte chooses: edits of a posted or of a redirected request, of a posted answer, or a query as it came.
fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else { return };
    let signed = signed();
    match choice % 4 {
        0 => {
            let Some(text) = edits::edited(&signed.posted, rest) else { return };
            if let Some(claims) = verify(&signed.provider, LogoutMessage::Posted(text)) {
                assert_eq!(claims, signed.claims);
            }
        }
        1 => {
            let Some(query) = edits::edited(&signed.query, rest) else { return };
            if let Ok(query) = RedirectQuery::parse(&query, QueryMessage::Request)
                && let Some(claims) = verify(&signed.provider, LogoutMessage::Redirected(query.signed))
            {
                assert_eq!(claims, signed.claims);
            }
        }
        2 => {
            let Some(text) = edits::edited(&signed.answer, rest) else { return };
            assert!(
                verify(&signed.provider, LogoutMessage::Posted(text.clone())).is_none(),
                "an answer is no request"
            );
            if let Some(claims) = verify_answer(&signed.provider, LogoutMessage::Posted(text)) {
                assert_eq!(claims, signed.answered);
            }
        }
        _ => {
            let Ok(text) = std::str::from_utf8(rest) else { return };
            let _ = inflate(text);
            for carries in [QueryMessage::Request, QueryMessage::Response] {
                if let Ok(query) = RedirectQuery::parse(text, carries) {
                    assert!(query.relay_state.is_none_or(|state| state.len() <= 80));
                    assert!(verify(&signed.provider, LogoutMessage::Redirected(query.signed.clone())).is_none());
                    assert!(verify_answer(&signed.provider, LogoutMessage::Redirected(query.signed)).is_none());
                }
            }
        }
    }
});
