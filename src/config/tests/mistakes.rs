//! Every mistake is found, together with all others, and is shown where it was made.

use super::cases::audit::{AUDIT_CASES, ROUTE_AUDIT_CASES};
use super::cases::cors::{CORS_CASES, ROUTE_CORS_CASES};
use super::cases::served::{FORWARDED_CASES, SERVED, SERVED_CASES};
use super::cases::surfaces::SURFACE_CASES;
use super::cases::{Case, GATEWAY_CASES, UPSTREAM_CASES};
use super::*;

/// The text a problem's caret stands under, and its message.
fn told(result: Result<Loaded, ConfigErrors>, files: &InMemory) -> Vec<(String, String)> {
    let Err(errors) = result else { return Vec::new() };
    told_by(&errors.problems, files)
}

fn told_by(problems: &Problems, files: &InMemory) -> Vec<(String, String)> {
    problems
        .iter()
        .map(|d| {
            let text = String::from_utf8(files.files.get(&d.file).cloned().unwrap_or_default()).unwrap();
            let line = text.lines().nth(d.line.saturating_sub(1)).unwrap_or("");
            (line.chars().skip(d.column.saturating_sub(1)).collect(), d.problem.message.clone())
        })
        .collect()
}

#[test]
fn each_mistake_of_the_gateway_file_is_found_alone_and_in_its_place() {
    for Case(added, under, message) in GATEWAY_CASES.iter().chain(SURFACE_CASES).chain(CORS_CASES).chain(AUDIT_CASES) {
        // Bare keys must come before the first table, tables may come last.
        let text = if added.starts_with('[') {
            format!("{GATEWAY}{added}")
        } else {
            format!("{added}{GATEWAY}")
        };
        one_mistake(&text, ORDERS, under, message);
    }
}

/// Uses the surfaces that the cases need, so that no lint speaks of them.
const USES_SERVED: &str = "[[routes]]\npath = \"/log-in\"\nmethods = [\"POST\"]\naccess = { surfaces = [\"people\"] }\nserve = \"mint\"\n\
     mint = [{ surface = \"web\", parent = \"caller\" }]\nanswer.body = '{{ credential.token }}'\n";

