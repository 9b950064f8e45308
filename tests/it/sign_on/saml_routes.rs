//! The routes of SAML 2.0 through the real binary, with responses that a test signs.

use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use durward::base::clock::UnixMillis;
use durward::base::percent::push_query;
use durward::sign_on::saml::query::inflate;
use durward::sign_on::saml::sample::{ENTITY_ID, SampleProvider, SampleResponse, SignatureStyle};

use super::site::{APP, Browser, House, PUBLIC};
use crate::support::raw::Response;

pub(super) const SSO: &str = "https://idp.example/sso";

pub(super) fn now() -> UnixMillis {
    let time = SystemTime::UNIX_EPOCH.elapsed().unwrap();
    UnixMillis(i64::try_from(time.as_millis()).unwrap())
}

/// A request of ours as it reached the provider.
pub(super) struct SentRequest {
    id: String,
    pub(super) relay_state: String,
}

pub(super) fn sent(location: &str, acs: &str) -> SentRequest {
    let query = location.strip_prefix(&format!("{SSO}?")).unwrap();
    let parameter = |name: &str| {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let mut found = pairs.filter(|(own, _)| *own == name).map(|(_, value)| value);
        durward::base::percent::decode(found.next().unwrap()).unwrap()
    };
    let xml = inflate(&parameter("SAMLRequest")).unwrap();
    assert!(xml.contains(&format!("AssertionConsumerServiceURL=\"{acs}\"")), "{xml}");
    let id = xml.split_once(" ID=\"").unwrap().1.split('"').next().unwrap().to_owned();
    SentRequest {
        id,
        relay_state: parameter("RelayState"),
    }
}

/// The right response to a request, in the session `session` of the provider.
pub(super) fn response(request: Option<&SentRequest>, assertion: &str, session: &str) -> SampleResponse {
    response_at(&format!("{PUBLIC}/saml/corp"), request, assertion, session)
}

/// The same for routes below this address.
pub(super) fn response_at(below: &str, request: Option<&SentRequest>, assertion: &str, session: &str) -> SampleResponse {
    let acs = format!("{below}/acs");
    SampleResponse {
        assertion_id: assertion.to_owned(),
        destination: Some(acs.clone()),
        recipient: acs,
        in_response_to: request.map(|request| request.id.clone()),
        audience: format!("{below}/metadata"),
        session_index: session.to_owned(),
        ..SampleResponse::new(now())
    }
}

pub(super) fn post(browser: &mut Browser<'_>, xml: &str, relay_state: &str) -> Response {
    post_to(browser, "/saml/corp/acs", xml, relay_state)
}

/// A browser posts a response, as the page of its provider lets it.
pub(super) fn post_to(browser: &mut Browser<'_>, target: &str, xml: &str, relay_state: &str) -> Response {
    let mut body = b"SAMLResponse=".to_vec();
    push_query(&mut body, &STANDARD.encode(xml));
    body.extend_from_slice(b"&RelayState=");
    push_query(&mut body, relay_state);
    post_form(browser, target, &String::from_utf8(body).unwrap())
}

/// A browser posts a form of its provider's page.
pub(super) fn post_form(browser: &mut Browser<'_>, target: &str, body: &str) -> Response {
    let form = "Origin: https://idp.example\r\nContent-Type: application/x-www-form-urlencoded\r\n";
    browser.send("POST", target, "text/html", form, body)
}

pub(super) fn text(answer: &Response) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

/// A provider of the tenant `corp`, and its id.
fn corp(house: &House, more: &[&str]) -> (SampleProvider, String) {
    let idp = SampleProvider::new(now());
    let id = house.create_saml("corp", &idp.certificate(), more);
    (idp, id)
}

