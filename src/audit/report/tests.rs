//! The rules of a report, each with its twin, on trails that are written here.

use std::collections::BTreeMap;
use std::fs;

use super::*;

mod gaps;
mod lives;
mod requests;

/// The bound of these tests, in seconds.
const BOUND: u64 = 10;

/// When the key of these tests is revoked, in seconds.
const REVOKED: f64 = 100.0;

/// Seconds since the beginning of a day, as entries have them.
fn at(seconds: f64) -> String {
    let millis = (seconds * 1_000.0).round();
    #[expect(clippy::cast_possible_truncation, reason = "seconds of one day")]
    text_of(1_900_000_000_000 + millis as i64)
}

/// Trails of gateways, in a folder.
struct Scene {
    folder: tempfile::TempDir,
    gateways: Vec<(String, Vec<String>)>,
}

impl Scene {
    /// The trail of one gateway `gw-a`.
    fn new() -> Self {
        Self::of(&["gw-a"])
    }

    /// Each trail begins with a start at second 0.
    fn of(gateways: &[&str]) -> Self {
        let mut scene = Self {
            folder: tempfile::tempdir().unwrap(),
            gateways: gateways.iter().map(|id| ((*id).to_owned(), Vec::new())).collect(),
        };
        for gateway in gateways {
            scene.on(gateway, 0.0, r#""kind":"start""#);
        }
        scene
    }

    /// Adds an entry to the trail of a gateway.
    fn on(&mut self, gateway: &str, seconds: f64, members: &str) -> &mut Self {
        let (id, lines) = self.gateways.iter_mut().find(|(id, _)| id == gateway).unwrap();
        lines.push(format!(
            "{{\"seq\":{},\"gateway\":\"{id}\",\"time\":\"{}\",{members}}}\n",
            lines.len(),
            at(seconds)
        ));
        self
    }

    fn add(&mut self, seconds: f64, members: &str) -> &mut Self {
        let gateway = self.gateways[0].0.clone();
        self.on(&gateway, seconds, members)
    }

    /// A request of `key_1` that took a millisecond.
    fn request(&mut self, seconds: f64, members: &str) -> &mut Self {
        let comma = if members.contains("took_us") { "" } else { r#""took_us":1000,"# };
        self.add(
            seconds,
            &format!(r#""kind":"request","request_id":"r-{seconds}","client":"192.0.2.7","method":"GET","path":"/v1/orders/7","route":"orders",{comma}"credential":"key_1","tenant":"acme",{members}"#),
        )
    }

    fn admitted(&mut self, seconds: f64) -> &mut Self {
        self.request(seconds, r#""status":200,"upstream":"main""#)
    }

    fn refused(&mut self, seconds: f64) -> &mut Self {
        self.request(seconds, r#""status":401,"denial":"revoked_credential""#)
    }

    fn operator(&mut self, seconds: f64, action: &str, target: &str, more: &str) -> &mut Self {
        self.add(
            seconds,
            &format!(
                r#""kind":"operator","who":{{"via":"socket","uid":1000,"user":"alice"}},"action":"{action}","target":"{target}","tenant":"acme","outcome":"done"{more}"#
            ),
        )
    }

    fn revoked(&mut self) -> &mut Self {
        self.operator(REVOKED, "keys.revoke", "key_1", "")
    }

    /// An entry long after the bound, so that the trail reaches that far.
    fn later(&mut self) -> &mut Self {
        self.add(500.0, r#""kind":"request","request_id":"r-last","status":404,"denial":"no_route""#)
    }

    /// The trail ends in good order.
    fn stopped(&mut self) -> &mut Self {
        self.add(600.0, r#""kind":"stop""#)
    }

    fn directory(&self, gateway: &str) -> std::path::PathBuf {
        self.folder.path().join(gateway)
    }

    /// Writes the trails and reads them as a reader does.
    fn trails(&self) -> Vec<Segments> {
        let trails = self.gateways.iter().map(|(id, lines)| {
            let directory = self.directory(id);
            fs::create_dir_all(&directory).unwrap();
            let file = directory.join("trail-00000000000000000000.jsonl");
            if !lines.is_empty() {
                fs::write(file, lines.concat()).unwrap();
            }
            Segments::open(&directory).unwrap()
        });
        trails.collect()
    }

    fn report_on(&self, credential: &str) -> CredentialReport {
        report(credential, &self.trails(), Duration::from_secs(BOUND)).unwrap()
    }

    fn report(&self) -> CredentialReport {
        self.report_on("key_1")
    }
}

/// When the credential ended, and by which action of what.
fn end_of(report: &CredentialReport) -> Option<(&str, &str, &str)> {
    let end = report.end.as_ref()?;
    Some((end.acknowledged.as_str(), end.action.as_str(), end.of.as_str()))
}

#[test]
fn the_story_of_a_leaked_key() {
    let mut scene = Scene::new();
    scene
        .operator(1.0, "keys.create", "key_1", r#","after":{"state":"active"}"#)
        .admitted(10.0)
        .admitted(20.5)
        .request(30.0, r#""status":403,"denial":"insufficient_scope""#)
        .revoked()
        .refused(101.0)
        .refused(300.0)
        .stopped();
    let report = scene.report();
    assert_eq!((report.uses.requests, report.uses.admitted, report.uses.refused), (5, 2, 3));
    assert_eq!(report.uses.first_use.as_ref().map(|first| first.time.clone()), Some(at(10.0)));
    assert_eq!(report.uses.last_use.as_ref().map(|last| last.time.clone()), Some(at(20.5)));
    assert_eq!(report.uses.routes, BTreeMap::from([("orders".to_owned(), 5)]));
    assert_eq!(report.uses.addresses, BTreeMap::from([("192.0.2.7".to_owned(), 5)]));
    assert_eq!(report.uses.denials["revoked_credential"], 2);
    assert_eq!(report.tenant.as_deref(), Some("acme"));
    assert_eq!(end_of(&report), Some((at(REVOKED).as_str(), "keys.revoke", "key_1")));
    assert_eq!(report.end.as_ref().unwrap().holds_since, at(REVOKED + 10.0));
    let after = report.after.as_ref().unwrap();
    assert_eq!(
        (after.refused, after.refused_list.len(), after.between, after.admitted),
        (2, 2, 0, 0)
    );
    assert_eq!(after.last_refused.as_ref().unwrap().time, at(300.0));
    assert_eq!(report.gaps, [] as [String; 0]);
    assert_eq!(report.statement, "admitted after the end: 0");
    assert!(report.is_clean() && report.is_known());
    // What the report rests on: its making, its end, the tries since.
    assert_eq!(report.evidence.entries.len(), 4);
}

#[test]
fn without_an_end_nothing_is_said_about_the_time_after_it() {
    let mut scene = Scene::new();
    scene.admitted(10.0).later();
    let report = scene.report();
    assert!(report.is_known() && !report.is_clean());
    assert_eq!((report.end.is_none(), report.admitted_after_the_end), (true, None));
    assert!(report.statement.contains("no end"), "{}", report.statement);
    assert!(!scene.report_on("key_2").is_known());
    let empty = tempfile::tempdir().unwrap();
    let none = report_error(empty.path());
    assert!(none.contains("no entry"), "{none}");
}

fn report_error(directory: &std::path::Path) -> String {
    let trails = [Segments::open(directory).unwrap()];
    super::report("key_1", &trails, Duration::ZERO).unwrap_err().to_string()
}

#[test]
fn closed_segments_are_found_by_their_index() {
    let mut scene = Scene::new();
    let rotated = r#""kind":"request","request_id":"s","status":200,"took_us":0,"surface":"account","credential":"acc_0","done":"rotate api:key_0 api:key_1""#;
    scene.add(1.0, rotated).admitted(10.0);
    scene.add(50.0, &rotated.replace("rotate api:key_0 api:key_1", "revoke api:key_2 api:key_1"));
    scene.operator(60.0, "keys.rotate", "key_9", r#","replaced_by":"key_1""#).later();
    let open = scene.report();
    let trails = scene.trails();
    super::super::closed::close(trails[0].list()[0].path()).unwrap();
    let trails = [Segments::open(&scene.directory("gw-a")).unwrap()];
    let closed = super::report("key_1", &trails, Duration::from_secs(BOUND)).unwrap();
    assert_eq!(closed.gaps, [] as [String; 0]);
    assert_eq!((closed.actions.len(), closed.uses.requests), (3, 1));
    assert_eq!(end_of(&closed), Some((at(50.0).as_str(), "revoke", "key_1")));
    assert_eq!(serde_json::to_value(&closed).unwrap(), serde_json::to_value(&open).unwrap());
    // Without its index a segment is read whole, and nothing is missing.
    fs::write(scene.directory("gw-a").join("trail-00000000000000000000.index"), b"none").unwrap();
    let whole = super::report("key_1", &trails, Duration::from_secs(BOUND)).unwrap();
    assert_eq!((whole.gaps.len(), end_of(&whole)), (0, end_of(&open)));
    assert!(whole.notes.iter().any(|note| note.contains(".index")), "{:?}", whole.notes);
}

#[test]
fn what_an_operator_did_to_it_is_listed_in_order_over_all_gateways() {
    let mut scene = Scene::of(&["gw-a", "gw-b"]);
    scene.on(
        "gw-b",
        90.0,
        r#""kind":"operator","who":{"via":"cli"},"action":"keys.disable","target":"key_1","tenant":"acme","outcome":"refused","reason":"usage""#,
    );
    scene.operator(1.0, "keys.create", "key_1", "").revoked().later();
    scene.on("gw-b", 500.0, r#""kind":"stop""#);
    let report = scene.report();
    let told: Vec<_> = report
        .actions
        .iter()
        .map(|action| (action.gateway.as_str(), action.entry["action"].as_str().unwrap()))
        .collect();
    assert_eq!(told, [("gw-a", "keys.create"), ("gw-b", "keys.disable"), ("gw-a", "keys.revoke")]);
    assert_eq!(end_of(&report), Some((at(REVOKED).as_str(), "keys.revoke", "key_1")));
}