#[test]
fn each_mistake_of_a_served_route_is_found_alone_and_in_its_place() {
    let of_gateway = SERVED_CASES
        .iter()
        .map(|Case(added, under, message)| why_not(&format!("{GATEWAY}{SERVED}{added}"), ORDERS, under, message));
    let of_upstream = FORWARDED_CASES.iter().map(|Case(added, under, message)| {
        let gateway = format!("{GATEWAY}{SERVED}{USES_SERVED}");
        why_not(&gateway, &format!("{ORDERS}{added}"), under, message)
    });
    let wrong: Vec<String> = of_gateway.chain(of_upstream).flatten().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_token_that_says_its_scopes_or_has_a_record_may_be_minted_with_scopes() {
    let verdict = |surface: &str, mint: &str| {
        let served = SERVED.replace("record_surface = \"people\"", surface);
        let uses = USES_SERVED.replace("parent = \"caller\"", &format!("parent = \"caller\"{mint}"));
        let mut files = table(&[
            ("gateway.toml", &format!("{GATEWAY}{served}{uses}")),
            ("upstreams/orders.toml", ORDERS),
        ]);
        files.variables.insert("S".into(), "0123456789abcdef0123456789abcdef".into());
        told(check(&files), &files)
    };
    let (sub, scopes) = ("record_surface = \"people\"", ", scopes = \"caller\"");
    assert_eq!(verdict(sub, scopes).len(), 1);
    assert_eq!(verdict(sub, ""), []);
    assert_eq!(verdict(&format!("{sub}\nscopes_claim = \"perms\""), scopes), []);
    assert_eq!(verdict("record = \"own\"", scopes), []);
}

#[test]
fn each_mistake_of_an_upstream_file_is_found_alone_and_in_its_place() {
    for Case(added, under, message) in UPSTREAM_CASES.iter().chain(ROUTE_CORS_CASES).chain(ROUTE_AUDIT_CASES) {
        one_mistake(GATEWAY, &format!("{ORDERS}{added}"), under, message);
    }
    for (endpoint, message) in [
        ("orders:80", "it must begin with"),
        ("ftp://orders", "it must begin with"),
        ("http://orders/path", "only host and port"),
        ("http://u@orders", "only host and port"),
        ("http://orders:0", "host or port cannot be read"),
        ("http://orders:99999", "host or port cannot be read"),
        ("http://[::1", "host or port cannot be read"),
        ("http://", "host or port cannot be read"),
    ] {
        let text = ORDERS.replace("http://127.0.0.1:9000", endpoint);
        one_mistake(GATEWAY, &text, &format!("\"{endpoint}\""), message);
    }
}

fn one_mistake(gateway: &str, upstream: &str, under: &str, message: &str) {
    if let Some(why) = why_not(gateway, upstream, under, message) {
        panic!("{why}");
    }
}

/// Why these files do not have this one mistake in this place; `None` if they have.
fn why_not(gateway: &str, upstream: &str, under: &str, message: &str) -> Option<String> {
    let mut files = table(&[("gateway.toml", gateway), ("upstreams/orders.toml", upstream)]);
    let text = "0123456789abcdef0123456789abcdef-another";
    let long = &text[..32];
    for (name, value) in [("S", long), ("S2", long), ("S3", &text[8..]), ("P", long), ("SHORT", "short")] {
        files.variables.insert(name.into(), value.into());
    }
    let found = told(check(&files), &files);
    let good = found.len() == 1 && found[0].1.contains(message) && found[0].0.starts_with(under);
    (!good).then(|| format!("`{message}` at `{under}`: {found:#?}"))
}

#[test]
fn six_mistakes_of_six_kinds_in_two_files_are_all_reported() {
    let gateway = format!("wrokers = 2\n{GATEWAY}[store]\nmax_age = \"58s\"\nlookup_timeout = \"soon\"\n");
    let upstream = "endpoints = [\"http://127.0.0.1:9000\"]\n\
        [[routes]]\npath = \"/a\"\n\
        [[routes]]\npath = \"/b/**/c\"\naccess = \"public\"\n\
        [[routes]]\npath = \"/c\"\naccess = { surfaces = [\"apy\"] }\n";
    let files = table(&[("gateway.toml", &gateway), ("upstreams/orders.toml", upstream)]);
    let errors = check(&files).unwrap_err();
    let found = told_by(&errors.problems, &files);
    assert_eq!(found.len(), 6, "{errors}");
    let text = errors.to_string();
    for (place, caret) in [
        ("/c/gateway.toml:1:1", "^^^^^^^"),
        ("/c/gateway.toml:11:11", "^^^^^"),
        ("/c/gateway.toml:12:18", "^^^^^^"),
        ("/c/upstreams/orders.toml:2:1", "^^^^^^^^^^"),
        ("/c/upstreams/orders.toml:5:8", "^^^^^^^^^"),
        ("/c/upstreams/orders.toml:9:24", "^^^^^"),
    ] {
        let block = text
            .split("\n\n")
            .find(|b| b.contains(place))
            .unwrap_or_else(|| panic!("{place} in {text}"));
        assert!(block.contains(caret) && block.contains("help: "), "{block}");
    }
    let json = errors.problems.to_json();
    assert_eq!(json.as_array().unwrap().len(), 6);
    assert_eq!(json[0]["file"], "/c/gateway.toml");
    assert_eq!((json[0]["line"].as_u64(), json[0]["column"].as_u64()), (Some(1), Some(1)));
    assert_eq!(json[0]["help"], "did you mean `workers`?");
}

#[test]
fn broken_syntax_in_one_file_hides_nothing_in_the_other() {
    let files = table(&[
        ("gateway.toml", &format!("x = = 1\n{GATEWAY}")),
        ("upstreams/orders.toml", &format!("{ORDERS}[[routes]]\npath = \"/a\"\n")),
    ]);
    let found = told(check(&files), &files);
    assert!(found.iter().any(|(_, m)| m.starts_with("this is not TOML")), "{found:#?}");
    assert!(found.iter().any(|(_, m)| m.contains("`access` is missing")), "{found:#?}");
}

#[test]
fn a_route_of_a_broken_surface_is_not_called_wrong() {
    let files = table(&[
        ("gateway.toml", &GATEWAY.replace("api_key", "apikey")),
        ("upstreams/orders.toml", ORDERS),
    ]);
    let found = told(check(&files), &files);
    assert_eq!(found.len(), 1, "{found:#?}");
}

#[test]
fn a_missing_file_is_named() {
    let errors = check(&InMemory::default()).unwrap_err();
    assert!(errors.to_string().contains("/c/gateway.toml"), "{errors}");
    assert_eq!(errors.problems.len(), 1);
}

#[test]
fn a_route_may_not_accept_two_token_surfaces_in_one_place() {
    let session = |name: &str, secret: &str, carry: &str| {
        format!(
            "[surfaces.{name}]\nkind = \"session_jwt\"\ntoken_kind = \"{name}\"\nsecrets = \"env:{secret}\"\nrecord_surface = \"api\"\ncarry = [\"{carry}\"]\n"
        )
    };
    let verdict = |carry: &str, access: &str| {
        let gateway = format!("{GATEWAY}{}{}", session("a", "A", "bearer"), session("b", "B", carry));
        let routes = access.split(';').enumerate().fold(ORDERS.to_owned(), |text, (i, surfaces)| {
            format!("{text}[[routes]]\npath = \"/{i}\"\naccess = {{ surfaces = [{surfaces}] }}\n")
        });
        let mut files = table(&[("gateway.toml", &gateway), ("upstreams/o.toml", &routes)]);
        files.variables.insert("A".into(), "a".repeat(32));
        files.variables.insert("B".into(), "b".repeat(32));
        told(check(&files), &files)
    };
    let found = verdict("bearer", "\"a\", \"b\"");
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].1.contains("cannot accept both `a` and `b`"), "{found:#?}");
    assert_eq!(verdict("header:X-B", "\"a\", \"b\""), []);
    assert_eq!(verdict("bearer", "\"a\";\"b\""), []);
}

