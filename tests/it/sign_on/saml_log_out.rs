//! Single logout by SAML through the real binary: what a provider sends by redirect, right and wrong.

use std::time::Duration;

use durward::sign_on::saml::key_pair::SpKeyPair;
use durward::sign_on::saml::query::QueryMessage;
use durward::sign_on::saml::request::redirect_url;
use durward::sign_on::saml::sample::{ENTITY_ID, SampleProvider};

use super::saml_routes::{SSO, now, post, response, text};
use super::site::{Browser, House, PUBLIC};
use crate::support::raw::Response;
use crate::support::wait::until;

const SLO: &str = "https://idp.example/slo";

/// Where the tenant corp takes log-outs by redirect.
const LOG_OUT: &str = "/saml/corp/log-out";

/// A logout request. The default is right.
struct Request<'r> {
    id: &'r str,
    destination: &'r str,
    /// Seconds ago.
    made: i64,
    session: &'r str,
    relay_state: Option<&'r str>,
    /// White space behind it.
    padding: usize,
}

impl Default for Request<'_> {
    fn default() -> Self {
        Self {
            id: "_logout-1",
            destination: "https://api.example.com/saml/corp/log-out",
            made: 0,
            session: "_session-1",
            relay_state: Some("a state & more"),
            padding: 0,
        }
    }
}

impl Request<'_> {
    fn xml(&self) -> String {
        let (id, destination, session) = (self.id, self.destination, self.session);
        let time = jiff::Timestamp::from_millisecond(now().0 - self.made * 1000).unwrap();
        let padding = " ".repeat(self.padding);
        format!(
            r#"<samlp:LogoutRequest xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol" xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion" ID="{id}" Version="2.0" IssueInstant="{time:.3}" Destination="{destination}"><saml:Issuer>{ENTITY_ID}</saml:Issuer><saml:NameID>ada@corp.example</saml:NameID><samlp:SessionIndex>{session}</samlp:SessionIndex>{padding}</samlp:LogoutRequest>"#
        )
    }

    /// The query by which a browser brings it, signed by these keys.
    fn query(&self, keys: Option<&SpKeyPair>) -> String {
        let url = redirect_url("https://x", QueryMessage::Request, &self.xml(), self.relay_state, keys).unwrap();
        url.split_once('?').unwrap().1.to_owned()
    }
}

/// A browser comes from the provider with this query.
fn bring(house: &House, gateway: usize, query: &str) -> Response {
    let mut browser = house.browser();
    browser.at = gateway;
    browser.get(&format!("{LOG_OUT}?{query}"))
}

/// A browser whose person signed on in this session of the provider.
fn signed_on<'h>(house: &'h House, idp: &SampleProvider, number: u8) -> Browser<'h> {
    let mut browser = house.browser();
    let response = response(None, &format!("_assertion-{number}"), &format!("_session-{number}"));
    let answer = post(&mut browser, &response.with_signed_assertion(idp), "");
    assert_eq!(answer.status, 303, "{}", text(&answer));
    assert_eq!(browser.me().status, 200);
    browser
}

fn create(house: &House, idp: &SampleProvider) {
    let more = ["--sso-url", SSO, "--slo-url", SLO, "--idp-initiated"];
    house.create_saml("corp", &idp.certificate(), &more);
}

#[test]
fn a_logout_request_by_redirect_ends_the_session_on_both_gateways_and_is_answered() {
    let house = House::pair();
    let idp = SampleProvider::new(now());
    create(&house, &idp);
    let (mut one, mut two) = (signed_on(&house, &idp, 1), signed_on(&house, &idp, 2));
    for browser in [&mut one, &mut two] {
        browser.at = 1;
        assert_eq!(browser.me().status, 200);
    }
    let query = Request::default().query(Some(&idp.keys));
    let answer = bring(&house, 0, &query);
    assert_eq!(answer.status, 303, "{}", text(&answer));
    let location = answer.field("location").unwrap();
    let answered = location.strip_prefix(&format!("{SLO}?SAMLResponse=")).unwrap();
    assert!(
        answered.contains("&RelayState=a%20state%20%26%20more&SigAlg=") && answered.contains("&Signature="),
        "{location}"
    );
    assert_eq!(answer.field("cache-control"), Some("no-store"));
    until("the end at the other gateway", Duration::from_secs(1), || {
        (one.me().status == 401).then_some(())
    });
    one.at = 0;
    assert_eq!((one.me().status, two.me().status), (401, 200), "the other session goes on");
    let done = house.entry(&answer)["done"].to_string();
    assert!(done.contains("saml_log_out provider:prv_") && done.contains("sign_on:"), "{done}");
    for gateway in [1, 0] {
        let again = bring(&house, gateway, &query);
        assert_eq!(again.status, 400, "{}", text(&again));
        assert!(text(&again).contains("This log-out was refused"), "{}", text(&again));
    }
}

