//! What makes it impossible to say that nothing was admitted.

use super::*;

/// Asserts that the statement cannot be made, for one reason with these words.
fn assert_unsaid(scene: &Scene, words: &str) {
    let report = scene.report();
    assert_eq!(report.gaps.len(), 1, "{:?}", report.gaps);
    assert!(report.gaps[0].contains(words), "{:?}", report.gaps);
    assert_eq!(report.admitted_after_the_end, None);
    assert!(
        report.statement.contains("cannot be said") && !report.is_clean(),
        "{}",
        report.statement
    );
}

fn assert_said(scene: &Scene) {
    let report = scene.report();
    assert!(report.is_clean(), "{:?}", report.gaps);
}

fn receipts(ids: &[&str]) -> String {
    let rows: Vec<_> = ids.iter().map(|id| format!(r#"{{"id":"{id}","confirmed":true,"ms":3}}"#)).collect();
    format!(
        r#","wait":{{"confirmed":true,"acknowledged_at":"{}","gateways":[{}]}}"#,
        at(REVOKED),
        rows.join(",")
    )
}

#[test]
fn a_gap_since_the_end_and_none_before_it() {
    let gap = |seconds: f64, members: &str| {
        let mut scene = Scene::new();
        let members = format!(r#""kind":"gap",{members}"#);
        if seconds < REVOKED {
            scene.add(seconds, &members).revoked().later();
        } else {
            scene.revoked().add(seconds, &members).later();
        }
        scene
    };
    let dropped = r#""reason":"dropped","entries":7"#;
    assert_said(&gap(50.0, dropped));
    assert_unsaid(&gap(200.0, dropped), "gw-a: entry 2 tells a gap (dropped, 7 entries)");
    let full = |to: f64| format!(r#""reason":"disk_full","entries":7,"from":"{}","to":"{}""#, at(40.0), at(to));
    assert_said(&gap(200.0, &full(90.0)));
    assert_unsaid(&gap(200.0, &full(120.0)), "disk_full");
    assert_unsaid(&gap(200.0, r#""reason":"unclean_stop""#), "unclean_stop");
    // Requests that were refused for want of room were not admitted.
    let refused = gap(200.0, r#""reason":"refused","entries":7"#);
    assert_said(&refused);
    assert!(refused.report().notes.iter().any(|note| note.contains("7 requests were refused")));
}

#[test]
fn a_gap_does_not_hide_what_was_seen() {
    let mut scene = Scene::new();
    scene
        .revoked()
        .add(200.0, r#""kind":"gap","reason":"dropped","entries":7"#)
        .admitted(300.0)
        .later();
    let report = scene.report();
    assert_eq!(
        (report.admitted_after_the_end, report.statement.as_str()),
        (Some(1), "admitted after the end: at least 1")
    );
    assert!(!report.is_clean());
}

#[test]
fn a_trail_must_reach_until_the_end_holds_or_stop_before() {
    let mut scene = Scene::new();
    scene.admitted(1.0).revoked().refused(105.0);
    assert_unsaid(&scene, "gw-a: the trail ends at");
    scene.refused(110.0);
    assert_said(&scene);
    let mut scene = Scene::new();
    scene.admitted(1.0).revoked().add(101.0, r#""kind":"stop""#);
    assert_said(&scene);
    // The end of a stream shows how far a trail reaches, not its beginning.
    let mut scene = Scene::new();
    scene.admitted(1.0).revoked().add(105.0, r#""kind":"request","took_us":6000000"#);
    assert_said(&scene);
}

#[test]
fn a_trail_must_begin_before_the_end_unless_its_gateway_came_later() {
    let begun_late = |more: &str| {
        let mut scene = Scene::of(&["gw-a"]);
        scene.admitted(1.0).operator(REVOKED, "keys.revoke", "key_1", more).later();
        scene.gateways.push(("gw-b".into(), Vec::new()));
        scene.on("gw-b", 200.0, r#""kind":"start""#);
        scene
    };
    assert_unsaid(&begun_late(""), "gw-b: the trail begins at");
    assert_unsaid(&begun_late(&receipts(&["gw-a", "gw-b"])), "gw-b: the trail begins at");
    assert_said(&begun_late(&receipts(&["gw-a"])));
    // Its first entries are gone: it was there before.
    let mut cut = begun_late(&receipts(&["gw-a"]));
    cut.gateways[1].1[0] = cut.gateways[1].1[0].replace("\"seq\":0", "\"seq\":256");
    assert_unsaid(&cut, "gw-b: the trail begins at");
}

#[test]
fn every_gateway_of_the_receipts_must_have_given_its_trail() {
    let mut scene = Scene::new();
    scene
        .admitted(1.0)
        .operator(REVOKED, "keys.revoke", "key_1", &receipts(&["gw-a"]))
        .later();
    assert_said(&scene);
    // A repetition may know more.
    scene.operator(501.0, "keys.revoke", "key_1", &receipts(&["gw-a", "gw-c"]));
    assert_unsaid(&scene, "gw-c: a receipt names this gateway");
    let mut scene = Scene::new();
    scene.admitted(1.0).revoked().later();
    let notes = scene.report().notes;
    assert!(notes.iter().any(|note| note.contains("nobody waited for receipts")), "{notes:?}");
}

#[test]
fn gateways_that_cannot_be_ruled_out_or_are_not_named_stand_against_it() {
    let mut scene = Scene::new();
    let unnamed = receipts(&["gw-a"]).replace(
        r#""gateways":"#,
        &format!(
            r#""not_ruled_out":{{"listed_before":"{}","stopped_by":"{}"}},"gateways":"#,
            at(90.0),
            at(140.0)
        ),
    );
    scene.admitted(1.0).operator(REVOKED, "keys.revoke", "key_1", &unnamed).later();
    assert_unsaid(&scene, "do not rule out");
    assert_eq!(scene.report().end.unwrap().holds_since, at(140.0));
    scene.operator(501.0, "keys.revoke", "key_1", &receipts(&["gw-a"]));
    assert_said(&scene);
    let mut scene = Scene::new();
    let many = receipts(&["gw-a"]).replace(r#""gateways":"#, r#""more_gateways":3,"gateways":"#);
    scene.admitted(1.0).operator(REVOKED, "keys.revoke", "key_1", &many).later();
    assert_unsaid(&scene, "names 3 gateways less");
}

#[test]
fn missing_and_unreadable_segments_are_named() {
    let mut scene = Scene::new();
    scene.admitted(1.0).revoked().later();
    assert_said(&scene);
    let second = scene.directory("gw-a").join("trail-00000000000000000256.jsonl");
    let line = format!(
        "{{\"seq\":256,\"gateway\":\"gw-a\",\"time\":\"{}\",\"kind\":\"stop\"}}\n",
        at(700.0)
    );
    fs::write(&second, line).unwrap();
    assert_unsaid(&scene, "gw-a: the entries 4 to 255 are in no file");
    fs::remove_file(&second).unwrap();
    fs::write(scene.directory("gw-a").join("trail-1.jsonl"), b"x").unwrap();
    assert_unsaid(&scene, "trail-1.jsonl");
}
