//! What a record may do, for every way in which authority comes down to it, is lost, or is granted.

use super::*;
use crate::base::clock::UnixMillis;
use crate::base::ids::RoleId;
use crate::base::principal::{Extras, Parent};
use crate::base::scope::Scope;
use crate::decide::samples;

fn set(words: &str) -> ScopeSet {
    words
        .split(' ')
        .filter(|w| !w.is_empty())
        .map(|w| Scope::parse(w).unwrap())
        .collect()
}

fn role(name: &str, words: &str) -> RoleRecord {
    RoleRecord {
        id: RoleId::of_name(name),
        tenant: None,
        name: name.into(),
        description: None,
        scopes: set(words),
        created_at: UnixMillis(0),
        epoch: 0,
    }
}

/// A record with these scopes that hangs on the next one of a chain.
fn record(id: &str, scopes: &str, parent: Option<&str>, granted: Option<&str>, roles: &[&str]) -> CredentialRecord {
    let mut record = samples::facts("key", id, "acme").credential;
    record.scopes = set(scopes);
    record.extras = Extras {
        parent: parent.map(|parent| Parent {
            surface: record.surface.clone(),
            id: samples::facts("key", parent, "acme").credential.id,
        }),
        roles: roles.iter().map(|name| RoleId::of_name(name)).collect(),
        granted: granted.map(set),
        ..Extras::default()
    }
    .boxed();
    record
}

/// What the first of these may do, each of which hangs on the next.
fn may(grants: &ScopeGrants, chain: &[CredentialRecord], stored: &[RoleRecord]) -> String {
    let (first, above) = chain.split_first().unwrap();
    grants.effective_scopes_of(first, above, stored).joined().to_owned()
}

#[test]
fn a_child_may_do_no_more_than_its_parent_may_now() {
    let nothing = ScopeGrants::default();
    for (own, parent, expected) in [
        ("read", "read write", "read"),
        ("read write", "read", "read"),
        ("read write", "", ""),
        ("", "read", ""),
        ("read write", "read write", "read write"),
    ] {
        let chain = [
            record("child", own, Some("parent"), Some(""), &[]),
            record("parent", parent, None, None, &[]),
        ];
        assert_eq!(may(&nothing, &chain, &[]), expected, "{own:?} below {parent:?}");
    }
}

#[test]
fn two_levels_down_the_highest_decides_too() {
    let chain = |top: &str| {
        [
            record("session", "read write", Some("token"), Some(""), &[]),
            record("token", "read write", Some("key"), Some(""), &[]),
            record("key", top, None, None, &[]),
        ]
    };
    assert_eq!(may(&ScopeGrants::default(), &chain("read write"), &[]), "read write");
    assert_eq!(may(&ScopeGrants::default(), &chain("read"), &[]), "read");
}

#[test]
fn a_role_that_is_narrowed_or_gone_takes_its_scopes_from_whoever_hangs_on_its_holder() {
    let chain = [
        record("session", "read write", Some("account"), Some(""), &[]),
        record("account", "", None, None, &["clerk"]),
    ];
    let nothing = ScopeGrants::default();
    assert_eq!(may(&nothing, &chain, &[role("clerk", "read write")]), "read write");
    assert_eq!(may(&nothing, &chain, &[role("clerk", "read")]), "read");
    assert_eq!(may(&nothing, &chain, &[]), "");
    let configured = ScopeGrants::new(Roles::new([role("clerk", "write")]), []);
    assert_eq!(may(&configured, &chain, &[]), "write", "a role of the configuration");
}

/// The same record on another surface.
fn on(surface: &str, mut record: CredentialRecord) -> CredentialRecord {
    record.surface = crate::base::ids::SurfaceName::parse(surface).unwrap();
    record
}

#[test]
fn a_sign_on_is_passed_through_and_its_provider_is_the_ceiling() {
    let chain = |sign_on: &str, person: &str, provider: &str| {
        [
            record("session", "read write", Some("sign-on"), Some(""), &[]),
            on("sign_on", record("sign-on", sign_on, Some("person"), Some(""), &[])),
            record("person", person, Some("provider"), Some(""), &["clerk"]),
            on("provider", record("provider", provider, None, None, &[])),
        ]
    };
    let nothing = ScopeGrants::default();
    for (sign_on, person, provider, expected) in [
        ("", "read write", "read write", "read write"),
        ("", "read write", "read", "read"),
        ("", "read", "read write", "read"),
        ("", "read write", "", ""),
        // Scopes of a sign-on itself mean nothing.
        ("read write", "", "read write", ""),
    ] {
        assert_eq!(
            may(&nothing, &chain(sign_on, person, provider), &[]),
            expected,
            "{sign_on:?} {person:?} {provider:?}"
        );
    }
    let stored = [role("clerk", "write")];
    assert_eq!(
        may(&nothing, &chain("", "read", "read write"), &stored),
        "read write",
        "roles of the person"
    );
    assert_eq!(
        may(&nothing, &chain("", "read", "read"), &stored),
        "read",
        "never above the ceiling"
    );
    let whole = chain("read", "read", "read");
    assert_eq!(
        may(&nothing, &whole[1..], &[]),
        "read",
        "the sign-on itself may what its person may"
    );
    assert_eq!(may(&nothing, &whole[..2], &[]), "", "without the person it may nothing");
    let alone = [on("sign_on", record("sign-on", "read", None, None, &[]))];
    assert_eq!(may(&nothing, &alone, &[]), "");
}

