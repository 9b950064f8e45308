//! Configurations with many routes: what loading them costs, and what they cost a request that they do not take.

use std::fmt::Write as _;
use std::path::Path;

use durward::config::{self, InMemory, Loaded, Purpose};

use super::{Fallible, GATEWAY, UPSTREAM};

/// Routes of each service.
const OF_EACH: usize = 10;

/// Loads a configuration with this many routes beside that of the other stages: of services, one in four each with a host
/// of its own, with a name and a scope of its own, served by the gateway, and with nothing but a path. So everything that grows
/// with routes grows: names, hosts, services, scopes, served routes.
pub(crate) fn load(routes: usize) -> Fallible<Loaded> {
    let mut files = InMemory::default();
    let mut add = |path: String, text: &str| files.files.insert(path.into(), text.into());
    add("/bench/gateway.toml".to_owned(), GATEWAY);
    add("/bench/upstreams/main.toml".to_owned(), UPSTREAM);
    for (service, first) in (0..routes).step_by(OF_EACH).enumerate() {
        let mut text = "endpoints = [\"http://127.0.0.1:9000\"]\n".to_owned();
        for n in first..(first + OF_EACH).min(routes) {
            write_route(&mut text, n)?;
        }
        add(format!("/bench/upstreams/service{service:05}.toml"), &text);
    }
    files
        .variables
        .insert("PEPPER".into(), "a-pepper-of-a-benchmark-0123456789abcdef".into());
    Ok(config::load_from(Path::new("/bench/gateway.toml"), Purpose::Check, &files).map_err(|errors| errors.to_string())?)
}

fn write_route(text: &mut String, n: usize) -> std::fmt::Result {
    // In no order, as people write them.
    let mixed = n.wrapping_mul(7_919) % 1_000_003;
    write!(text, "\n[[routes]]\npath = \"/api/v1/items{mixed}/{{id}}\"\n")?;
    match n % 4 {
        0 => writeln!(text, "hosts = [\"tenant{n}.example.com\"]\naccess = \"public\""),
        1 => writeln!(
            text,
            "name = \"route-{mixed}\"\nmethods = [\"GET\", \"PUT\"]\naccess = {{ surfaces = [\"api\"], scopes = [\"items{}:read\"] }}",
            n % 100
        ),
        2 => writeln!(
            text,
            "methods = [\"DELETE\"]\naccess = {{ surfaces = [\"api\"], scopes = [\"keys:write\"] }}\n\
             serve = \"revoke\"\nsurface = \"api\"\nid = \"path.id\""
        ),
        _ => writeln!(text, "access = {{ surfaces = [\"api\"], scopes = [] }}"),
    }
}
