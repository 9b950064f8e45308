//! First start, second start, reload: what is made, what is kept, what is noticed.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use crate::config::reload::reload;

/// A directory with the minimal configuration and these further lines.
fn directory(lines: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("gateway.toml");
    std::fs::create_dir(directory.path().join("upstreams")).unwrap();
    std::fs::write(&path, format!("{GATEWAY}{lines}")).unwrap();
    std::fs::write(directory.path().join("upstreams/orders.toml"), ORDERS).unwrap();
    (directory, path)
}

const TLS: &str = "[[listeners]]\nname = \"tls\"\naddress = \"127.0.0.1:8443\"\n\
    [[listeners.tls.certificates]]\ncert = \"state/a.crt\"\nkey = \"file:state/a.key\"\ninsecure_self_signed = [\"localhost\"]\n";

#[test]
fn a_check_makes_nothing_and_the_first_start_makes_what_is_missing_for_its_owner_only() {
    let (directory, path) = directory(TLS);
    let state = directory.path().join("state");
    load(&path, Purpose::Check).unwrap();
    assert!(!state.exists());
    let first = load(&path, Purpose::Serve).unwrap();
    for name in ["pepper", "a.crt", "a.key"] {
        let mode = std::fs::metadata(state.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    assert_eq!(std::fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o700);
    let second = load(&path, Purpose::Serve).unwrap();
    assert_eq!(first.settings.peppers.first().check(), second.settings.peppers.first().check());
    let names = |loaded: &Loaded| loaded.snapshot.certificates[1].as_ref().unwrap().entries[0].0.clone();
    assert_eq!(names(&second), ["localhost"]);
    assert!(second.settings.needing_restart(&first.settings).is_empty());
}

#[test]
fn a_configuration_with_a_mistake_makes_nothing() {
    let (directory, path) = directory("[limits]\nrequests = 0\n");
    load(&path, Purpose::Serve).unwrap_err();
    assert!(!directory.path().join("state").exists());
}

#[test]
fn what_a_configuration_says_at_its_keys_is_known_wherever_a_trail_tells_of_changes() {
    let (_directory, path) = directory("[audit]\n");
    let without = path.with_file_name("without.toml");
    std::fs::write(&without, GATEWAY).unwrap();
    let knows = |path: &Path, purpose| load(path, purpose).unwrap().keys.is_some();
    assert!(knows(&path, Purpose::Serve));
    assert!(!knows(&without, Purpose::Serve));
    for path in [&path, &without] {
        // A reload neither begins a trail nor ends one.
        assert!(knows(path, Purpose::Reload(RunningTrail::Kept)));
        assert!(!knows(path, Purpose::Reload(RunningTrail::Absent)));
        assert!(!knows(path, Purpose::Check));
    }
}

#[test]
fn a_lost_pepper_is_not_replaced_while_its_store_is_there() {
    let (directory, path) = directory("");
    load(&path, Purpose::Serve).unwrap();
    std::fs::write(directory.path().join("state/durward.redb"), "a store").unwrap();
    std::fs::remove_file(directory.path().join("state/pepper")).unwrap();
    for purpose in [Purpose::Check, Purpose::Serve, Purpose::Reload(RunningTrail::Absent)] {
        let errors = load(&path, purpose).unwrap_err();
        assert!(errors.to_string().contains("the pepper is missing"), "{errors}");
    }
    assert!(!directory.path().join("state/pepper").exists());
}

#[test]
fn a_first_start_that_was_interrupted_goes_on_and_leaves_no_half_file() {
    let (directory, path) = directory("");
    let state = directory.path().join("state");
    std::fs::create_dir(&state).unwrap();
    // What a start leaves behind that ended before the pepper had its name.
    std::fs::write(state.join(".pepper.draft"), "ha").unwrap();
    std::fs::write(state.join("durward.redb.new"), "").unwrap();
    load(&path, Purpose::Serve).unwrap();
    let pepper = std::fs::read(state.join("pepper")).unwrap();
    assert!(pepper.len() > 32 && !state.join(".pepper.draft").exists());
    assert!(state.join("durward.redb.new").exists(), "the store may still be begun");
    // The store was made, but nothing written.
    std::fs::write(state.join("durward.redb"), "").unwrap();
    load(&path, Purpose::Serve).unwrap();
    assert_eq!(std::fs::read(state.join("pepper")).unwrap(), pepper);
}

#[test]
fn a_check_says_that_a_store_has_vanished_and_not_that_a_first_start_is_to_come() {
    let (directory, path) = directory("");
    let warnings = || load(&path, Purpose::Check).unwrap().warnings.render(RenderStyle::Plain);
    assert!(!warnings().contains("durward.redb"), "{}", warnings());
    load(&path, Purpose::Serve).unwrap();
    assert!(!warnings().contains("durward.redb"), "{}", warnings());
    std::fs::remove_file(directory.path().join("state/durward.redb.new")).unwrap();
    for store in [None, Some("")] {
        store.inspect(|text| std::fs::write(directory.path().join("state/durward.redb"), text).unwrap());
        assert!(warnings().contains("is not there, though its pepper is"), "{}", warnings());
        assert!(warnings().contains("durward new-store"), "{}", warnings());
    }
    std::fs::write(directory.path().join("state/durward.redb"), "a store").unwrap();
    assert!(!warnings().contains("durward.redb"), "{}", warnings());
}

#[test]
fn a_generated_session_secret_is_the_same_after_a_restart_and_is_not_made_by_a_reload() {
    let (directory, path) =
        directory("[surfaces.s]\nkind = \"session_jwt\"\ntoken_kind = \"s\"\nsecrets = [\"generate:state/s\"]\nrecord_surface = \"api\"\n");
    load(&path, Purpose::Reload(RunningTrail::Absent)).unwrap_err();
    load(&path, Purpose::Serve).unwrap();
    let secret = std::fs::read(directory.path().join("state/s")).unwrap();
    assert!(secret.len() > 32);
    load(&path, Purpose::Serve).unwrap();
    assert_eq!(std::fs::read(directory.path().join("state/s")).unwrap(), secret);
    load(&path, Purpose::Reload(RunningTrail::Absent)).unwrap();
}

#[test]
fn a_secret_that_vanished_beside_its_store_is_made_with_a_warning_and_on_the_first_start_without() {
    let (directory, path) =
        directory("[surfaces.s]\nkind = \"session_jwt\"\ntoken_kind = \"s\"\nsecrets = [\"generate:state/s\"]\nrecord_surface = \"api\"\n");
    let vanished = |loaded: &Loaded| loaded.warnings.render(RenderStyle::Plain).contains("what an earlier secret signed");
    assert!(!vanished(&load(&path, Purpose::Serve).unwrap()));
    std::fs::write(directory.path().join("state/durward.redb"), "a store").unwrap();
    assert!(!vanished(&load(&path, Purpose::Serve).unwrap()));
    std::fs::remove_file(directory.path().join("state/s")).unwrap();
    for purpose in [Purpose::Check, Purpose::Serve] {
        assert!(vanished(&load(&path, purpose).unwrap()));
    }
    assert!(!vanished(&load(&path, Purpose::Serve).unwrap()));
}

#[test]
fn whatever_was_read_is_watched() {
    let (directory, path) = directory(TLS);
    load(&path, Purpose::Serve).unwrap();
    let loaded = load(&path, Purpose::Serve).unwrap();
    assert!(loaded.watch.is_current(&Disk));
    let touch = |name: &str, change: &dyn Fn(&std::path::Path)| {
        let before = load(&path, Purpose::Check).unwrap().watch;
        change(&directory.path().join(name));
        assert!(!before.is_current(&Disk), "{name}");
    };
    touch("upstreams/orders.toml", &|p| std::fs::write(p, format!("{ORDERS}# x\n")).unwrap());
    touch("gateway.toml", &|p| std::fs::write(p, format!("{GATEWAY}{TLS}# x\n")).unwrap());
    touch("state/pepper", &|p| std::fs::write(p, "q".repeat(64)).unwrap());
    touch("upstreams/more.toml", &|p| {
        std::fs::write(p, "endpoints = [\"http://a\"]\n[[routes]]\npath = \"/more\"\naccess = \"public\"\n").unwrap();
    });
    assert_eq!(
        load(&path, Purpose::Check).unwrap().watch,
        load(&path, Purpose::Check).unwrap().watch
    );
}

#[test]
fn a_bad_configuration_tells_what_to_watch_for_its_repair() {
    let (directory, path) = directory("[store]\npepper = \"file:elsewhere\"\nkind = \"redis\"\nurl = \"redis://h\"\n");
    let errors = load(&path, Purpose::Reload(RunningTrail::Absent)).unwrap_err();
    // The file that was missing is watched for through its look-up.
    assert!(errors.watch.is_current(&Disk));
    std::fs::write(directory.path().join("elsewhere"), "p".repeat(32)).unwrap();
    assert!(!errors.watch.is_current(&Disk));
    load(&path, Purpose::Reload(RunningTrail::Absent)).unwrap();
}

#[test]
fn a_reload_replaces_routes_and_keeps_the_certificates_of_running_listeners() {
    let (_directory, path) = directory(TLS);
    let Loaded { settings, snapshot, .. } = load(&path, Purpose::Serve).unwrap();
    let before = snapshot.certificates[1].clone().unwrap();
    // The listeners are swapped, one is renamed, and a route is added.
    let text = format!(
        "{}{GATEWAY}[limits]\nrequests = 7\n",
        TLS.replace("name = \"tls\"", "name = \"other\"")
    );
    std::fs::write(&path, text).unwrap();
    let replacement = reload(&path, &settings, &snapshot).unwrap();
    assert_eq!(replacement.waits, ["listeners", "limits"]);
    assert_eq!(replacement.snapshot.certificates.len(), 2);
    assert!(replacement.snapshot.certificates[0].is_none());
    let kept = replacement.snapshot.certificates[1].clone().unwrap();
    assert!(Arc::ptr_eq(&before, &kept), "a listener that is gone keeps what it has");
}

#[test]
fn a_reload_takes_new_certificates_by_listener_name() {
    let (directory, path) = directory(TLS);
    let Loaded { settings, snapshot, .. } = load(&path, Purpose::Serve).unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["new.example".into()]).unwrap();
    std::fs::write(directory.path().join("state/a.crt"), made.cert.pem()).unwrap();
    std::fs::write(directory.path().join("state/a.key"), made.signing_key.serialize_pem()).unwrap();
    let replacement = reload(&path, &settings, &snapshot).unwrap();
    assert_eq!(replacement.waits, [] as [&str; 0]);
    assert_eq!(replacement.snapshot.certificates[1].as_ref().unwrap().entries[0].0, ["new.example"]);
}

#[test]
fn a_reload_makes_no_certificate_in_the_place_of_a_lost_one() {
    let (directory, path) = directory(TLS);
    let Loaded { settings, snapshot, .. } = load(&path, Purpose::Serve).unwrap();
    for name in ["state/a.crt", "state/a.key"] {
        std::fs::remove_file(directory.path().join(name)).unwrap();
    }
    let errors = reload(&path, &settings, &snapshot).unwrap_err();
    assert!(errors.to_string().contains("a.crt` cannot be read"), "{errors}");
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let (directory, path) = directory(TLS);
    let Loaded { settings, snapshot, .. } = load(&path, Purpose::Serve).unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["new.example".into()]).unwrap();
    std::fs::write(directory.path().join("state/a.key"), made.signing_key.serialize_pem()).unwrap();
    let errors = reload(&path, &settings, &snapshot).unwrap_err();
    assert!(
        errors.to_string().contains("the private key does not belong to its certificate"),
        "{errors}"
    );
}