#[test]
fn a_person_signs_on_by_saml_once_for_each_response() {
    let house = House::open();
    let (idp, _) = corp(&house, &["--sso-url", SSO]);
    let mut browser = house.browser();
    let begin = |browser: &mut Browser<'_>| {
        let answer = browser.get("/sso/corp?return_to=https%3A%2F%2Fapp.example.com%2Fportal%2Fx");
        assert_eq!(answer.status, 303, "{}", text(&answer));
        let cookie = answer.field("set-cookie").unwrap();
        assert!(cookie.contains("SameSite=None"), "the response is a POST of another site: {cookie}");
        sent(answer.field("location").unwrap(), &format!("{PUBLIC}/saml/corp/acs"))
    };
    let request = begin(&mut browser);
    let record = browser.cookies.clone();
    let xml = response(Some(&request), "_assertion-1", "_session-1").with_signed_assertion(&idp);
    let stranger = post(&mut house.browser(), &xml, &request.relay_state);
    assert_eq!(stranger.status, 400, "another browser: {}", text(&stranger));
    let answer = post(&mut browser, &xml, &request.relay_state);
    assert_eq!(answer.status, 303, "{}", text(&answer));
    assert_eq!(answer.field("location"), Some("https://app.example.com/portal/x"));
    assert_eq!(browser.me().status, 200);
    assert_eq!(browser.cookies.len(), 1, "the log-in record is gone");

    let mut again = house.browser();
    again.cookies = record;
    assert_eq!(house.entry(&post(&mut again, &xml, &request.relay_state))["cause"], "log_in_used");
    let second = begin(&mut browser);
    let other = response(Some(&request), "_assertion-2", "_session-1").with_signed_assertion(&idp);
    let refused = post(&mut browser, &other, &second.relay_state);
    assert_eq!(house.entry(&refused)["cause"], "saml_wrong_request", "it answers another request");
    let third = begin(&mut browser);
    let unsigned = response(Some(&third), "_assertion-3", "_session-1");
    let unsigned = unsigned.around(&unsigned.assertion());
    let record = browser.cookies.clone();
    let refused = post(&mut browser, &unsigned, &third.relay_state);
    assert_eq!((refused.status, &house.entry(&refused)["cause"]), (403, &"saml_unsigned".into()));
    assert_eq!(browser.cookies.len(), 1, "the session stays, and the log-in record is gone");
    browser.cookies = record;
    let right = response(Some(&third), "_assertion-4", "_session-4").with_signed_assertion(&idp);
    let answer = post(&mut browser, &right, &third.relay_state);
    assert_eq!(
        answer.status,
        303,
        "what the provider did not sign uses nothing up: {}",
        text(&answer)
    );
    assert!(text(&refused).contains("You could not be signed in"), "{}", text(&refused));
    let garbage = post(&mut house.browser(), "<x/>", "none");
    assert_eq!(garbage.status, 400);
}

#[test]
fn an_assertion_is_used_once_and_a_provider_begins_sign_ons_only_where_it_may() {
    let house = House::open();
    let (idp, id) = corp(&house, &["--sso-url", SSO]);
    let xml = response(None, "_assertion-1", "_session-1").with_signed_assertion(&idp);
    let mut browser = house.browser();
    assert_eq!(house.entry(&post(&mut browser, &xml, ""))["cause"], "no_log_in");
    let told = house.gateways[0].run(&["providers", "update", &id, "--idp-initiated"]);
    assert_eq!(told.code, 0, "{told:?}");
    let answer = post(&mut browser, &xml, "https://evil.example/");
    assert_eq!(answer.status, 303, "{}", text(&answer));
    assert_eq!(answer.field("location"), Some(APP), "an address that is not listed is not followed");
    assert_eq!(browser.me().status, 200);
    let refused = post(&mut house.browser(), &xml, "");
    assert_eq!(house.entry(&refused)["cause"], "saml_replayed");
}

