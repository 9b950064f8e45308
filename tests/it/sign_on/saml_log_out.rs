//! Single logout by SAML through the real binary: what a provider sends by redirect, right and wrong, and log-outs that are begun
//! here.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use durward::base::percent::push_query;
use durward::sign_on::saml::key_pair::SpKeyPair;
use durward::sign_on::saml::logout::LogoutClaims;
use durward::sign_on::saml::query::{QueryMessage, RedirectQuery};
use durward::sign_on::saml::request::redirect_url;
use durward::sign_on::saml::sample::{ENTITY_ID, SampleProvider, SignatureStyle};
use durward::sign_on::saml::verifier::{JobKeys, LogoutJob, LogoutMessage, verify_logout_request};
use rustls::pki_types::CertificateDer;

use super::fake::decoded;
use super::saml_routes::{SSO, now, post, post_form, response, text};
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

fn create(house: &House, idp: &SampleProvider) -> String {
    let more = ["--sso-url", SSO, "--slo-url", SLO, "--idp-initiated"];
    house.create_saml("corp", &idp.certificate(), &more)
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

#[expect(clippy::too_many_lines, reason = "a table of wrong requests, each with its cause")]
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

/// The certificate of our key, as our metadata show it.
fn our_certificate(house: &House) -> CertificateDer<'static> {
    let metadata = text(&house.browser().get("/saml/corp/metadata"));
    let begin = metadata.split_once("<ds:X509Certificate>").unwrap().1;
    let certificate = begin.split_once('<').unwrap().0;
    CertificateDer::from(STANDARD.decode(certificate).unwrap())
}

/// What a logout request of ours says, by our certificate.
fn verified(house: &House, message: LogoutMessage) -> LogoutClaims {
    let keys = JobKeys::new(&[our_certificate(house)], now());
    verify_logout_request(&LogoutJob { message, keys }).unwrap_or_else(|fault| panic!("{fault}"))
}

/// A browser posts the application's form that logs out.
fn leave(browser: &mut Browser<'_>, accept: &str) -> Response {
    let form = "Origin: http://localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n";
    browser.send(
        "POST",
        "/log-out",
        accept,
        form,
        "return_to=https%3A%2F%2Fapp.example.com%2Fportal%2Fbye",
    )
}

/// A log-out that was begun here, as the provider sees it.
struct Begun {
    claims: LogoutClaims,
    state: String,
}

/// Logs the browser out, which is taken to its provider by redirect.
fn begin(house: &House, browser: &mut Browser<'_>) -> Begun {
    let answer = leave(browser, "text/html");
    assert_eq!(answer.status, 303, "{}", text(&answer));
    let location = answer.field("location").unwrap();
    let query = location.strip_prefix(&format!("{SLO}?")).unwrap_or_else(|| panic!("{location}"));
    let query = RedirectQuery::parse(query, QueryMessage::Request).unwrap();
    Begun {
        claims: verified(house, LogoutMessage::Redirected(query.signed)),
        state: query.relay_state.unwrap(),
    }
}

/// The provider's answer. The default is right but for what it answers.
struct Answer<'r> {
    request: &'r str,
    destination: &'r str,
    made: i64,
    status: &'r str,
}

const DONE: &str = r#"<samlp:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:Success"/>"#;

impl<'r> Answer<'r> {
    fn to(request: &'r str) -> Self {
        Self {
            request,
            destination: "https://api.example.com/saml/corp/log-out",
            made: 0,
            status: DONE,
        }
    }

    fn xml(&self) -> String {
        let (request, destination, status) = (self.request, self.destination, self.status);
        let time = jiff::Timestamp::from_millisecond(now().0 - self.made * 1000).unwrap();
        format!(
            r#"<samlp:LogoutResponse xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol" xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion" ID="_answer" Version="2.0" IssueInstant="{time:.3}" Destination="{destination}" InResponseTo="{request}"><saml:Issuer>{ENTITY_ID}</saml:Issuer><samlp:Status>{status}</samlp:Status></samlp:LogoutResponse>"#
        )
    }

    fn query(&self, state: &str, keys: Option<&SpKeyPair>) -> String {
        let url = redirect_url("https://x", QueryMessage::Response, &self.xml(), Some(state), keys).unwrap();
        url.split_once('?').unwrap().1.to_owned()
    }
}

