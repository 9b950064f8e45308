//! An ending takes away and never gives, survives its encoding, and outranks what is older.

use super::*;
use crate::store::codec::tests::sample;

fn at(millis: i64) -> Option<UnixMillis> {
    Some(UnixMillis(millis))
}

fn record(epoch: u64, state: CredentialState) -> CredentialRecord {
    CredentialRecord { epoch, state, ..sample() }
}

fn ending(epoch: u64, state: CredentialState) -> Ending {
    Ending::of_credential(&record(epoch, state))
}

const REVOKED: CredentialState = CredentialState::Revoked { at: UnixMillis(7) };

#[test]
fn what_is_written_beside_an_event_is_read_back() {
    let mut full = record(3, REVOKED);
    (full.valid_after, full.expires_at) = (at(-5), at(9));
    full.extras_mut().roles = vec![RoleId::of_name("a"), RoleId::of_name("b")];
    let person = person(4, &["a:read", "b:write"]);
    let scopes: ScopeSet = ["a:read", "b:write"].iter().map(|s| Scope::parse(s).unwrap()).collect();
    for ending in [
        Ending::of_credential(&full),
        Ending::of_credential(&person),
        Ending::of_credential(&CredentialRecord {
            scopes: ScopeSet::default(),
            ..person.clone()
        }),
        ending(1, CredentialState::Active),
        ending(2, CredentialState::Disabled),
        Ending::Tenant { epoch: 4, active: false },
        Ending::Tenant { epoch: 5, active: true },
        Ending::Role { epoch: 6, scopes },
        Ending::Role {
            epoch: 7,
            scopes: ScopeSet::default(),
        },
        Ending::RoleDeleted,
    ] {
        assert_eq!(Ending::parse(&ending.encode()), Some(ending));
    }
}

#[test]
fn f10_what_is_no_ending_is_refused() {
    for bad in [
        "",
        "c",
        "c 1",
        "c x active - -",
        "c 1 perhaps - -",
        "c 1 active -",
        "c 1 active x -",
        "c 1 active - - role / a\u{0}b",
        "t 1 active more",
        "t 1 maybe",
        "r x",
        "r 1 a\u{0}b",
        "d 1",
        "z 1",
    ] {
        assert_eq!(Ending::parse(bad), None, "{bad}");
    }
}

#[test]
fn a_revocation_outranks_every_record_that_is_not_revoked() {
    for epoch in [1, 5, 9] {
        let mut found = record(epoch, CredentialState::Active);
        assert!(ending(5, REVOKED).restrict_credential(&mut found));
        assert_eq!(found.state, REVOKED);
        assert!(
            !ending(5, REVOKED).restrict_credential(&mut found),
            "once it is so, nothing is taken"
        );
    }
}

#[test]
fn a_disabling_outranks_older_records_only() {
    for (epoch, state) in [
        (4, CredentialState::Disabled),
        (5, CredentialState::Disabled),
        (6, CredentialState::Active),
    ] {
        let mut found = record(epoch, CredentialState::Active);
        assert_eq!(
            ending(5, CredentialState::Disabled).restrict_credential(&mut found),
            state != CredentialState::Active
        );
        assert_eq!(found.state, state, "epoch {epoch}");
    }
}

#[test]
fn nothing_is_ever_given() {
    let mut found = record(1, CredentialState::Disabled);
    (found.valid_after, found.expires_at) = (at(100), at(200));
    let before = found.clone();
    let mut seen = record(9, CredentialState::Active);
    (seen.valid_after, seen.expires_at) = (at(50), at(300));
    seen.extras_mut().roles = vec![RoleId::of_name("a")];
    assert!(!Ending::of_credential(&seen).restrict_credential(&mut found));
    assert_eq!(found, before);
}