#[test]
fn what_the_route_granted_is_the_records_own_and_nothing_else_is() {
    let chain = [
        record("token", "view fund", Some("key"), Some("view"), &[]),
        record("key", "mint", None, None, &[]),
    ];
    assert_eq!(may(&ScopeGrants::default(), &chain, &[]), "view");
    // What it was granted and does not hold is not held either.
    let chain = [
        record("token", "fund", Some("key"), Some("view"), &[]),
        record("key", "mint", None, None, &[]),
    ];
    assert_eq!(may(&ScopeGrants::default(), &chain, &[]), "");
}

#[test]
fn a_record_from_before_grants_were_kept_goes_on_with_what_routes_grant_today() {
    let surface = samples::key_pair("key");
    let (view, fund) = (set("view"), set("fund pay"));
    let grants = ScopeGrants::new(Roles::default(), [(&surface, &view), (&surface, &fund)]);
    let old = |granted| {
        [
            record("token", "view fund admin", Some("key"), granted, &[]),
            record("key", "mint", None, None, &[]),
        ]
    };
    assert_eq!(may(&grants, &old(None), &[]), "view fund");
    assert_eq!(may(&grants, &old(Some("")), &[]), "", "one that was made with nothing");
    let other = samples::key_pair("other");
    let grants = ScopeGrants::new(Roles::default(), [(&other, &view)]);
    assert_eq!(may(&grants, &old(None), &[]), "", "granted elsewhere");
}

#[test]
fn without_roles_and_parent_nothing_is_worked_out() {
    let facts = samples::facts("key", "one", "acme");
    assert_eq!(ScopeGrants::default().effective_scopes(&facts), None);
}

#[test]
fn test_and_live_never_reach_each_other() {
    let (test, live) = (Some(Mode::Test), Some(Mode::Live));
    for (own, other, reaches) in [
        (test, test, true),
        (test, live, false),
        (live, test, false),
        (None, live, true),
        (test, None, true),
        (None, None, true),
    ] {
        assert_eq!(mode_reaches(own, other), reaches, "{own:?} {other:?}");
    }
}

/// A session with a linked account: session, sign-on, account, link, provider.
fn linked(account: &str, link: &str, ceiling: &str) -> [CredentialRecord; 5] {
    let mut session = record("session", "read write", Some("sign_on"), Some(""), &[]);
    session.surface = SurfaceName::parse("session").unwrap();
    let mut sign_on = record("sign_on", "", Some("account"), Some(""), &[]);
    sign_on.surface = SurfaceName::parse("sign_on").unwrap();
    let account = record("account", account, None, None, &[]);
    let mut link = record("link", link, Some("provider"), Some(""), &[]);
    link.extras_mut().account = Some(account.id.clone());
    [session, sign_on, account, link, record("provider", ceiling, None, None, &[])]
}

#[test]
fn a_linked_account_may_do_what_the_link_and_the_provider_allow_and_no_more_than_itself() {
    let nothing = ScopeGrants::default();
    for (account, link, ceiling, expected) in [
        ("read write", "read write", "read write", "read write"),
        ("read write", "read", "read write", "read"),
        ("read write", "read write", "read", "read"),
        ("read", "read write", "read write", "read"),
        ("read write", "", "read write", ""),
        ("read write", "read write", "", ""),
    ] {
        let chain = linked(account, link, ceiling);
        assert_eq!(may(&nothing, &chain, &[]), expected, "{account:?}, {link:?}, {ceiling:?}");
        // By its password the account may do what it may, whatever the provider says.
        assert_eq!(may(&nothing, &chain[2..3], &[]), account);
    }
}

#[test]
fn no_route_grants_a_linked_account_more_than_its_link_may_do() {
    let surface = samples::key_pair("key");
    let grants = ScopeGrants::new(Roles::default(), [(&surface, &set("write"))]);
    let chain = linked("read write", "read", "read");
    assert_eq!(may(&grants, &chain, &[]), "read");
    // The twin: below a parent, such a grant counts.
    let child = [
        record("child", "read write", Some("parent"), None, &[]),
        record("parent", "read", None, None, &[]),
    ];
    assert_eq!(may(&grants, &child, &[]), "read write");
}
