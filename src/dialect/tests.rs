//! What the built-in and configured dialects answer.

use super::spec::{Applies, BuiltInDialect, DialectSpec, Override};
use super::template::Template;
use super::*;

fn field<'r>(refusal: &'r Refusal, name: &str) -> Option<&'r str> {
    let mut all = refusal.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes()));
    let found = all.next().map(|(_, v)| std::str::from_utf8(v).unwrap());
    assert!(all.next().is_none(), "{name} occurs once");
    found
}

fn json(refusal: &Refusal) -> serde_json::Value {
    serde_json::from_slice(&refusal.body).unwrap()
}

#[test]
fn every_denial_of_every_base_is_json_and_never_stored() {
    for base in BuiltInDialect::ALL {
        assert_eq!(base.spec().faults(), []);
        let dialect = Dialect::build(&base.spec());
        for row in DENIALS {
            let refusal = dialect.render(row.denial, &RefusalContext::new("r-1"));
            assert_eq!(refusal.status, row.status, "{}", row.label);
            assert_eq!(field(&refusal, "cache-control"), Some("no-store"), "{}", row.label);
            assert!(json(&refusal).is_object(), "{}", row.label);
            assert_eq!(
                field(&refusal, "retry-after"),
                matches!(row.status, 429 | 503).then_some("1"),
                "{}",
                row.label
            );
            assert_eq!(field(&refusal, "allow").is_some(), row.status == 405, "{}", row.label);
        }
    }
}

#[test]
fn problem_details_carry_code_and_request_id() {
    let refusal = Dialect::build(&BuiltInDialect::Problem.spec()).render(Denial::UnknownCredential, &RefusalContext::new("r-1"));
    assert_eq!(refusal.content_type, "application/problem+json");
    assert_eq!(
        json(&refusal),
        serde_json::json!({
            "type": "about:blank", "title": "Unauthorized", "status": 401,
            "detail": "The credential is not valid.", "code": "invalid_credential", "request_id": "r-1",
        })
    );
}

#[test]
fn plain_is_code_and_message_only() {
    let refusal = Dialect::build(&BuiltInDialect::Plain.spec()).render(Denial::NoRoute, &RefusalContext::new("r-1"));
    assert_eq!(
        json(&refusal),
        serde_json::json!({"error": {"code": "not_found", "message": "There is nothing here."}})
    );
}

#[test]
fn a_challenge_names_an_error_only_when_a_credential_was_presented() {
    let dialect = Dialect::build(&BuiltInDialect::Problem.spec());
    let challenge = |denial| field(&dialect.render(denial, &RefusalContext::new("r")), "www-authenticate").map(str::to_owned);
    assert_eq!(challenge(Denial::MissingCredential).as_deref(), Some("Bearer realm=\"api\""));
    assert_eq!(
        challenge(Denial::RevokedCredential).as_deref(),
        Some("Bearer realm=\"api\", error=\"invalid_token\"")
    );
    assert_eq!(
        challenge(Denial::AmbiguousCredentials).as_deref(),
        Some("Bearer realm=\"api\", error=\"invalid_request\"")
    );
    assert_eq!(challenge(Denial::InactiveTenant), None, "no other credential scope would help");
    assert_eq!(challenge(Denial::StoreUnavailable), None);
    assert_eq!(challenge(Denial::NoRoute), None);
}

#[test]
fn insufficient_scope_names_the_scopes_of_the_route() {
    let dialect = Dialect::build(&BuiltInDialect::Plain.spec());
    let mut context = RefusalContext::new("r");
    context.scopes = "orders:read orders:write";
    let refusal = dialect.render(Denial::InsufficientScope, &context);
    assert_eq!(
        field(&refusal, "www-authenticate"),
        Some("Bearer realm=\"api\", error=\"insufficient_scope\", scope=\"orders:read orders:write\"")
    );
    let refusal = dialect.render(Denial::InsufficientScope, &RefusalContext::new("r"));
    assert_eq!(
        field(&refusal, "www-authenticate"),
        Some("Bearer realm=\"api\", error=\"insufficient_scope\"")
    );
}

