//! The demo's own directory: the shipped configuration on free ports, with fresh state, gone at the end.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Component, Path, PathBuf};

use crate::cli::failure::{Exit, Failure};

/// The configuration as shipped, for a binary that stands alone.
const GATEWAY: &str = include_str!("../../../gateway.toml");
const ESCROW: &str = include_str!("../../../upstreams/escrow.toml");

/// The documented ports, as they stand in the shipped files.
const HTTP: u16 = 8_080;
const HTTPS: u16 = 8_443;
const UPSTREAM: u16 = 9_000;

/// A directory with a configuration for the demo; removed when dropped.
#[derive(Debug)]
pub(crate) struct DemoFolder {
    folder: PathBuf,
    /// Port of the plain listener.
    pub(crate) http: u16,
    /// Port of the TLS listener.
    pub(crate) https: u16,
    /// What is worth a remark.
    pub(crate) remarks: Vec<String>,
}

impl DemoFolder {
    /// Writes the configuration of `here` if it is one for a demo, or else the built-in one, and
    /// answers with the socket the sample upstream is to use.
    pub(crate) fn prepare(here: &Path) -> Result<(Self, TcpListener), Failure> {
        let failed = |error: io::Error| Failure::new(Exit::Failed, format!("the demo's directory cannot be made: {error}"));
        let mut remarks = Vec::new();
        let (gateway, upstreams) = read_here(here, &mut remarks).unwrap_or_else(built_in);
        let (plain, tls, upstream) = (free_port(HTTP)?, free_port(HTTPS)?, free_port(UPSTREAM)?);
        let ports = [(HTTP, port(&plain)?), (HTTPS, port(&tls)?), (UPSTREAM, port(&upstream)?)];
        for (wanted, taken) in ports.iter().filter(|(wanted, got)| wanted != got) {
            remarks.push(format!("port {wanted} is in use here; the demo uses {taken}"));
        }
        let folder = std::env::temp_dir().join(format!("durward-demo-{}", std::process::id()));
        fs::DirBuilder::new().mode(0o700).create(&folder).map_err(failed)?;
        let site = Self {
            folder,
            http: port(&plain)?,
            https: port(&tls)?,
            remarks,
        };
        fs::create_dir(site.folder.join("upstreams")).map_err(failed)?;
        let mut gateway = with_ports(&gateway, &ports);
        if !has_table(&gateway, "limits") {
            // No load balancer has to notice that a demo ends.
            gateway.push_str("\n[limits]\ndrain_delay = \"0s\"\n");
        }
        fs::write(site.config(), gateway).map_err(failed)?;
        for (name, text) in upstreams {
            fs::write(site.folder.join("upstreams").join(name), with_ports(&text, &ports)).map_err(failed)?;
        }
        Ok((site, upstream))
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.folder.join("gateway.toml")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("state/admin.sock")
    }

    pub(crate) fn certificate(&self) -> PathBuf {
        self.folder.join("state/tls/cert.pem")
    }

    /// The secret of the session surface, made when the gateway started.
    pub(crate) fn session_secret(&self) -> io::Result<Vec<u8>> {
        let text = fs::read(self.folder.join("state/dashboard.secret"))?;
        Ok(text.trim_ascii_end().to_vec())
    }
}