#[test]
fn expiry_watermark_and_roles_are_taken_at_their_strictest() {
    let mut found = record(1, CredentialState::Active);
    found.extras_mut().roles = vec![RoleId::of_name("a"), RoleId::of_name("b")];
    let mut seen = record(2, CredentialState::Active);
    (seen.valid_after, seen.expires_at) = (at(50), at(300));
    seen.extras_mut().roles = vec![RoleId::of_name("b"), RoleId::of_name("c")];
    assert!(Ending::of_credential(&seen).restrict_credential(&mut found));
    assert_eq!((found.valid_after, found.expires_at), (at(50), at(300)));
    assert_eq!(found.roles(), [RoleId::of_name("b")]);
}

#[test]
fn the_newest_ending_of_a_record_is_kept_and_the_number_of_records_is_bounded() {
    let endings = Endings::default();
    let whose = |name: &str| RecordRef::Credential(CredentialId::parse(name).unwrap());
    for (epoch, state) in [
        (2, CredentialState::Disabled),
        (3, CredentialState::Active),
        (2, CredentialState::Disabled),
    ] {
        endings.note(whose("key-1"), ending(epoch, state));
    }
    assert_eq!(endings.all(), [(whose("key-1"), ending(3, CredentialState::Active))]);
    endings.note(whose("key-1"), ending(1, REVOKED));
    endings.note(whose("key-1"), ending(9, CredentialState::Active));
    assert_eq!(
        endings.all(),
        [(whose("key-1"), ending(1, REVOKED))],
        "a revocation is the last word"
    );
    for i in 0..MAX_ENDINGS {
        endings.note(whose(&format!("other-{i}")), ending(1, REVOKED));
    }
    let all = endings.all();
    assert_eq!(all.len(), MAX_ENDINGS);
    assert!(all.iter().all(|(of, _)| *of != whose("key-1")), "the oldest goes first");
}

#[test]
fn two_branches_of_a_history_with_one_number_leave_what_both_took_away() {
    let endings = Endings::default();
    let whose = RecordRef::Credential(sample().id);
    endings.note(whose.clone(), ending(2, CredentialState::Disabled));
    let mut other = record(2, CredentialState::Active);
    (other.valid_after, other.expires_at) = (at(50), at(300));
    endings.note(whose.clone(), Ending::of_credential(&other));
    let mut both = other.clone();
    both.state = CredentialState::Disabled;
    assert_eq!(endings.all(), [(whose.clone(), Ending::of_credential(&both))]);

    let mut found = facts();
    endings.restrict(&mut found);
    assert_eq!(found.credential.state, CredentialState::Disabled);
    assert_eq!((found.credential.valid_after, found.credential.expires_at), (at(50), at(300)));
    assert_eq!(found.credential.epoch, 1, "what rests on what was read rests on no change since");
    let mut written_over = record(1, CredentialState::Active);
    endings.restrict_credential(&mut written_over);
    assert_eq!(written_over.epoch, 2, "what is written over it gets a number of its own");

    endings.note(whose.clone(), ending(3, CredentialState::Active));
    assert_eq!(
        endings.all(),
        [(whose, ending(3, CredentialState::Active))],
        "a later number knew of the earlier ones"
    );
}

fn facts() -> StoredFacts {
    let credential = record(1, CredentialState::Active);
    let tenant = TenantRecord {
        id: credential.tenant.clone(),
        active: true,
        created_at: UnixMillis(0),
        epoch: 1,
    };
    let role = RoleRecord {
        id: RoleId::of_name("viewer"),
        tenant: Some(tenant.id.clone()),
        name: "viewer".into(),
        description: None,
        scopes: ["a:read", "b:write"].iter().map(|s| Scope::parse(s).unwrap()).collect(),
        created_at: UnixMillis(0),
        epoch: 1,
    };
    let mut facts = StoredFacts {
        credential,
        tenant,
        ancestors: Vec::new(),
        roles: vec![role],
    };
    facts.credential.extras_mut().roles = vec![RoleId::of_name("viewer")];
    facts
}