#[test]
fn a_log_out_begun_here_ends_the_session_first_and_comes_back_from_the_provider() {
    let house = House::pair();
    let idp = SampleProvider::new(now());
    create(&house, &idp);
    let mut browser = signed_on(&house, &idp, 1);
    let session = browser.cookies.clone();
    let begun = begin(&house, &mut browser);
    assert_eq!(begun.claims.destination.as_deref(), Some(SLO));
    assert_eq!(begun.claims.issuer, format!("{PUBLIC}/saml/corp/metadata"));
    assert_eq!(begun.claims.name_id.value, "ada@corp.example");
    let format = "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress";
    assert_eq!(begun.claims.name_id.format.as_deref(), Some(format), "as the provider wrote it");
    assert_eq!(begun.claims.session_indexes, ["_session-1"]);
    assert!(begun.state.len() <= 80);
    let mut kept = house.browser();
    kept.cookies = session;
    assert_eq!(kept.me().status, 401, "it has ended before the provider says anything");
    assert_eq!(browser.cookies.keys().collect::<Vec<_>>(), ["__Host-durward-log-out"]);

    let query = Answer::to(&begun.claims.id).query(&begun.state, Some(&idp.keys));
    let stranger = bring(&house, 0, &query);
    assert_eq!((stranger.status, &house.entry(&stranger)["cause"]), (400, &"no_log_out".into()));
    assert!(text(&stranger).contains("This log-out was refused"), "{}", text(&stranger));
    let record = browser.cookies.clone();
    browser.at = 1;
    let back = browser.get(&format!("{LOG_OUT}?{query}"));
    assert_eq!(
        (back.status, back.field("location")),
        (303, Some("https://app.example.com/portal/bye"))
    );
    assert!(browser.cookies.is_empty(), "{:?}", browser.cookies);
    browser.cookies = record;
    browser.at = 0;
    let again = browser.get(&format!("{LOG_OUT}?{query}"));
    assert_eq!((again.status, &house.entry(&again)["cause"]), (400, &"saml_replayed".into()));
}

#[test]
fn an_answer_that_proves_nothing_is_told_and_leads_nowhere_else() {
    let house = House::open();
    let idp = SampleProvider::new(now());
    let id = create(&house, &idp);
    let stranger = SampleProvider::new(now());
    let own = Some(&idp.keys);
    type Change = for<'a> fn(Answer<'a>) -> Answer<'a>;
    let table: [(Change, Option<&SpKeyPair>, &str); 9] = [
        (|right| right, own, ""),
        (|right| right, None, "saml_unsigned"),
        (|right| right, Some(&stranger.keys), "saml_signature_wrong"),
        (
            |right| Answer {
                request: "_another",
                ..right
            },
            own,
            "saml_wrong_request",
        ),
        (
            |right| Answer {
                destination: "https://api.example.com/saml/corp/acs",
                ..right
            },
            own,
            "saml_wrong_destination",
        ),
        (|right| Answer { made: 3600, ..right }, own, "saml_expired"),
        (|right| Answer { made: -3600, ..right }, own, "saml_not_yet_valid"),
        (|right| Answer { status: PARTIAL, ..right }, own, "saml_logout_status"),
        (|right| Answer { status: FAILED, ..right }, own, "saml_logout_status"),
    ];
    for (number, (change, keys, cause)) in (1..).zip(table) {
        let mut browser = signed_on(&house, &idp, number);
        let begun = begin(&house, &mut browser);
        let query = change(Answer::to(&begun.claims.id)).query(&begun.state, keys);
        let back = browser.get(&format!("{LOG_OUT}?{query}"));
        assert_eq!(
            (back.status, back.field("location")),
            (303, Some("https://app.example.com/portal/bye")),
            "{cause}"
        );
        let done = house.entry(&back)["done"].as_str().unwrap().to_owned();
        let wanted = match cause {
            "" => "saml_logged_out provider:prv_".to_owned(),
            cause => format!("saml_log_out_unproven {cause} provider:prv_"),
        };
        assert!(done.starts_with(&wanted), "{cause}: {done}");
        assert!(browser.cookies.is_empty(), "{cause}");
    }
    // A request is no answer, whatever the browser has begun; and another state is another log-out's.
    let mut browser = signed_on(&house, &idp, 20);
    let begun = begin(&house, &mut browser);
    let answer = Answer::to(&begun.claims.id);
    let other = browser.get(&format!("{LOG_OUT}?{}", answer.query("another-state", own)));
    assert_eq!((other.status, &house.entry(&other)["cause"]), (400, &"no_log_out".into()));
    let signed = answer.query(&begun.state, own);
    let edited = browser.get(&format!("{LOG_OUT}?{}", signed.replacen("RelayState=", "RelayState=x", 1)));
    assert_eq!(edited.status, 400);
    // At the address of another tenant.
    house.create_saml("twin", &idp.certificate(), &["--sso-url", SSO, "--slo-url", SLO]);
    let elsewhere = browser.get(&format!("/saml/twin/log-out?{signed}"));
    assert_eq!((elsewhere.status, &house.entry(&elsewhere)["cause"]), (400, &"wrong_tenant".into()));
    // The record is still there, and leads on although the provider has been disabled meanwhile.
    house.gateways[0].json(&["providers", "disable", &id]);
    let back = browser.get(&format!("{LOG_OUT}?{signed}"));
    assert_eq!(back.status, 303, "{}", text(&back));
    let done = house.entry(&back)["done"].to_string();
    assert!(done.contains("saml_log_out_unproven provider_ended provider:"), "{done}");
}

