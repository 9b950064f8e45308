//! Every credential of every surface, in every place a credential may be, on every route of an example.

use std::collections::BTreeSet;

use crate::support::gateway::Gateway;
use crate::support::site::Site;

use super::call;

/// What the documentation says of one call: method, path, surfaces, scopes. Several methods of one
/// path that say the same stand together.
pub(super) type Documented = (
    &'static [&'static str],
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
);

/// A credential with what the documentation says it holds.
pub(super) struct Holder {
    /// How failures call it.
    pub(super) name: &'static str,
    /// Its surface.
    pub(super) surface: &'static str,
    /// Its scopes.
    pub(super) scopes: &'static [&'static str],
    /// Where it belongs, an index into the places, and the credential.
    pub(super) shown: (usize, String),
}

/// How many pairs were admitted and refused.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) admitted: usize,
    pub(super) refused: usize,
}

/// Tries every holder's credential in every place (`header: before the credential`) on every
/// documented call, and nothing at all. Admitted is only who is documented; the others get the 401
/// or the 403 of their reason.
pub(super) fn try_all(gateway: &Gateway, site: &Site, documented: &[Documented], places: &[(&str, &str)], holders: &[Holder]) -> Tally {
    assert_eq!(routes_of(site), documented_routes(documented), "routes and documentation differ");
    let mut tally = Tally::default();
    for (methods, path, surfaces, scopes) in documented {
        let path = filled(path);
        // Whom the body must name, no header is: its fields are missing.
        let in_body = *surfaces == ["account"];
        for method in with_head(methods) {
            let nothing = call(gateway, method, &path, &[], "").status;
            assert!(
                nothing == 401 || in_body && nothing == 422,
                "{method} {path} with nothing: {nothing}"
            );
            tally.refused += 1;
            for holder in holders {
                for (at, (header, before)) in places.iter().enumerate() {
                    let fields = [(*header, &*format!("{before}{}", holder.shown.1))];
                    let status = call(gateway, method, &path, &fields, "").status;
                    let what = format!("{method} {path} with {} in {header}: {status}", holder.name);
                    if at != holder.shown.0 || !surfaces.contains(&holder.surface) {
                        assert!(status == 401 || in_body && status == 422, "{what}");
                        tally.refused += 1;
                    } else if !scopes.iter().all(|scope| holder.scopes.contains(scope)) {
                        assert_eq!(status, 403, "{what}");
                        tally.refused += 1;
                    } else {
                        // Served routes may still ask for fields, or find no such record.
                        assert!(matches!(status, 200 | 201 | 204 | 404 | 422), "{what}");
                        tally.admitted += 1;
                    }
                }
            }
        }
    }
    tally
}

fn with_head(methods: &[&'static str]) -> Vec<&'static str> {
    let mut all = methods.to_vec();
    if all.contains(&"GET") {
        all.push("HEAD");
    }
    all
}

/// A path of this pattern.
fn filled(pattern: &str) -> String {
    let segments = pattern.split('/').map(|segment| match segment {
        "**" => "any/thing",
        parameter if parameter.starts_with('{') => "one",
        literal => literal,
    });
    segments.collect::<Vec<_>>().join("/")
}

fn documented_routes(documented: &[Documented]) -> BTreeSet<(String, String)> {
    let pairs = documented
        .iter()
        .flat_map(|(methods, path, _, _)| methods.iter().map(move |method| (*method, *path)));
    pairs.map(|(method, path)| (method.to_owned(), path.to_owned())).collect()
}

/// Methods and paths as the configuration has them.
fn routes_of(site: &Site) -> BTreeSet<(String, String)> {
    let mut texts = vec![site.read("gateway.toml")];
    for file in std::fs::read_dir(site.folder().join("upstreams")).unwrap() {
        texts.push(std::fs::read_to_string(file.unwrap().path()).unwrap());
    }
    let mut found = BTreeSet::new();
    for text in texts {
        let table: toml::Table = text.parse().unwrap();
        for route in table.get("routes").and_then(toml::Value::as_array).into_iter().flatten() {
            let path = route["path"].as_str().unwrap();
            for method in route["methods"].as_array().unwrap() {
                found.insert((method.as_str().unwrap().to_owned(), path.to_owned()));
            }
        }
    }
    found
}