#[test]
fn a_certificate_past_its_date_is_a_warning() {
    let (directory, path) = directory(TLS);
    std::fs::create_dir(directory.path().join("state")).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let write = |not_after: i32| {
        let mut params = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(not_after, 1, 1);
        std::fs::write(directory.path().join("state/a.crt"), params.self_signed(&key).unwrap().pem()).unwrap();
        std::fs::write(directory.path().join("state/a.key"), key.serialize_pem()).unwrap();
        let loaded = load(&path, Purpose::Check).unwrap();
        loaded.warnings.render(RenderStyle::Plain).contains("the certificate has expired")
    };
    assert!(write(2001));
    assert!(!write(4000));
}

/// An upstream over TLS with this table.
fn with_upstream_tls(lines: &str) -> (tempfile::TempDir, PathBuf) {
    let (directory, path) = directory("");
    let text = ORDERS.replace(
        "\"http://127.0.0.1:9000\"",
        "\"https://orders.internal:9443\", \"https://127.0.0.1\"",
    );
    std::fs::write(directory.path().join("upstreams/orders.toml"), format!("{text}[tls]\n{lines}")).unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["orders.internal".into()]).unwrap();
    std::fs::write(directory.path().join("ca.pem"), made.cert.pem()).unwrap();
    std::fs::write(directory.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    (directory, path)
}