const PARTIAL: &str = r#"<samlp:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:Success"><samlp:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:PartialLogout"/></samlp:StatusCode>"#;
const FAILED: &str = r#"<samlp:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:Responder"/>"#;

#[test]
fn a_log_out_by_post_is_a_page_with_a_button_and_a_form_for_scripts() {
    let house = House::open();
    let idp = SampleProvider::new(now());
    let more = ["--sso-url", SSO, "--slo-post-url", SLO, "--idp-initiated"];
    house.create_saml("corp", &idp.certificate(), &more);
    let mut browser = signed_on(&house, &idp, 1);
    let page = leave(&mut browser, "text/html");
    assert_eq!(page.status, 200, "{}", text(&page));
    let body = text(&page).replace("&#x2f;", "/");
    let value = |name: &str| {
        let field = body
            .split_once(&format!("name=\"{name}\" value=\""))
            .unwrap_or_else(|| panic!("{body}"))
            .1;
        field.split_once('"').unwrap().0.to_owned()
    };
    assert!(body.contains(&format!("action=\"{SLO}\"")) && !body.contains("<script"), "{body}");
    let xml = STANDARD.decode(value("SAMLRequest")).unwrap();
    let claims = verified(&house, LogoutMessage::Posted(String::from_utf8(xml).unwrap()));
    let state = value("RelayState");

    // The answer comes to the assertion consumer service, and is not taken for a sign-on.
    let acs = format!("{PUBLIC}/saml/corp/acs");
    let xml = Answer {
        destination: &acs,
        ..Answer::to(&claims.id)
    }
    .xml();
    let mut form = b"SAMLResponse=".to_vec();
    push_query(&mut form, &STANDARD.encode(idp.sign(&xml, "_answer", &SignatureStyle::default())));
    form.extend_from_slice(format!("&RelayState={state}").as_bytes());
    let form = String::from_utf8(form).unwrap();
    let stranger = post_form(&mut house.browser(), "/saml/corp/acs", &form);
    assert_eq!(
        (stranger.status, &house.entry(&stranger)["cause"]),
        (403, &"saml_wrong_message".into()),
        "another browser began no log-out, and this is no sign-on"
    );
    let back = post_form(&mut browser, "/saml/corp/acs", &form);
    assert_eq!(
        (back.status, back.field("location")),
        (303, Some("https://app.example.com/portal/bye"))
    );
    assert!(
        house.entry(&back)["done"]
            .as_str()
            .unwrap()
            .starts_with("saml_logged_out provider:")
    );

    let mut browser = signed_on(&house, &idp, 2);
    let told = leave(&mut browser, "application/json");
    let told_body = told.json();
    assert_eq!(
        (told.status, &told_body["location"]),
        (200, &"https://app.example.com/portal/bye".into())
    );
    assert_eq!(told_body["form"]["action"], SLO);
    let fields = told_body["form"]["fields"].as_object().unwrap();
    assert_eq!(fields.keys().collect::<Vec<_>>(), ["RelayState", "SAMLRequest"]);
}

#[test]
fn a_script_is_told_the_address_and_a_provider_without_one_is_left() {
    let house = House::open();
    let idp = SampleProvider::new(now());
    let id = house.create_saml("corp", &idp.certificate(), &["--sso-url", SSO, "--idp-initiated"]);
    let mut before = signed_on(&house, &idp, 1);
    assert_eq!(
        leave(&mut before, "text/html").field("location"),
        Some("https://app.example.com/portal/bye")
    );
    // Who signed on before the address was known is logged out here alone.
    let mut before = signed_on(&house, &idp, 2);
    house.gateways[0].json(&["providers", "update", &id, "--slo-url", SLO]);
    assert_eq!(
        leave(&mut before, "text/html").field("location"),
        Some("https://app.example.com/portal/bye")
    );
    assert_eq!(before.me().status, 401);
    let mut after = signed_on(&house, &idp, 3);
    let told = leave(&mut after, "application/json").json();
    assert!(
        decoded(told["location"].as_str().unwrap()).starts_with(&format!("{SLO}?SAMLRequest=")),
        "{told}"
    );
    assert!(told.get("form").is_none() && after.me().status == 401);
    // What is kept is in no list and in no trail.
    let listed = house.gateways[0].run(&["audit", "query", "--json"]).stdout;
    assert!(!listed.contains("ada@corp.example") && !listed.contains("_session-3"), "{listed}");
}