impl Drop for DemoFolder {
    fn drop(&mut self) {
        // A file that remains is in the temporary directory of the system.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

type DemoFiles = (String, Vec<(String, String)>);

fn built_in() -> DemoFiles {
    (GATEWAY.to_owned(), vec![("escrow.toml".to_owned(), ESCROW.to_owned())])
}

/// The configuration in `here`, if there is one with which a demo can do no harm.
fn read_here(here: &Path, remarks: &mut Vec<String>) -> Option<DemoFiles> {
    let gateway = fs::read_to_string(here.join("gateway.toml")).ok()?;
    if let Err(why) = refuse_real(&gateway) {
        remarks.push(format!(
            "gateway.toml here is not the shipped one ({why}); the demo uses its built-in copy"
        ));
        return None;
    }
    let mut upstreams = Vec::new();
    for entry in fs::read_dir(here.join("upstreams")).ok()? {
        let path = entry.ok()?.path();
        if path.extension().is_some_and(|e| e == "toml") {
            upstreams.push((path.file_name()?.to_str()?.to_owned(), fs::read_to_string(&path).ok()?));
        }
    }
    (!upstreams.is_empty()).then_some((gateway, upstreams))
}

/// A demo makes tenants and keys. It must not do so in a real store, nor with real secrets.
fn refuse_real(gateway: &str) -> Result<(), String> {
    let table: toml::Table = gateway.parse().map_err(|_| "it is not TOML".to_owned())?;
    let text = |table: &toml::Table, name: &str, key: &str| Some(table.get(name)?.get(key)?.as_str()?.to_owned());
    if text(&table, "store", "kind").is_some_and(|kind| kind != "embedded") {
        return Err("its store is not embedded".into());
    }
    for surface in ["api", "pair", "dashboard"] {
        if table.get("surfaces").and_then(|s| s.get(surface)).is_none() {
            return Err(format!("it has no surface `{surface}`"));
        }
    }
    let mut texts = Vec::new();
    collect_texts(&toml::Value::Table(table), &mut texts);
    let outside = |text: &&String| {
        let path = text
            .split_once(':')
            .filter(|(kind, _)| matches!(*kind, "file" | "generate"))
            .map_or(text.as_str(), |(_, path)| path);
        text.starts_with("env:")
            || Path::new(path)
                .components()
                .any(|c| matches!(c, Component::RootDir | Component::ParentDir))
    };
    match texts.iter().find(outside) {
        Some(_) => Err("it refers to something outside its directory".into()),
        None => Ok(()),
    }
}

fn collect_texts(value: &toml::Value, texts: &mut Vec<String>) {
    match value {
        toml::Value::String(text) => texts.push(text.clone()),
        toml::Value::Array(items) => items.iter().for_each(|item| collect_texts(item, texts)),
        toml::Value::Table(table) => table.values().for_each(|item| collect_texts(item, texts)),
        _ => {}
    }
}

fn has_table(gateway: &str, name: &str) -> bool {
    gateway.parse::<toml::Table>().is_ok_and(|table| table.contains_key(name))
}

fn with_ports(text: &str, ports: &[(u16, u16)]) -> String {
    // All ports are replaced at once, since a new port of one may be the documented port of another.
    let marked = ports.iter().fold(text.to_owned(), |text, (wanted, _)| {
        text.replace(&format!("127.0.0.1:{wanted}"), &format!("\0{wanted}\0"))
    });
    ports.iter().fold(marked, |text, (wanted, got)| {
        text.replace(&format!("\0{wanted}\0"), &format!("127.0.0.1:{got}"))
    })
}

fn free_port(wanted: u16) -> Result<TcpListener, Failure> {
    let bound = TcpListener::bind(("127.0.0.1", wanted)).or_else(|_| TcpListener::bind(("127.0.0.1", 0)));
    bound.map_err(|error| Failure::new(Exit::Failed, format!("no free port on 127.0.0.1: {error}")))
}

fn port(listener: &TcpListener) -> Result<u16, Failure> {
    let address = listener.local_addr();
    address
        .map(|a| a.port())
        .map_err(|error| Failure::new(Exit::Failed, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_configuration_is_one_for_the_demo() {
        refuse_real(GATEWAY).unwrap();
        for (wanted, text) in [(HTTP, GATEWAY), (HTTPS, GATEWAY), (UPSTREAM, ESCROW)] {
            assert!(text.contains(&format!("127.0.0.1:{wanted}\"")));
        }
        assert!(GATEWAY.contains("\"state/admin.sock\"") && GATEWAY.contains("\"generate:state/dashboard.secret\""));
    }

    #[test]
    fn a_real_configuration_is_never_used_for_the_demo() {
        let with = |from: &str, to: &str| {
            let changed = GATEWAY.replace(from, to);
            assert_ne!(changed, GATEWAY, "{from}");
            refuse_real(&changed)
        };
        for (from, to) in [
            ("kind = \"embedded\"", "kind = \"redis\""),
            ("state/durward.redb", "/var/lib/durward.redb"),
            ("state/durward.redb", "../durward.redb"),
            ("generate:state/dashboard.secret", "file:/etc/secret"),
            ("generate:state/dashboard.secret", "env:SECRET"),
            ("[surfaces.pair]", "[surfaces.other]"),
            ("[store]", "[store"),
        ] {
            assert!(with(from, to).is_err(), "{from} -> {to}");
        }
    }

    #[test]
    fn ports_are_replaced_all_at_once() {
        let text = "a 127.0.0.1:8080 b 127.0.0.1:9000";
        assert_eq!(with_ports(text, &[(8080, 9000), (9000, 8080)]), "a 127.0.0.1:9000 b 127.0.0.1:8080");
    }

    #[test]
    fn the_site_has_the_configuration_on_its_ports_and_is_removed_at_the_end() {
        let empty = std::env::temp_dir().join("durward-no-such-directory");
        let (site, upstream) = DemoFolder::prepare(&empty).unwrap();
        let gateway = fs::read_to_string(site.config()).unwrap();
        assert!(gateway.contains(&format!("127.0.0.1:{}\"", site.http)) && gateway.contains(&format!("127.0.0.1:{}\"", site.https)));
        let service = fs::read_to_string(site.folder.join("upstreams/escrow.toml")).unwrap();
        assert!(service.contains(&format!("127.0.0.1:{}\"", upstream.local_addr().unwrap().port())));
        let folder = site.folder.clone();
        drop(site);
        assert!(!folder.exists());
    }
}