#[test]
fn an_upstream_over_tls_trusts_its_own_authority_and_shows_its_certificate() {
    let (_directory, path) = with_upstream_tls("ca = \"ca.pem\"\nclient_cert = \"ca.pem\"\nclient_key = \"file:key.pem\"\n");
    let loaded = load(&path, Purpose::Check).unwrap();
    let upstream = &loaded.snapshot.upstreams[0];
    let tls = upstream.tls.as_ref().unwrap();
    assert!(tls.client_auth_cert_resolver.has_certs());
    assert_eq!(tls.alpn_protocols, [b"http/1.1"]);
    assert_eq!(
        (upstream.endpoints[0].host.as_str(), upstream.endpoints[0].port),
        ("orders.internal", 9443)
    );
    assert_eq!(upstream.endpoints[0].authority, "orders.internal:9443");
    assert_eq!(
        (upstream.endpoints[1].port, upstream.endpoints[1].authority.as_str()),
        (443, "127.0.0.1")
    );
    assert!(upstream.endpoints.iter().all(|e| e.server_name.is_some()));
    let (_directory, path) = with_upstream_tls("ca = \"ca.pem\"\nserver_name = \"orders.internal\"\n");
    let loaded = load(&path, Purpose::Check).unwrap();
    let upstream = &loaded.snapshot.upstreams[0];
    assert!(!upstream.tls.as_ref().unwrap().client_auth_cert_resolver.has_certs());
    assert_eq!(upstream.endpoints[0].server_name, upstream.endpoints[1].server_name);
}

#[test]
fn half_a_client_certificate_and_a_file_that_is_none_are_refused() {
    for (lines, message) in [
        ("ca = \"ca.pem\"\nclient_cert = \"ca.pem\"\n", "`client_key` is missing"),
        ("ca = \"ca.pem\"\nclient_key = \"file:key.pem\"\n", "`client_cert` is missing"),
        ("ca = \"gateway.toml\"\n", "is not a PEM file with certificates"),
        (
            "ca = \"ca.pem\"\nclient_cert = \"ca.pem\"\nclient_key = \"file:ca.pem\"\n",
            "it holds a certificate and no private key",
        ),
    ] {
        let (_directory, path) = with_upstream_tls(lines);
        let errors = load(&path, Purpose::Check).unwrap_err();
        assert!(errors.to_string().contains(message), "{errors}");
    }
}
