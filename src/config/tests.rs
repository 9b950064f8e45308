//! What loads, what does not, and how that is said.

use std::path::Path;

use super::*;

mod audit;
mod browsers;
mod cases;
mod constants;
mod dialects;
mod documentation;
mod examples;
mod external;
mod garbage;
mod json_schema;
mod lifecycle;
mod limits;
mod log_in;
mod many;
mod mistakes;
mod providers;
mod secrets;
mod sign_on;
mod store;
mod surfaces;

pub(super) const GATEWAY: &str = r#"
[[listeners]]
name = "public"
address = "127.0.0.1:8080"

[surfaces.api]
kind = "api_key"
prefixes = { live = "hlive_", test = "htst_" }
"#;

pub(super) const ORDERS: &str = r#"
endpoints = ["http://127.0.0.1:9000"]

[[routes]]
methods = ["GET"]
path = "/v1/orders/**"
access = { surfaces = ["api"], scopes = ["orders:read"] }
"#;

/// Files beside each other in `/c`.
pub(super) fn table(files: &[(&str, &str)]) -> InMemory {
    InMemory {
        files: files
            .iter()
            .map(|(n, t)| (Path::new("/c").join(n), t.as_bytes().to_vec()))
            .collect(),
        ..InMemory::default()
    }
}

pub(super) fn check(table: &InMemory) -> Result<Loaded, ConfigErrors> {
    load_from(Path::new("/c/gateway.toml"), Purpose::Check, table)
}

/// Checks a gateway file with more lines, beside an upstream file with more lines.
pub(super) fn check_with(gateway: &str, upstream: &str) -> Result<Loaded, ConfigErrors> {
    check(&table(&[
        ("gateway.toml", &format!("{gateway}{GATEWAY}")),
        ("upstreams/orders.toml", &format!("{ORDERS}{upstream}")),
    ]))
}

#[test]
fn a_minimal_configuration_loads_with_the_documented_defaults() {
    let loaded = check_with("", "").unwrap();
    let (settings, snapshot) = (&loaded.settings, &loaded.snapshot);
    assert_eq!(snapshot.routes[0].name, "orders/1");
    assert_eq!(snapshot.surfaces.len(), 1);
    assert_eq!(snapshot.certificates.len(), 1);
    assert!(snapshot.certificates[0].is_none());
    assert_eq!(settings.listeners.len(), 1);
    assert_eq!(settings.limits, crate::snapshot::Limits::default());
    assert_eq!(settings.store.max_age, std::time::Duration::from_secs(30));
    assert_eq!(settings.revocation_bound, std::time::Duration::from_secs(60));
    assert_eq!(settings.stream_check, std::time::Duration::from_secs(15));
    assert_eq!(settings.admin.socket, Path::new("/c/state/admin.sock"));
    assert!(settings.workers >= 1);
}

#[test]
fn routes_are_found_through_the_built_router() {
    use crate::decide::method::Method;
    use crate::decide::route::RouteIndex;
    let loaded = check_with(
        "",
        "[[routes]]\npath = \"/v1/orders/{id}\"\nhosts = [\"API.example.com\"]\nmethods = [\"POST\"]\naccess = \"public\"\n",
    )
    .unwrap();
    let router = &loaded.snapshot.router;
    assert_eq!(router.find("api.example.com", Method::Post, "/v1/orders/1"), Ok(RouteIndex(1)));
    assert_eq!(router.find("other", Method::Get, "/v1/orders/1"), Ok(RouteIndex(0)));
    assert!(router.find("other", Method::Post, "/v1/orders/1").is_err());
}

#[test]
fn the_shipped_configuration_is_right_before_anything_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = InMemory::default();
    for name in ["gateway.toml", "upstreams/escrow.toml"] {
        files
            .files
            .insert(Path::new("/c").join(name), std::fs::read(root.join(name)).unwrap());
    }
    let loaded = check(&files).unwrap_or_else(|errors| panic!("{errors}"));
    for diagnosis in loaded.warnings.iter() {
        assert_eq!(diagnosis.problem.weight, error::ProblemSeverity::Note, "{diagnosis}");
        assert!(diagnosis.problem.message.ends_with("is not there yet"), "{diagnosis}");
    }
    assert_eq!(loaded.snapshot.routes.len(), 4);
    assert_eq!(loaded.snapshot.certificates[1].as_ref().unwrap().entries.len(), 1);
}

#[test]
fn every_default_of_the_tables_lies_within_its_bounds() {
    for key in documentation::schemas().iter().flat_map(|schema| schema.all_keys()) {
        use schema::{Fallback, ValueKind};
        let Fallback::Value(text) = key.default else {
            assert!(!key.about.is_empty(), "{}", key.name);
            continue;
        };
        let within = match key.kind {
            ValueKind::Count { min, max } => (min..=max).contains(&text.parse().unwrap()),
            ValueKind::Duration { min, max } => (min..=max).contains(&units::parse_duration(text).unwrap()),
            ValueKind::Size { min, max } => (min..=max).contains(&units::parse_size(text).unwrap()),
            ValueKind::Choice(words) => words.contains(&text),
            ValueKind::Flag => matches!(text, "true" | "false"),
            ValueKind::Text | ValueKind::Path | ValueKind::Secrets | ValueKind::Either(..) => !text.is_empty(),
            _ => false,
        };
        assert!(within, "{}", key.name);
        assert!(!key.about.is_empty(), "{}", key.name);
    }
}
