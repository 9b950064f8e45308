//! What ends a credential, and what does not.

use super::*;

fn served(credential: &str, surface: &str, done: &str) -> String {
    format!(
        r#""kind":"request","request_id":"s","status":200,"method":"POST","path":"/s","took_us":2000,"surface":"{surface}","credential":"{credential}","tenant":"acme","subject":"sub","done":"{done}""#
    )
}

/// When `key_1` ended, in seconds, and by what.
fn ended(scene: &Scene) -> Option<(String, String)> {
    let report = scene.report();
    end_of(&report).map(|(time, action, _)| (time.to_owned(), action.to_owned()))
}

fn expected(seconds: f64, action: &str) -> Option<(String, String)> {
    Some((at(seconds), action.to_owned()))
}

#[test]
fn revoking_and_disabling_end_it_and_nothing_else_that_an_operator_does() {
    for (action, ends) in [
        ("keys.revoke", true),
        ("keys.disable", true),
        ("accounts.revoke", true),
        ("accounts.disable", true),
        ("sessions.revoke", true),
        ("keys.reveal", false),
        ("keys.rotate", false),
        ("accounts.password", false),
        // A role that is deleted, and what hangs on it, do not end the key.
        ("roles.delete", false),
        ("sessions.revoke_of", false),
    ] {
        let mut scene = Scene::new();
        scene.admitted(1.0).operator(REVOKED, action, "key_1", "").later();
        assert_eq!(ended(&scene), ends.then(|| expected(REVOKED, action).unwrap()), "{action}");
    }
    let mut scene = Scene::new();
    scene.admitted(1.0).operator(REVOKED, "keys.revoke", "key_2", "").later();
    assert_eq!(ended(&scene), None);
}