#[test]
fn our_metadata_name_where_responses_go_and_our_key() {
    let house = House::open();
    corp(&house, &["--sso-post-url", SSO, "--sign-requests"]);
    let metadata = house.browser().get("/saml/corp/metadata");
    assert_eq!(metadata.field("content-type"), Some("application/samlmetadata+xml"));
    let xml = text(&metadata);
    for part in [
        format!("entityID=\"{PUBLIC}/saml/corp/metadata\""),
        format!("Binding=\"urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect\" Location=\"{PUBLIC}/saml/corp/log-out\""),
        format!("<md:SingleLogoutService Binding=\"urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST\" Location=\"{PUBLIC}/saml/corp/acs\""),
        format!(
            "<md:AssertionConsumerService Binding=\"urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST\" Location=\"{PUBLIC}/saml/corp/acs\""
        ),
        "<ds:X509Certificate>".to_owned(),
        "AuthnRequestsSigned=\"true\"".to_owned(),
    ] {
        assert!(xml.contains(&part), "{part}: {xml}");
    }
    assert_eq!(
        house.browser().get("/saml/acme/metadata").status,
        404,
        "a tenant without such a provider"
    );
    // The POST binding: a page whose button takes the request there.
    let mut browser = house.browser();
    let page = browser.get("/sso/corp");
    assert_eq!(page.status, 200, "{}", text(&page));
    let body = text(&page);
    assert!(
        body.contains("name=\"SAMLRequest\"") && body.contains("name=\"RelayState\"") && !body.contains("<script"),
        "{body}"
    );
    assert!(page.field("content-security-policy").unwrap().ends_with("form-action https:"));
    assert_eq!(browser.cookies.len(), 1);
}

#[test]
fn what_a_saml_provider_ends_is_refused_here_and_the_browser_goes_back_there() {
    let house = House::open();
    let (idp, _) = corp(
        &house,
        &["--sso-url", SSO, "--slo-url", "https://idp.example/slo", "--idp-initiated"],
    );
    let (mut one, mut two) = (house.browser(), house.browser());
    for (browser, number) in [(&mut one, 1), (&mut two, 2)] {
        let response = response(None, &format!("_assertion-{number}"), &format!("_session-{number}"));
        assert_eq!(post(browser, &response.with_signed_assertion(&idp), "").status, 303);
        assert_eq!(browser.me().status, 200);
    }
    let request = |id: &str, session: &str| {
        let time = jiff::Timestamp::from_millisecond(now().0).unwrap();
        format!(
            r#"<samlp:LogoutRequest xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol" xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion" ID="{id}" Version="2.0" IssueInstant="{time:.3}" Destination="{PUBLIC}/saml/corp/acs"><saml:Issuer>{ENTITY_ID}</saml:Issuer><saml:NameID>ada@corp.example</saml:NameID>{session}</samlp:LogoutRequest>"#
        )
    };
    let send = |xml: &str| {
        let mut body = b"SAMLRequest=".to_vec();
        push_query(&mut body, &STANDARD.encode(xml));
        body.extend_from_slice(b"&RelayState=x");
        post_form(&mut house.browser(), "/saml/corp/acs", &String::from_utf8(body).unwrap())
    };
    let first = request("_logout-1", "<samlp:SessionIndex>_session-1</samlp:SessionIndex>");
    let unsigned = send(&first);
    assert_eq!(house.entry(&unsigned)["cause"], "saml_unsigned");
    assert_eq!(one.me().status, 200);
    let signed = idp.sign(&first, "_logout-1", &SignatureStyle::default());
    let answer = send(&signed);
    assert_eq!(answer.status, 303, "{}", text(&answer));
    let location = answer.field("location").unwrap();
    assert!(
        location.starts_with("https://idp.example/slo?SAMLResponse=") && location.contains("&RelayState=x"),
        "{location}"
    );
    assert!(
        house.entry(&answer)["done"]
            .as_str()
            .unwrap()
            .starts_with("saml_log_out provider:prv_")
    );
    assert_eq!((one.me().status, two.me().status), (401, 200), "the other session goes on");
    assert_eq!(house.entry(&send(&signed))["cause"], "saml_replayed");
    let all = idp.sign(&request("_logout-2", ""), "_logout-2", &SignatureStyle::default());
    assert_eq!(send(&all).status, 303);
    assert_eq!(two.me().status, 401);
}