#[test]
fn allow_lists_the_methods_of_the_bits() {
    let dialect = Dialect::build(&BuiltInDialect::Plain.spec());
    let mut context = RefusalContext::new("r");
    context.allowed = 0b000_0111;
    assert_eq!(
        field(&dialect.render(Denial::MethodNotAllowed, &context), "allow"),
        Some("GET, HEAD, POST")
    );
}

#[test]
fn a_denials_own_change_beats_that_of_its_code() {
    let change = |code: &str, status| Override {
        code: Some(code.into()),
        status,
        ..Override::default()
    };
    let spec = DialectSpec {
        body: Template::parse_refusal(r#"{"e":{{ code }}}"#).unwrap(),
        changes: vec![
            (Applies::Code("invalid_credential".into()), change("invalid_api_key", None)),
            (Applies::Denial(Denial::ExpiredCredential), change("expired", Some(403))),
        ],
        ..BuiltInDialect::Plain.spec()
    };
    let dialect = Dialect::build(&spec);
    let answer = |denial| {
        let refusal = dialect.render(denial, &RefusalContext::new("r"));
        (refusal.status, json(&refusal)["e"].as_str().unwrap().to_owned())
    };
    assert_eq!(answer(Denial::RevokedCredential), (401, "invalid_api_key".into()));
    assert_eq!(answer(Denial::ExpiredCredential), (403, "expired".into()));
    assert_eq!(answer(Denial::MissingCredential), (401, "missing_credential".into()));
}

#[test]
fn a_configured_header_replaces_ours() {
    let spec = DialectSpec {
        headers: vec![("www-authenticate".into(), "ApiKey".into()), ("X-A".into(), "1".into())],
        ..BuiltInDialect::Plain.spec()
    };
    let dialect = Dialect::build(&spec);
    for denial in [Denial::MissingCredential, Denial::InsufficientScope] {
        let refusal = dialect.render(denial, &RefusalContext::new("r"));
        assert_eq!(field(&refusal, "WWW-Authenticate"), Some("ApiKey"));
        assert_eq!(field(&refusal, "x-a"), Some("1"));
    }
}

#[test]
fn a_hostile_request_id_cannot_leave_its_text() {
    let refusal = Dialect::build(&BuiltInDialect::Problem.spec()).render(Denial::NoRoute, &RefusalContext::new("\",\"x\":\"\n"));
    assert_eq!(json(&refusal)["request_id"], "\",\"x\":\"\n");
}

#[test]
fn field_errors_are_told_where_there_are_some() {
    let mut errors = FieldErrors::default();
    errors.push("api_key", "The api key field is required.");
    for base in BuiltInDialect::ALL {
        let dialect = Dialect::build(&base.spec());
        let mut context = RefusalContext::new("r");
        let bare = json(&dialect.render(Denial::InvalidFields, &context));
        assert!(!bare.to_string().contains("details"), "{bare}");
        context.details = Some(&errors);
        let full = json(&dialect.render(Denial::InvalidFields, &context));
        let details = full.get("details").or_else(|| full["error"].get("details"));
        assert_eq!(details, Some(&serde_json::json!({"api_key": ["The api key field is required."]})));
    }
}

#[test]
fn a_known_wait_replaces_the_dialects() {
    let dialect = Dialect::build(&BuiltInDialect::Plain.spec());
    let mut context = RefusalContext::new("r");
    context.retry_after = Some(42);
    assert_eq!(field(&dialect.render(Denial::RateLimited, &context), "retry-after"), Some("42"));
}

#[test]
fn a_refusal_that_cannot_be_written_is_found_before_it_is_needed() {
    let spec = DialectSpec {
        body: Template::parse_refusal(r#"{"e":{% if status == 409 %}{% else %}1{% endif %}}"#).unwrap(),
        ..BuiltInDialect::Plain.spec()
    };
    let faults: Vec<Denial> = spec.faults().into_iter().map(|(denial, _)| denial).collect();
    assert_eq!(faults, [Denial::Taken, Denial::TooManyCredentials]);
}