#[test]
fn what_was_refused_or_is_not_known_is_no_end() {
    for outcome in ["refused", "unknown"] {
        let mut scene = Scene::new();
        let members = format!(r#""kind":"operator","action":"keys.revoke","target":"key_1","tenant":"acme","outcome":"{outcome}""#);
        scene.admitted(1.0).add(REVOKED, &members).later();
        let report = scene.report();
        assert_eq!((end_of(&report), report.actions.len()), (None, 1), "{outcome}");
    }
}

#[test]
fn enabling_takes_a_disable_back_and_no_revocation() {
    let mut scene = Scene::new();
    scene
        .operator(50.0, "keys.disable", "key_1", "")
        .operator(60.0, "keys.enable", "key_1", "")
        .later();
    assert_eq!(ended(&scene), None);
    scene
        .operator(501.0, "keys.revoke", "key_1", "")
        .operator(502.0, "keys.enable", "key_1", "");
    assert_eq!(ended(&scene), expected(501.0, "keys.revoke"));
    // It is at an end since the first of two reasons that overlap.
    let mut scene = Scene::new();
    scene
        .operator(50.0, "keys.disable", "key_1", "")
        .operator(60.0, "keys.revoke", "key_1", "")
        .later();
    assert_eq!(ended(&scene), expected(50.0, "keys.disable"));
}

#[test]
fn its_tenant_ends_it_and_another_tenant_does_not() {
    let mut scene = Scene::new();
    scene.admitted(1.0).operator(50.0, "tenants.disable", "acme", "").later();
    assert_eq!(ended(&scene), expected(50.0, "tenants.disable"));
    scene.operator(501.0, "tenants.enable", "acme", "");
    assert_eq!(ended(&scene), None);
    // Revoked meanwhile, it stays at an end when its tenant is back.
    let mut scene = Scene::new();
    scene
        .operator(50.0, "tenants.disable", "acme", "")
        .operator(60.0, "keys.revoke", "key_1", "")
        .operator(70.0, "tenants.enable", "acme", "")
        .later();
    assert_eq!(ended(&scene), expected(50.0, "tenants.disable"));
    let mut scene = Scene::new();
    scene.admitted(1.0).operator(50.0, "tenants.disable", "globex", "").later();
    assert_eq!(ended(&scene), None);
}

#[test]
fn the_end_of_what_it_hangs_on_ends_it() {
    let parent = r#","after":{"state":"active","parent":"key_0"}"#;
    let grandparent = r#","after":{"state":"active","parent":"acc_0"}"#;
    for (action, target, ends) in [
        ("keys.revoke", "key_0", true),
        ("keys.disable", "key_0", true),
        ("accounts.disable", "acc_0", true),
        ("sessions.revoke_of", "key_0", true),
        ("sessions.revoke_of", "acc_0", true),
        ("keys.revoke", "key_9", false),
        ("keys.reveal", "key_0", false),
        ("accounts.password", "acc_0", false),
    ] {
        let mut scene = Scene::new();
        scene
            .operator(1.0, "keys.create", "key_0", grandparent)
            .operator(2.0, "keys.create", "key_1", parent)
            .operator(50.0, action, target, "")
            .later();
        let report = scene.report();
        let found = end_of(&report).map(|(_, action, of)| (action, of));
        assert_eq!(found, ends.then_some((action, target)), "{action} {target}");
    }
}

#[test]
fn whatever_ends_all_that_was_made_below_ends_only_what_was_made_before() {
    let watermark = r#","after":{"valid_after":"2030-03-17T17:46:40.000Z"}"#;
    let made = r#","after":{"parent":"acc_0"}"#;
    for (action, more) in [("sessions.revoke_of", ""), ("accounts.password", watermark)] {
        let mut scene = Scene::new();
        scene
            .operator(1.0, "keys.create", "key_1", made)
            .operator(50.0, action, "acc_0", more)
            .later();
        assert_eq!(ended(&scene), expected(50.0, action));
        let mut scene = Scene::new();
        scene
            .operator(50.0, action, "acc_0", more)
            .operator(60.0, "keys.create", "key_1", made)
            .later();
        assert_eq!(ended(&scene), None, "{action}");
    }
}

#[test]
fn a_rotation_with_an_overlap_ends_it_later() {
    let rotated = |ends: f64| {
        let mut scene = Scene::new();
        let more = format!(r#","replaced_by":"key_2","after":{{"expires_at":"{}"}}"#, at(ends));
        scene
            .admitted(1.0)
            .operator(REVOKED, "keys.rotate", "key_1", &more)
            .admitted(150.0)
            .later();
        scene
    };
    let scene = rotated(200.0);
    assert_eq!(ended(&scene), expected(200.0, "keys.rotate"));
    let report = scene.report();
    assert_eq!(report.end.as_ref().unwrap().holds_since, at(210.0));
    assert_eq!(
        (report.after.unwrap().between, report.statement.as_str()),
        (0, "admitted after the end: 0")
    );
    // Without an overlap it ends at once, and the use of second 150 came after the end.
    let scene = rotated(REVOKED);
    assert_eq!(
        (ended(&scene), scene.report().admitted_after_the_end),
        (expected(REVOKED, "keys.rotate"), Some(1))
    );
    // What is to end after the newest entry has not ended.
    let scene = rotated(900.0);
    assert_eq!(ended(&scene), None);
    assert!(scene.report().notes[0].contains(&at(900.0)), "{:?}", scene.report().notes);
}

#[test]
fn a_successor_hangs_on_what_its_predecessor_hung_on_and_outlives_it() {
    let mut scene = Scene::new();
    scene
        .operator(1.0, "keys.create", "key_0", r#","after":{"parent":"acc_0"}"#)
        .operator(2.0, "keys.rotate", "key_0", r#","replaced_by":"key_1""#)
        .operator(50.0, "keys.revoke", "key_0", "")
        .later();
    assert_eq!(ended(&scene), None);
    scene.operator(501.0, "accounts.revoke", "acc_0", "");
    assert_eq!(ended(&scene), expected(501.0, "accounts.revoke"));
}

#[test]
fn a_served_route_ends_it_too() {
    for (caller, surface, done, ends) in [
        ("acc_0", "account", "revoke api:key_1", true),
        ("acc_0", "account", "revoke api:key_2", false),
        ("acc_0", "account", "list", false),
        ("acc_0", "account", "set_roles api:key_1", false),
        ("acc_0", "account", "rotate api:key_1 api:key_2", false),
        ("key_1", "api", "log_out api:key_1", true),
        // It logged out everywhere: all that hangs on its account ended.
        ("key_1", "api", "log_out account:acc_0", true),
        // A token without a record of its own ended, not the key.
        ("key_1", "session", "log_out api:key_1", false),
    ] {
        let mut scene = Scene::new();
        scene.admitted(1.0).add(50.0, &served(caller, surface, done)).later();
        let action = done.split(' ').next().unwrap();
        assert_eq!(ended(&scene), ends.then(|| expected(50.002, action).unwrap()), "{done} by {caller}");
    }
}

#[test]
fn who_ended_it_on_a_served_route_is_its_caller() {
    let mut scene = Scene::new();
    scene
        .admitted(1.0)
        .add(50.0, &served("acc_0", "account", "revoke api:key_1"))
        .later();
    let who = scene.report().end.unwrap().who;
    assert_eq!(
        (&who["via"], &who["credential"], &who["subject"]),
        (&"route".into(), &"acc_0".into(), &"sub".into())
    );
}

#[test]
fn what_a_route_made_is_taken_to_hang_on_its_maker_unless_the_trail_knows_better() {
    let minted = |more: &dyn Fn(&mut Scene)| {
        let mut scene = Scene::new();
        scene.add(1.0, &served("acc_0", "account", "mint session:ses_0 session:key_1"));
        more(&mut scene);
        scene.later();
        scene
    };
    let by_maker = minted(&|scene| {
        scene.operator(50.0, "accounts.revoke", "acc_0", "");
    });
    assert_eq!(ended(&by_maker), expected(50.0, "accounts.revoke"));
    let notes = by_maker.report().notes;
    assert!(notes.iter().any(|note| note.contains("taken to hang on acc_0")), "{notes:?}");
    let together = minted(&|scene| {
        scene.operator(50.0, "sessions.revoke", "ses_0", "");
    });
    assert_eq!(ended(&together), expected(50.0, "sessions.revoke"));
    let everywhere = minted(&|scene| {
        scene.add(50.0, &served("ses_9", "session", "log_out account:acc_0"));
    });
    assert_eq!(ended(&everywhere), expected(50.002, "log_out"));
    // An end of its own is certain, and counts alone.
    let own = minted(&|scene| {
        let scene = scene.operator(50.0, "accounts.revoke", "acc_0", "");
        scene.operator(60.0, "keys.revoke", "key_1", "");
    });
    assert_eq!(ended(&own), expected(60.0, "keys.revoke"));
    // What was made after it in the same call is below it, not above.
    let mut scene = Scene::new();
    scene.add(1.0, &served("acc_0", "account", "mint session:key_1 session:ses_2"));
    scene.operator(50.0, "sessions.revoke", "ses_2", "").later();
    assert_eq!(ended(&scene), None);
}

#[test]
fn an_end_that_the_store_may_lose_counts_only_until_it_is_confirmed() {
    let doubt = r#","message":"0 of 1 replicas""#;
    let mut scene = Scene::new();
    scene.admitted(1.0).operator(REVOKED, "keys.revoke", "key_1", doubt).later();
    let report = scene.report();
    assert_eq!(report.admitted_after_the_end, None);
    assert!(report.gaps.iter().any(|gap| gap.contains("0 of 1 replicas")), "{:?}", report.gaps);
    scene.operator(501.0, "keys.revoke", "key_1", "").stopped();
    let report = scene.report();
    assert_eq!(end_of(&report).map(|(time, ..)| time.to_owned()), Some(at(501.0)));
    assert!(report.is_clean(), "{:?}", report.gaps);
}

#[test]
fn the_acknowledgement_and_the_last_stop_of_the_receipts_count() {
    let wait = format!(
        r#","wait":{{"confirmed":false,"acknowledged_at":"{}","gateways":[{{"id":"gw-a","confirmed":true,"ms":3}},{{"id":"gw-a","confirmed":false,"stopped_by":"{}"}}]}}"#,
        at(99.5),
        at(130.0)
    );
    let mut scene = Scene::new();
    scene
        .admitted(1.0)
        .operator(REVOKED, "keys.revoke", "key_1", &wait)
        .admitted(120.0)
        .later();
    let report = scene.report();
    let end = report.end.as_ref().unwrap();
    assert_eq!((&end.acknowledged, &end.holds_since), (&at(99.5), &at(130.0)));
    assert!(report.is_clean(), "{:?}", report.gaps);
    assert_eq!(report.after.unwrap().between, 1);
}

#[test]
fn an_answered_entry_and_its_request_are_one_action() {
    let done = served("acc_0", "account", "revoke api:key_1");
    let mut scene = Scene::new();
    scene
        .add(50.0, &done.replacen("\"request\"", "\"answered\"", 1))
        .add(50.0, &done)
        .later();
    assert_eq!(scene.report().actions.len(), 1);
    let mut scene = Scene::new();
    scene.add(50.0, &done.replacen("\"request\"", "\"answered\"", 1)).later();
    assert_eq!((scene.report().actions.len(), ended(&scene).is_some()), (1, true));
}
