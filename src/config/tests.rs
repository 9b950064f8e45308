//! What loads, what does not, and how that is said.

use std::path::Path;

use super::*;

const GATEWAY: &str = r#"
[[listeners]]
name = "public"
address = "127.0.0.1:8080"

[surfaces.api]
kind = "api_key"
prefixes = { live = "hlive_", test = "htst_" }
"#;

const ORDERS: &str = r#"
endpoints = ["http://127.0.0.1:9000"]

[[routes]]
methods = ["GET"]
path = "/v1/orders/**"
access = { surfaces = ["api"], scopes = ["orders:read"] }

[[routes]]
path = "/health"
access = "public"
"#;

/// Files beside each other in `/c`.
fn table(files: &[(&str, &str)]) -> Table {
    Table {
        files: files
            .iter()
            .map(|(n, t)| (Path::new("/c").join(n), t.as_bytes().to_vec()))
            .collect(),
        ..Table::default()
    }
}

fn check(table: &Table) -> Result<Loaded, ConfigErrors> {
    load_from(Path::new("/c/gateway.toml"), Purpose::Check, table)
}

#[test]
fn a_minimal_configuration_loads() {
    let loaded = check(&table(&[("gateway.toml", GATEWAY), ("upstreams/orders.toml", ORDERS)])).unwrap();
    assert_eq!(loaded.snapshot.routes.len(), 2);
    assert_eq!(loaded.snapshot.routes[0].name, "orders/1");
    assert_eq!(loaded.snapshot.surfaces.len(), 1);
    assert_eq!(loaded.settings.listeners.len(), 1);
    assert_eq!(loaded.settings.limits, crate::snapshot::Limits::default());
}
