//! Which requests count as admitted, and when.

use super::*;

/// What came after the end: admitted when it held everywhere, admitted before that, open at the end, refused.
fn counts(scene: &Scene) -> [u64; 4] {
    let after = scene.report().after.unwrap();
    [after.admitted, after.between, after.open_at_end, after.refused]
}

#[test]
fn a_request_admitted_within_the_bound_is_no_broken_promise_and_one_after_it_is() {
    let mut scene = Scene::new();
    scene.revoked().admitted(109.0).later();
    assert_eq!(counts(&scene), [0, 1, 0, 0]);
    assert!(scene.report().is_clean());
    scene.admitted(501.0);
    let report = scene.report();
    assert_eq!(counts(&scene), [1, 1, 0, 0]);
    assert_eq!(report.statement, "admitted after the end: 1");
    assert_eq!(report.after.as_ref().unwrap().admitted_list[0].request_id.as_deref(), Some("r-501"));
    assert!(!report.is_clean());
    // With a longer bound it is none.
    let longer = super::super::report("key_1", &scene.trails(), Duration::from_secs(420)).unwrap();
    assert_eq!(longer.after.unwrap().admitted, 0);
}

#[test]
fn what_failed_behind_the_gateway_was_admitted_and_what_the_gateway_refused_was_not() {
    for (denial, admitted) in [
        (r#""denial":"upstream_timeout","upstream":"main""#, 1),
        (r#""denial":"refused_by_service""#, 1),
        (r#""denial":"internal""#, 1),
        // Cut off on its way to the service: nobody knows what that did.
        (r#""denial":"revoked_credential","upstream":"main""#, 1),
        (r#""denial":"revoked_credential""#, 0),
        (r#""denial":"insufficient_scope""#, 0),
        (r#""denial":"rate_limited""#, 0),
        (r#""denial":"store_unavailable""#, 0),
    ] {
        let mut scene = Scene::new();
        scene.revoked().request(200.0, &format!("\"status\":500,{denial}")).later();
        assert_eq!(counts(&scene), [admitted, 0, 0, 1 - admitted], "{denial}");
    }
}

#[test]
fn a_stream_counts_until_its_end() {
    let stream = |until: f64| {
        let mut scene = Scene::new();
        let took = ((until - 50.0) * 1e6).round();
        let members = format!(r#""status":101,"denial":"revoked_credential","ended":"denied","upstream":"main","took_us":{took}"#);
        scene.request(50.0, &members).revoked().later();
        scene
    };
    assert_eq!(counts(&stream(99.0)), [0, 0, 0, 0]);
    assert_eq!(counts(&stream(105.0)), [0, 0, 1, 0]);
    assert_eq!(counts(&stream(109.9)), [0, 0, 1, 0]);
    assert_eq!(counts(&stream(110.0)), [1, 0, 0, 0]);
    assert_eq!(stream(200.0).report().statement, "admitted after the end: 1");
}

#[test]
fn what_a_route_only_reports_is_not_admitted_by_the_credential() {
    let mut scene = Scene::new();
    let reported = r#""status":200,"upstream":"main","denial":"revoked_credential","report_only":true"#;
    scene.revoked().request(200.0, reported).later();
    let report = scene.report();
    assert_eq!(counts(&scene), [0, 0, 0, 0]);
    assert_eq!((report.after.as_ref().unwrap().only_reported, report.uses.only_reported), (1, 1));
    assert!(report.is_clean());
    // A stream that was admitted and goes on, since its route only reports, is open after the end.
    let mut scene = Scene::new();
    scene.request(50.0, &format!(r#"{reported},"took_us":200000000"#)).revoked().later();
    assert_eq!(counts(&scene), [1, 0, 0, 0]);
    // One that never had the scope was nobody's from the start.
    let mut scene = Scene::new();
    let narrow = reported.replace("revoked_credential", "insufficient_scope");
    scene.request(50.0, &format!(r#"{narrow},"took_us":200000000"#)).revoked().later();
    assert_eq!(counts(&scene), [0, 0, 0, 0]);
}

#[test]
fn an_answered_request_is_counted_once_and_is_open_until_its_end_is_on_record() {
    let answered = r#""kind":"answered","request_id":"r-50","credential":"key_1","tenant":"acme","status":200,"upstream":"main""#;
    let mut scene = Scene::new();
    scene.add(50.0, answered).admitted(50.0).revoked().later();
    assert_eq!(scene.report().uses.requests, 1);
    assert_eq!(counts(&scene), [0, 0, 0, 0]);
    // Without its end, it may still be open.
    let mut scene = Scene::new();
    scene.add(50.0, answered).revoked().later();
    assert_eq!(scene.report().uses.requests, 1);
    assert_eq!(counts(&scene), [1, 0, 0, 0]);
    // Unless the gateway has started again meanwhile.
    let mut scene = Scene::new();
    scene.add(50.0, answered).add(60.0, r#""kind":"start""#).revoked().later();
    assert_eq!(counts(&scene), [0, 0, 0, 0]);
}

#[test]
fn refusals_of_callers_that_nobody_could_know_are_told_by_gateway() {
    let unknown = |seconds: f64| format!(r#""kind":"request","request_id":"u-{seconds}","status":503,"denial":"store_unavailable""#);
    let mut scene = Scene::of(&["gw-a", "gw-b"]);
    scene.revoked().later();
    for seconds in [50.0, 150.0, 160.0, 500.0] {
        scene.on("gw-b", seconds, &unknown(seconds));
    }
    let after = scene.report().after.unwrap();
    assert_eq!(after.unknown_callers.len(), 1);
    let told = &after.unknown_callers[0];
    assert_eq!((told.gateway.as_str(), told.refused), ("gw-b", 3));
    assert_eq!((&told.first, &told.last), (&at(150.0), &at(500.0)));
}

#[test]
fn counts_name_the_most_and_lists_have_a_bound() {
    let mut scene = Scene::new();
    scene.revoked();
    for n in 0..120 {
        scene.request(
            200.0 + f64::from(n),
            &format!(r#""status":401,"denial":"revoked_credential","client":"192.0.2.{n}""#).replace(r#","client""#, r#","x""#),
        );
    }
    let report = scene.report();
    let after = report.after.as_ref().unwrap();
    assert_eq!((after.refused, after.refused_list.len()), (120, 50));
    assert_eq!(after.last_refused.as_ref().unwrap().time, at(319.0));
    let mut counts = BTreeMap::new();
    for n in 0..60 {
        super::super::uses::add(&mut counts, Some(&n.to_string()));
    }
    assert_eq!((counts.len(), counts["(others)"]), (51, 10));
}