#[test]
fn b23_a_logout_request_by_redirect_that_is_wrong_ends_nothing() {
    let house = House::open();
    let idp = SampleProvider::new(now());
    create(&house, &idp);
    let same = ["--sso-url", SSO, "--slo-url", SLO];
    house.create_saml("twin", &idp.certificate(), &same);
    let stranger = SampleProvider::new(now());
    house.create_saml("other", &stranger.certificate(), &same);
    let mut browser = signed_on(&house, &idp, 1);
    let right = || Request::default().query(Some(&idp.keys));
    let with = |request: Request<'_>| request.query(Some(&idp.keys));
    let unsigned = Request::default().query(None);
    let signature = |query: &str| query[query.find("&SigAlg=").unwrap()..].to_owned();
    let message = right().split('&').next().unwrap().to_owned();
    for (query, cause) in [
        (unsigned.clone(), "saml_unsigned"),
        (format!("{unsigned}&SigAlg=none&Signature="), "saml_signature_algorithm"),
        (Request::default().query(Some(&stranger.keys)), "saml_signature_wrong"),
        (
            format!(
                "{unsigned}{}",
                signature(&with(Request {
                    id: "_logout-2",
                    ..Request::default()
                }))
            ),
            "saml_signature_wrong",
        ),
        (right().replacen("RelayState=a", "RelayState=b", 1), "saml_signature_wrong"),
        (
            right().replacen("&RelayState=a%20state%20%26%20more", "", 1),
            "saml_signature_wrong",
        ),
        (right().replacen("%20", "+", 1), "saml_signature_wrong"),
        (
            right().replacen("RelayState=a", &format!("RelayState={}", "a".repeat(80)), 1),
            "saml_encoding",
        ),
        (format!("{}&RelayState=b", right()), "saml_encoding"),
        (format!("{}&{message}", right()), "saml_encoding"),
        (format!("{}{}", right(), signature(&right())), "saml_encoding"),
        (format!("{}&SAMLEncoding=none", right()), "saml_encoding"),
        (format!("{}&SAMLResponse=x", right()), "saml_encoding"),
        (String::new(), "saml_encoding"),
        (
            right().replacen("xmldsig-more%23rsa-sha256", "xmldsig-more%23rsa-sha1", 1),
            "saml_signature_algorithm",
        ),
        (
            with(Request {
                padding: 2 * 1024 * 1024,
                ..Request::default()
            }),
            "saml_too_large",
        ),
        (
            with(Request {
                destination: "https://api.example.com/saml/corp/acs",
                ..Request::default()
            }),
            "saml_wrong_destination",
        ),
        (
            with(Request {
                made: 3600,
                ..Request::default()
            }),
            "saml_expired",
        ),
        (
            with(Request {
                made: -3600,
                ..Request::default()
            }),
            "saml_not_yet_valid",
        ),
    ] {
        let answer = bring(&house, 0, &query);
        assert!(matches!(answer.status, 400 | 403), "{cause}: {}", answer.status);
        assert_eq!(house.entry(&answer)["cause"], cause, "{query}");
        assert_eq!(browser.me().status, 200, "{cause}");
    }
    // The same request at the address of another tenant, whose provider has the same certificate, or another one.
    for (tenant, cause) in [("twin", "saml_wrong_destination"), ("other", "saml_signature_wrong")] {
        let answer = house.browser().get(&format!("/saml/{tenant}/log-out?{}", right()));
        assert_eq!((answer.status, &house.entry(&answer)["cause"]), (403, &cause.into()));
        let there = format!("{PUBLIC}/saml/{tenant}/log-out");
        let for_it = with(Request {
            id: "_logout-3",
            destination: &there,
            ..Request::default()
        });
        let answer = house.browser().get(&format!("/saml/{tenant}/log-out?{for_it}"));
        assert_eq!(
            answer.status,
            if tenant == "twin" { 303 } else { 403 },
            "it is that provider's, or not"
        );
        assert_eq!(browser.me().status, 200, "a session of another tenant goes on");
    }
    assert_eq!(
        house.browser().get(&format!("/saml/acme/log-out?{}", right())).status,
        404,
        "no SAML provider"
    );
    let long = format!("{}&RelayState={}", right(), "a".repeat(8 * 1024));
    assert_eq!(bring(&house, 0, &long).status, 414);
    assert_eq!(house.browser().send("POST", LOG_OUT, "text/html", "", "").status, 405);

    let named = "&SAMLEncoding=urn%3Aoasis%3Anames%3Atc%3ASAML%3A2.0%3Abindings%3AURL-Encoding%3ADEFLATE";
    let answer = bring(&house, 0, &format!("{}{named}", right()));
    assert_eq!(answer.status, 303, "{}", text(&answer));
    assert_eq!(browser.me().status, 401);
}