#[test]
fn garbage_reports_a_bounded_number_of_problems() {
    let garbage = "a = \n".repeat(5_000);
    let errors = check(&table(&[("gateway.toml", &garbage)])).unwrap_err();
    assert!((1..=report::MAX_PROBLEMS).contains(&errors.problems.len()));
}

#[test]
fn what_loads_and_looks_wrong_is_a_warning() {
    let warned = |gateway: &str, upstream: &str| {
        let loaded = check_with(gateway, upstream).unwrap_or_else(|e| panic!("{e}"));
        let all: Vec<String> = loaded
            .warnings
            .iter()
            .filter(|d| d.problem.weight == error::ProblemSeverity::Warning)
            .map(|d| d.problem.message.clone())
            .collect();
        all
    };
    assert_eq!(warned("", ""), [] as [&str; 0]);
    assert_eq!(
        warned("[surfaces.x]\nkind = \"api_key\"\nprefixes = [\"x_\"]\n", ""),
        ["no route accepts the surface `x`"]
    );
    assert_eq!(warned("[dialects.d]\n", ""), ["nothing uses the dialect `d`"]);
    assert_eq!(warned("dialect = \"d\"\n[dialects.d]\n", ""), [] as [&str; 0]);
    let hosts = "[[routes]]\npath = \"/**\"\nhosts = [\"a.example\"]\naccess = \"public\"\n";
    assert_eq!(warned("", hosts), ["on host `a.example` this route is never asked"]);
    assert_eq!(
        warned("[proxies]\ntrusted = [\"10.1.0.0/8\"]\n", ""),
        ["`10.1.0.0/8` has bits outside its mask and means `10.0.0.0/8`"]
    );
}
