//! Which keys of the configuration changed, for the audit trail. Of values only hashes are kept, so no value can get into it.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use crate::audit::configuration::KeptConfiguration;
use crate::base::fingerprint::{Pepper, sha256};

use super::environment::Watch;
use super::{Document, tables};

/// What a configuration says at each of its keys, as hashes. A key that names a file counts as changed with that file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConfigurationKeys(BTreeMap<String, [u8; 32]>);

impl ConfigurationKeys {
    /// The keys of the gateway's file and of the files of its upstreams.
    pub(super) fn of(config: &Path, gateway: Option<&Document<'_>>, upstreams: &[Document<'_>], watch: &Watch) -> Self {
        let mut keys = KeyCollector {
            config,
            watch,
            file_names: watch.file_names(),
            path: String::new(),
            said: Vec::new(),
            found: Vec::new(),
        };
        if let Some(gateway) = gateway {
            keys.collect_table(gateway.table.get_ref());
        }
        for upstream in upstreams {
            keys.collect_upstream(upstream.table.get_ref());
        }
        // Sorted once, which is quick: the keys of routes are met in order, but for a few long runs of numbers.
        Self(keys.found.into_iter().collect())
    }

    /// What is kept of it for the next start.
    #[must_use]
    pub fn keep(&self, pepper: &Pepper) -> KeptConfiguration {
        let mark = |(key, value): (&String, &[u8; 32])| (key.clone(), pepper.mark_setting(key, value).to_hex());
        KeptConfiguration {
            pepper: pepper.check().to_hex(),
            keys: self.0.iter().map(mark).collect(),
        }
    }

    /// The keys that are not as they were in `earlier`: changed, new or gone, in the order of the alphabet.
    #[must_use]
    pub fn changed_since(&self, earlier: &Self) -> Vec<String> {
        let both = earlier.0.keys().chain(self.0.keys());
        let mut changed: Vec<String> = both.filter(|key| earlier.0.get(*key) != self.0.get(*key)).cloned().collect();
        changed.sort_unstable();
        changed.dedup();
        changed
    }
}

struct KeyCollector<'c> {
    config: &'c Path,
    watch: &'c Watch,
    /// Last parts of the paths of all files. Of thousands of texts few end with one, and only those are looked up as paths.
    file_names: HashSet<&'c OsStr>,
    /// The path of the key that is being collected.
    path: String,
    /// Room for what one value says.
    said: Vec<u8>,
    found: Vec<(String, [u8; 32])>,
}

impl KeyCollector<'_> {
    /// An upstream's routes have the names that logs and metrics give them.
    fn collect_upstream(&mut self, table: &DeTable<'_>) {
        let name = text_of(table, "name").unwrap_or_default();
        for (key, value) in table {
            let key = key.get_ref();
            if key != "routes" {
                self.descend(&["upstreams.", name, ".", key], |keys| keys.collect(value.get_ref()));
                continue;
            }
            let routes = value.get_ref().as_array().into_iter().flatten();
            for (i, route) in routes.enumerate() {
                let Some(route) = route.get_ref().as_table() else { continue };
                let unnamed = format!("{name}/{}", i + 1);
                let route_name = text_of(route, "name").unwrap_or(&unnamed);
                self.descend(&["routes.", route_name, "."], |keys| keys.collect_table(route));
            }
        }
    }

    /// Collects what is one step deeper: the parts are added to the path, and taken off again.
    fn descend(&mut self, parts: &[&str], collect: impl FnOnce(&mut Self)) {
        let before = self.path.len();
        self.path.extend(parts.iter().copied());
        collect(self);
        self.path.truncate(before);
    }

    fn collect_table(&mut self, table: &DeTable<'_>) {
        for (key, value) in table {
            self.descend(&[key.get_ref()], |keys| keys.collect(value.get_ref()));
        }
    }

    fn collect(&mut self, value: &DeValue<'_>) {
        match value {
            DeValue::Table(table) => self.descend(&["."], |keys| keys.collect_table(table)),
            DeValue::Array(items) if items.iter().any(|item| item.get_ref().is_table()) => {
                for (i, item) in items.iter().enumerate() {
                    let name = item.get_ref().as_table().and_then(|table| text_of(table, "name"));
                    let place = name.map_or_else(|| (i + 1).to_string(), str::to_owned);
                    self.descend(&[".", &place], |keys| keys.collect(item.get_ref()));
                }
            }
            _ => {
                let mut said = std::mem::take(&mut self.said);
                self.describe(value, &mut said);
                self.found.push((self.path.clone(), sha256(&said)));
                said.clear();
                self.said = said;
            }
        }
    }

    /// The hash of the file of a path that counts from the directory of the configuration.
    fn hash_of(&self, path: &str) -> Option<[u8; 32]> {
        let name = Path::new(path).file_name();
        if name.is_some_and(|name| !self.file_names.contains(name)) {
            return None;
        }
        self.watch.hash_of(&tables::beside(self.config, path))
    }

    /// The value as one text, with the hashes of files that it names.
    fn describe(&self, value: &DeValue<'_>, said: &mut Vec<u8>) {
        match value {
            DeValue::String(text) => {
                said.push(b's');
                said.extend_from_slice(text.as_bytes());
                said.push(0);
                let path = ["file:", "generate:"].iter().find_map(|form| text.strip_prefix(form));
                if let Some(hash) = self.hash_of(path.unwrap_or(text)) {
                    said.extend_from_slice(&hash);
                }
            }
            DeValue::Integer(number) => {
                said.push(b'i');
                said.extend_from_slice(number.as_str().as_bytes());
            }
            DeValue::Float(number) => {
                said.push(b'f');
                said.extend_from_slice(number.as_str().as_bytes());
            }
            DeValue::Boolean(value) => said.extend_from_slice(if *value { b"true" } else { b"false" }),
            DeValue::Datetime(time) => said.extend_from_slice(time.to_string().as_bytes()),
            DeValue::Array(items) => {
                for item in items {
                    said.push(b'[');
                    self.describe(item.get_ref(), said);
                }
            }
            DeValue::Table(table) => {
                for (key, value) in table {
                    said.push(b'{');
                    said.extend_from_slice(key.get_ref().as_bytes());
                    said.push(0);
                    self.describe(value.get_ref(), said);
                }
            }
        }
    }
}

