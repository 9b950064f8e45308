//! Dialects of a configuration: what is built on what, and what wins.

use super::*;
use crate::base::denial::Denial;
use crate::dialect::RefusalContext;

/// What a dialect of this configuration answers.
fn answer(dialects: &str, name: &str, denial: Denial) -> (u16, String, String) {
    let gateway = format!("{GATEWAY}{dialects}");
    let files = table(&[("gateway.toml", &gateway), ("upstreams/orders.toml", ORDERS)]);
    let loaded = check(&files).unwrap_or_else(|e| panic!("{e}"));
    let dialect = loaded.snapshot.dialects.iter().find(|d| d.name == name).unwrap();
    let refusal = dialect.render(denial, &RefusalContext::new("r-1"));
    let challenge = refusal.fields.iter().find(|(n, _)| n == "WWW-Authenticate");
    (
        refusal.status,
        String::from_utf8(refusal.body.to_vec()).unwrap(),
        challenge.map_or_else(String::new, |(_, v)| String::from_utf8(v.to_vec()).unwrap()),
    )
}

// The derived one stands first: the order of the file decides nothing.
const FAMILY: &str = r#"
[dialects.child]
base = "parent"
denials.invalid_credential = { code = "child_code" }
denials.no_route = { message = "Nope." }

[dialects.parent]
realm = "family"
body = '{"c":{{ code }},"m":{{ message }},"r":{{ request_id }}}'
denials.expired_credential = { code = "parent_expired", status = 403 }
denials.no_route = { code = "parent_missing" }
"#;

#[test]
fn a_dialect_keeps_what_its_base_says() {
    let (status, body, _) = answer(FAMILY, "child", Denial::NoRoute);
    assert_eq!((status, body.as_str()), (404, r#"{"c":"parent_missing","m":"Nope.","r":"r-1"}"#));
    let (.., challenge) = answer(FAMILY, "child", Denial::MissingCredential);
    assert_eq!(challenge, "Bearer realm=\"family\"");
}

#[test]
fn what_a_dialect_says_beats_what_its_base_says() {
    // By code beats by name here, because it is the child's.
    let (status, body, _) = answer(FAMILY, "child", Denial::ExpiredCredential);
    assert_eq!((status, body.contains("child_code")), (403, true), "{body}");
    let (_, body, _) = answer(FAMILY, "parent", Denial::ExpiredCredential);
    assert!(body.contains("parent_expired"), "{body}");
    let (_, body, _) = answer(FAMILY, "parent", Denial::NoRoute);
    assert!(
        body.contains("There is nothing here."),
        "the parent is not changed by its child: {body}"
    );
}

#[test]
fn dialects_built_on_each_other_are_each_reported() {
    let gateway = format!("dialect = \"a\"\n{GATEWAY}[dialects]\na.base = \"b\"\nb.base = \"a\"\n");
    let errors = check(&table(&[("gateway.toml", &gateway), ("upstreams/orders.toml", ORDERS)])).unwrap_err();
    assert_eq!(errors.problems.len(), 2, "{errors}");
}