#[test]
fn tenant_ancestors_and_roles_are_restricted_too_and_suspicion_is_raised() {
    let narrow: ScopeSet = std::iter::once(Scope::parse("a:read").unwrap()).collect();
    let role = RecordRef::Role(RoleId::of_name("viewer"));
    let cases = [
        (RecordRef::Tenant(facts().tenant.id), Ending::Tenant { epoch: 2, active: false }),
        (
            role.clone(),
            Ending::Role {
                epoch: 2,
                scopes: narrow.clone(),
            },
        ),
        (role, Ending::RoleDeleted),
        (RecordRef::Credential(sample().id), ending(2, REVOKED)),
    ];
    for (i, (whose, ending)) in cases.into_iter().enumerate() {
        let endings = Endings::default();
        let suspicions = endings.suspicions();
        let mut found = facts();
        endings.restrict(&mut found);
        assert_eq!(found, facts(), "nothing was seen");
        endings.note(whose, ending);
        endings.restrict(&mut found);
        assert!(suspicions.has_changed().unwrap());
        match i {
            0 => assert!(!found.tenant.active),
            1 => assert_eq!(found.roles[0].scopes, narrow),
            2 => assert!(found.roles.is_empty()),
            _ => assert_eq!(found.credential.state, REVOKED),
        }
    }
}

/// A person of an identity provider, with these scopes and a role.
fn person(epoch: u64, scopes: &[&str]) -> CredentialRecord {
    let mut person = record(epoch, CredentialState::Active);
    person.scopes = scopes.iter().map(|s| Scope::parse(s).unwrap()).collect();
    let extras = person.extras_mut();
    extras.roles = vec![RoleId::of_name("a")];
    extras.parent = Some(crate::base::principal::Parent {
        surface: crate::base::ids::SurfaceName::parse(crate::base::principal::PROVIDER_SURFACE).unwrap(),
        id: CredentialId::parse("prv_1").unwrap(),
    });
    person
}

#[test]
fn scopes_that_a_person_lost_do_not_come_back_with_an_older_record() {
    let seen = Ending::of_credential(&person(5, &["a:read"]));
    for (epoch, restricted, left) in [(4, true, "a:read"), (5, true, "a:read"), (6, false, "a:read b:write")] {
        let mut found = person(epoch, &["a:read", "b:write"]);
        assert_eq!(seen.restrict_credential(&mut found), restricted, "epoch {epoch}");
        assert_eq!(found.scopes.joined(), left, "epoch {epoch}");
    }
    let mut fewer = person(4, &[]);
    assert!(!seen.restrict_credential(&mut fewer));
    assert!(fewer.scopes.is_empty(), "nothing is given");
    // Two branches with the same epoch: what either of them takes away is gone.
    let other = Ending::of_credential(&person(5, &["b:write"]));
    let mut found = person(4, &["a:read", "b:write"]);
    assert!(seen.over(&other).restrict_credential(&mut found));
    assert!(found.scopes.is_empty());
}

#[test]
fn older_settings_of_a_provider_let_nobody_sign_on() {
    let settings = |epoch, state| CredentialRecord {
        surface: crate::base::ids::SurfaceName::parse(crate::base::principal::PROVIDER_SETTINGS_SURFACE).unwrap(),
        ..record(epoch, state)
    };
    let seen = Ending::of_credential(&settings(5, CredentialState::Active));
    for (epoch, state) in [
        (4, CredentialState::Disabled),
        (5, CredentialState::Active),
        (6, CredentialState::Active),
    ] {
        let mut found = settings(epoch, CredentialState::Active);
        assert_eq!(seen.restrict_credential(&mut found), epoch < 5, "epoch {epoch}");
        assert_eq!(found.state, state, "epoch {epoch}");
    }
    let mut key = record(4, CredentialState::Active);
    assert!(!seen.restrict_credential(&mut key), "a key has no settings");
}