fn text_of<'t>(table: &'t DeTable<'_>, key: &str) -> Option<&'t str> {
    table.get(key).and_then(|value| value.get_ref().as_str())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::FileText;
    use super::*;

    fn keys(gateway: &str, upstream: &str) -> ConfigurationKeys {
        let file = |text: &str| FileText::new(0, PathBuf::from("gateway.toml"), text.to_owned());
        let (gateway, upstream) = (file(gateway), file(upstream));
        ConfigurationKeys::of(
            Path::new("gateway.toml"),
            Some(&Document::parse(&gateway)),
            &[Document::parse(&upstream)],
            &Watch::default(),
        )
    }

    const UPSTREAM: &str = "name = \"main\"\nendpoints = [\"http://127.0.0.1:1\"]\n[[routes]]\nname = \"orders\"\npath = \"/o\"\n\
                            access = { surfaces = [\"api\"], scopes = [\"a\"] }\n[[routes]]\npath = \"/p\"\naccess = \"public\"\n";

    #[test]
    fn a_changed_key_is_named_and_no_other() {
        let old = keys("workers = 2\n[log]\nformat = \"json\"\n", UPSTREAM);
        assert_eq!(old.changed_since(&old), Vec::<String>::new());
        let new = keys(
            "[log]\nformat = \"pretty\"\n",
            &UPSTREAM.replace("[\"a\"]", "[\"b\"]").replace("/p", "/q"),
        );
        assert_eq!(
            new.changed_since(&old),
            ["log.format", "routes.main/2.path", "routes.orders.access.scopes", "workers"]
        );
    }

    #[test]
    fn what_is_kept_differs_where_values_differ_and_is_nothing_without_the_pepper() {
        let (pepper, other) = (Pepper::new(&[7; 32]).unwrap(), Pepper::new(&[8; 32]).unwrap());
        let old = keys("workers = 2\n[log]\nformat = \"json\"\n", UPSTREAM);
        let new = keys("workers = 3\n[log]\nformat = \"json\"\n", UPSTREAM);
        assert_eq!(new.keep(&pepper).changed_since(&old.keep(&pepper)).unwrap(), ["workers"]);
        assert_eq!(old.keep(&pepper), old.keep(&pepper));
        assert_eq!(old.keep(&other).changed_since(&old.keep(&pepper)), None);
        assert_ne!(old.keep(&other).keys["workers"], old.keep(&pepper).keys["workers"]);
        let told = serde_json::to_string(&old.keep(&pepper)).unwrap();
        assert!(!told.contains("json") && !told.contains("127.0.0.1"), "{told}");
    }

    #[test]
    fn each_key_has_the_path_that_operators_know() {
        let gateway = "workers = 2\n[log]\nformat = \"json\"\n[[listeners]]\naddress = \"a\"\n[identity.\"\"]\na.b = [1, 2]\n";
        let paths: Vec<_> = keys(gateway, UPSTREAM).0.into_keys().collect();
        assert_eq!(
            paths,
            [
                "identity..a.b",
                "listeners.1.address",
                "log.format",
                "routes.main/2.access",
                "routes.main/2.path",
                "routes.orders.access.scopes",
                "routes.orders.access.surfaces",
                "routes.orders.name",
                "routes.orders.path",
                "upstreams.main.endpoints",
                "upstreams.main.name",
                "workers",
            ]
        );
    }

    #[test]
    fn of_two_values_at_one_key_the_later_counts() {
        let twice = UPSTREAM.replace("path = \"/p\"", "name = \"orders\"\npath = \"/p\"");
        let changed = |upstream: &str| keys("", upstream).changed_since(&keys("", &twice));
        assert_eq!(changed(&twice.replace("/o", "/q")), Vec::<String>::new());
        assert_eq!(changed(&twice.replace("/p", "/q")), ["routes.orders.path"]);
    }

    #[test]
    fn listeners_are_named_and_values_are_told_apart() {
        let old = keys(
            "[[listeners]]\nname = \"tls\"\naddress = \"a\"\n[x]\ny = [\"ab\", \"c\"]\n",
            UPSTREAM,
        );
        let new = keys(
            "[[listeners]]\nname = \"tls\"\naddress = \"b\"\n[x]\ny = [\"a\", \"bc\"]\n",
            UPSTREAM,
        );
        assert_eq!(new.changed_since(&old), ["listeners.tls.address", "x.y"]);
    }
}
