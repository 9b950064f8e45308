//! Who is admitted to which route, and what proof is asked for.

use std::sync::Arc;

use super::*;
use crate::base::clock::UnixMillis;
use crate::base::credential::Credential;
use crate::base::fingerprint::{CredentialPart, Fingerprint, Pepper, Peppers};
use crate::base::ids::{RoleId, TenantId};
use crate::base::principal::{CredentialRecord, CredentialState, Facts, Parent, RoleRecord, Roles, TokenClaims};
use crate::decide::samples::{self, api_key, claims, key_pair, route_for, scopes, session, token_rules};
use crate::decide::surface::{Carrier, KeyOrigin, KeyPairSurface, SurfaceKind};

mod lookup;
mod matrix;
mod reauthorize;
mod report_only;
mod site;

const NOW: UnixMillis = UnixMillis(1_000_000_000);
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

const API: SurfaceIndex = SurfaceIndex(0);
const PAIR: SurfaceIndex = SurfaceIndex(1);
const SESSION: SurfaceIndex = SurfaceIndex(2);

fn surfaces() -> Vec<Surface> {
    vec![
        api_key("api", &[Carrier::BEARER], "htst_", "hlive_", KeyOrigin::Generated),
        key_pair("pair"),
        session("session", &[Carrier::BEARER], token_rules(SECRET, "portal"), "access"),
    ]
}

fn peppers(bytes: &[u8]) -> Peppers {
    Peppers::new(bytes.iter().map(|b| Pepper::new(&[*b; 32]).unwrap()).collect()).unwrap()
}

/// A question to `authorize` in which everything is right until a test changes it.
struct Case {
    surfaces: Vec<Surface>,
    index: SurfaceIndex,
    route: Route,
    facts: Facts,
    token: Option<TokenClaims>,
    method: Method,
    mode: Option<Mode>,
    carried: Carried,
    /// `None`: what whoever has the credential proves.
    proof: Option<Proof>,
    scope_grants: ScopeGrants,
}

impl Case {
    fn key() -> Self {
        let mut facts = samples::facts("api", "key_1", "acme");
        facts.credential.mode = Some(Mode::Live);
        facts.credential.scopes = scopes(&["orders:read", "orders:write"]);
        Self {
            surfaces: surfaces(),
            index: API,
            route: route_for(&[0, 2], &["orders:read"]),
            facts,
            token: None,
            method: Method::Post,
            mode: Some(Mode::Live),
            carried: Carried::Explicitly,
            proof: None,
            scope_grants: ScopeGrants::default(),
        }
    }

    fn session() -> Self {
        let mut facts = samples::facts("access", "at_1", "acme");
        facts.credential.scopes = scopes(&["orders:read", "orders:write"]);
        let token = claims("at_1", NOW, UnixMillis(NOW.0 + 60_000));
        Self {
            index: SESSION,
            facts,
            token: Some(token),
            mode: None,
            ..Self::key()
        }
    }

    fn pair() -> Self {
        let mut case = Self::key();
        case.index = PAIR;
        case.route = route_for(&[1], &[]);
        case.facts = samples::facts("pair", "pair_1", "acme");
        let peppers = peppers(&[1]);
        let name = &case.surfaces[PAIR.0].name;
        case.facts.credential.mode = Some(Mode::Live);
        case.facts.credential.secret_fingerprint = Some(peppers.first().fingerprint(name, CredentialPart::Secret, b"sk_live_right"));
        case.proof = Some(case.compare(b"sk_live_right"));
        case
    }

    fn compare(&self, secret: &[u8]) -> Proof {
        let publishable = b"pk_live_x".as_slice();
        let pair = Credential::Pair { publishable, secret };
        self.surfaces[PAIR.0].prove(pair, None, Some(&self.facts.credential), &peppers(&[1]))
    }

    fn decide(self) -> Result<Permit, Denial> {
        let surface = &self.surfaces[self.index.0];
        let proven = samples::proven(surface, &self.facts.credential, self.token.as_ref());
        let request = AccessRequest {
            route: &self.route,
            surface_index: self.index,
            surface: &self.surfaces[self.index.0],
            method: self.method,
            presented_mode: self.mode,
            carried: self.carried,
            proof: self.proof.unwrap_or(proven),
            scope_grants: &self.scope_grants,
        };
        let facts = Arc::new(self.facts);
        authorize(&request, Principal::new(facts, self.token.map(Arc::new)), NOW)
    }

    /// The checks that are made, up to the one that refuses.
    fn checks(self) -> Vec<Check> {
        let surface = &self.surfaces[self.index.0];
        let request = AccessRequest {
            route: &self.route,
            surface_index: self.index,
            surface,
            method: self.method,
            presented_mode: self.mode,
            carried: self.carried,
            proof: self
                .proof
                .unwrap_or_else(|| samples::proven(surface, &self.facts.credential, self.token.as_ref())),
            scope_grants: &self.scope_grants,
        };
        let mut checks = Vec::new();
        let principal = Principal::new(Arc::new(self.facts.clone()), self.token.clone().map(Arc::new));
        let _ = authorize_noting(&request, principal, NOW, |check| checks.push(check));
        checks
    }

    #[track_caller]
    fn refused(mut self, denial: Denial, change: impl FnOnce(&mut Self)) {
        change(&mut self);
        assert_eq!(self.decide().err(), Some(denial));
    }

    #[track_caller]
    fn admitted(mut self, change: impl FnOnce(&mut Self)) -> Principal {
        change(&mut self);
        self.decide().unwrap().principal().unwrap().clone()
    }
}

#[test]
fn a_good_credential_of_each_kind_is_admitted_as_its_tenant() {
    for case in [Case::key(), Case::session(), Case::pair()] {
        assert_eq!(case.admitted(|_| ()).facts.tenant.id.as_str(), "acme");
    }
}

#[test]
fn a_public_route_admits_nobody_in_particular() {
    let public = samples::route(&[Method::Get], "/x");
    assert!(authorize_public(&public).unwrap().principal().is_none());
    assert_eq!(authorize_public(&route_for(&[0], &[])).err(), Some(Denial::MissingCredential));
    Case::key().refused(Denial::Internal, |c| c.route.access = Access::Public);
}

#[test]
fn a_surface_the_route_does_not_accept_is_refused() {
    Case::key().refused(Denial::WrongSurface, |c| c.route = route_for(&[1, 2], &[]));
    Case::key().refused(Denial::WrongSurface, |c| c.route = route_for(&[], &[]));
    let _ = Case::key().admitted(|c| c.route = route_for(&[2, 0], &[]));
}

#[test]
fn a_record_that_is_not_what_was_asked_for_is_never_an_identity() {
    Case::key().refused(Denial::CorruptRecord, |c| c.facts = samples::facts("access", "key_1", "acme"));
    Case::session().refused(Denial::CorruptRecord, |c| c.facts = samples::facts("session", "at_1", "acme"));
    Case::session().refused(Denial::CorruptRecord, |c| c.facts = samples::facts("access", "at_2", "acme"));
    Case::key().refused(Denial::CorruptRecord, |c| c.facts.tenant.id = TenantId::parse("evil").unwrap());
}

#[test]
fn every_needed_scope_must_be_held() {
    let _ = Case::key().admitted(|c| c.route = route_for(&[0], &["orders:read", "orders:write"]));
    let _ = Case::key().admitted(|c| c.route = route_for(&[0], &[]));
    Case::key().refused(Denial::InsufficientScope, |c| {
        c.route = route_for(&[0], &["orders:read", "orders:delete"]);
    });
    Case::key().refused(Denial::InsufficientScope, |c| c.facts.credential.scopes = scopes(&[]));
}

#[test]
fn a_token_never_grants_more_than_its_record_holds() {
    let with = |held: &[&'static str], claimed: &[&'static str]| {
        let (held, claimed) = (scopes(held), scopes(claimed));
        move |c: &mut Case| {
            c.facts.credential.scopes = held;
            if let Some(token) = &mut c.token {
                token.scopes = Some(claimed);
            }
        }
    };
    let narrowed = Case::session().admitted(with(&["orders:read"], &["orders:read", "orders:write", "admin"]));
    assert_eq!(narrowed.scopes().joined(), "orders:read");
    let less = Case::session().admitted(with(&["orders:read", "orders:write"], &["orders:read"]));
    assert_eq!(less.scopes().joined(), "orders:read");
    Case::session().refused(Denial::InsufficientScope, with(&["x"], &["orders:read"]));
    Case::session().refused(Denial::InsufficientScope, with(&["orders:read"], &[]));
}

#[test]
fn the_modes_of_prefix_record_and_surface_agree() {
    for (prefix, record, pinned, is_good) in [
        (Some(Mode::Live), Some(Mode::Live), None, true),
        (Some(Mode::Live), Some(Mode::Live), Some(Mode::Live), true),
        (None, None, None, true),
        (None, Some(Mode::Live), None, true),
        (None, Some(Mode::Test), Some(Mode::Test), true),
        (Some(Mode::Live), Some(Mode::Test), None, false),
        (Some(Mode::Test), Some(Mode::Live), None, false),
        (Some(Mode::Live), None, None, false),
        (None, None, Some(Mode::Live), false),
        (None, Some(Mode::Test), Some(Mode::Live), false),
        (Some(Mode::Live), Some(Mode::Live), Some(Mode::Test), false),
    ] {
        let mut case = Case::key();
        (case.mode, case.facts.credential.mode, case.surfaces[API.0].mode) = (prefix, record, pinned);
        let expected = (!is_good).then_some(Denial::WrongMode);
        assert_eq!(case.decide().err(), expected, "{prefix:?} {record:?} {pinned:?}");
    }
}

#[test]
fn j16_what_ends_the_record_ends_its_sessions() {
    Case::session().refused(Denial::RevokedCredential, |c| {
        c.facts.credential.state = CredentialState::Revoked { at: NOW }
    });
    Case::session().refused(Denial::DisabledCredential, |c| c.facts.credential.state = CredentialState::Disabled);
    Case::session().refused(Denial::InactiveTenant, |c| c.facts.tenant.active = false);
    Case::session().refused(Denial::ExpiredCredential, |c| c.facts.credential.expires_at = Some(NOW));
    Case::session().refused(Denial::RevokedCredential, |c| {
        c.facts.credential.valid_after = Some(UnixMillis(NOW.0 + 1));
    });
    let _ = Case::session().admitted(|c| c.facts.credential.valid_after = Some(NOW));
}

#[test]
fn j15_a_remembered_token_is_refused_once_it_has_expired() {
    let expire = |at: i64| {
        move |c: &mut Case| {
            if let Some(token) = &mut c.token {
                token.expires_at = UnixMillis(at);
            }
        }
    };
    let _ = Case::session().admitted(expire(NOW.0 - 4_999));
    Case::session().refused(Denial::ExpiredCredential, expire(NOW.0 - 5_000));
    Case::session().refused(Denial::ExpiredCredential, |c| {
        expire(0)(c);
        c.facts.tenant.active = false;
    });
}

#[test]
fn a_token_belongs_to_session_surfaces_and_only_to_them() {
    Case::session().refused(Denial::Internal, |c| c.token = None);
    Case::key().refused(Denial::Internal, |c| c.token = Some(claims("key_1", NOW, UnixMillis(i64::MAX))));
}

#[test]
fn b10_a_cookie_on_a_changing_method_needs_proof() {
    for method in [Method::Post, Method::Put, Method::Patch, Method::Delete] {
        Case::session().refused(Denial::CrossSite, |c| (c.method, c.carried) = (method, Carried::ByBrowserUnproven));
        for carried in [Carried::ByBrowserProven, Carried::Explicitly] {
            let _ = Case::session().admitted(|c| (c.method, c.carried) = (method, carried));
        }
    }
    for method in [Method::Get, Method::Head, Method::Options] {
        let _ = Case::session().admitted(|c| (c.method, c.carried) = (method, Carried::ByBrowserUnproven));
    }
}

#[test]
fn k1_a_pair_needs_its_own_secret_and_the_proof_of_no_other() {
    let _ = Case::pair().admitted(|c| c.proof = Some(c.compare(b"sk_live_right")));
    Case::pair().refused(Denial::WrongSecret, |c| c.proof = Some(c.compare(b"sk_live_wrong")));
    Case::pair().refused(Denial::WrongSecret, |c| c.proof = Some(Proof::NONE));
    // Compared with another pair's record, in whatever order the halves were looked up.
    Case::pair().refused(Denial::WrongSecret, |c| {
        c.facts.credential.fingerprint = Fingerprint::from_bytes([9; 32]);
    });
    Case::pair().refused(Denial::WrongSecret, |c| {
        c.facts.credential.secret_fingerprint = None;
        c.proof = Some(c.compare(b"sk_live_right"));
    });
}

#[test]
fn a_wrong_secret_learns_nothing_of_the_record() {
    for state in [
        CredentialState::Active,
        CredentialState::Disabled,
        CredentialState::Revoked { at: NOW },
    ] {
        Case::pair().refused(Denial::WrongSecret, |c| {
            c.facts.credential.state = state;
            c.facts.tenant.active = false;
            c.mode = Some(Mode::Test);
            c.proof = Some(c.compare(b"sk_live_wrong"));
        });
    }
    Case::pair().refused(Denial::RevokedCredential, |c| {
        c.facts.credential.state = CredentialState::Revoked { at: NOW }
    });
}

#[test]
fn k7_debug_of_a_permit_shows_no_secret_because_it_holds_none() {
    let permit = Case::pair().decide().unwrap();
    assert!(!format!("{permit:?}").contains("right"));
}

fn role(name: &str, tenant: Option<&str>, allowed: &[&'static str]) -> RoleRecord {
    RoleRecord {
        id: RoleId::of_name(name),
        tenant: tenant.map(|id| TenantId::parse(id).unwrap()),
        name: name.into(),
        description: None,
        scopes: scopes(allowed),
        created_at: UnixMillis(0),
        epoch: 1,
    }
}

#[test]
fn the_scopes_of_roles_are_added_to_the_records_own() {
    let held = |roles: &'static [&'static str]| {
        Case::key().admitted(move |c| {
            c.facts.credential.scopes = scopes(&["orders:read"]);
            c.facts.credential.extras_mut().roles = roles.iter().map(|name| RoleId::of_name(name)).collect();
            c.facts.roles = vec![role("clerk", Some("acme"), &["orders:write"])];
            c.scope_grants.roles = Roles::new([role("viewer", None, &["orders:list", "orders:read"])]);
            c.route = route_for(&[0], &["orders:read"]);
        })
    };
    assert_eq!(held(&[]).scopes().joined(), "orders:read", "a role that is not named adds nothing");
    assert_eq!(held(&["clerk"]).scopes().joined(), "orders:read orders:write");
    assert_eq!(held(&["viewer"]).scopes().joined(), "orders:read orders:list");
    assert_eq!(held(&["clerk", "viewer"]).scopes().joined(), "orders:read orders:write orders:list");
    assert_eq!(held(&["deleted"]).scopes().joined(), "orders:read", "nor does one that is nowhere");
}

#[test]
fn a_key_without_scopes_and_roles_can_do_nothing_and_with_a_role_what_that_allows() {
    let with = |roles: &'static [&'static str]| {
        move |c: &mut Case| {
            c.facts.credential.scopes = scopes(&[]);
            c.facts.credential.extras_mut().roles = roles.iter().map(|name| RoleId::of_name(name)).collect();
            c.scope_grants.roles = Roles::new([role("viewer", None, &["orders:read"])]);
            c.route = route_for(&[0], &["orders:read"]);
        }
    };
    Case::key().refused(Denial::InsufficientScope, with(&[]));
    Case::key().refused(Denial::InsufficientScope, with(&["admin"]));
    let _ = Case::key().admitted(with(&["viewer"]));
}

#[test]
fn a_token_is_narrowed_to_what_its_record_holds_by_its_roles_too() {
    let with = |claimed: &'static [&'static str]| {
        move |c: &mut Case| {
            c.facts.credential.scopes = scopes(&[]);
            c.facts.credential.extras_mut().roles = vec![RoleId::of_name("viewer")];
            c.scope_grants.roles = Roles::new([role("viewer", None, &["orders:read"])]);
            c.token.as_mut().unwrap().scopes = Some(scopes(claimed));
        }
    };
    let narrowed = Case::session().admitted(with(&["orders:read", "orders:write"]));
    assert_eq!(narrowed.scopes().joined(), "orders:read");
    Case::session().refused(Denial::InsufficientScope, with(&["orders:write"]));
}

#[test]
fn what_ends_a_parent_ends_the_child() {
    let on_parent = |end: fn(&mut CredentialRecord)| {
        move |c: &mut Case| {
            let mut parent = samples::facts("access", "at_9", "acme").credential;
            parent.scopes = c.facts.credential.scopes.clone();
            parent.mode = c.facts.credential.mode;
            c.facts.credential.extras_mut().parent = Some(Parent {
                surface: parent.surface.clone(),
                id: parent.id.clone(),
            });
            end(&mut parent);
            c.facts.ancestors.push(parent);
        }
    };
    for case in [Case::key, Case::session] {
        let _ = case().admitted(on_parent(|_| ()));
        case().refused(
            Denial::RevokedCredential,
            on_parent(|p| p.state = CredentialState::Revoked { at: NOW }),
        );
        case().refused(Denial::DisabledCredential, on_parent(|p| p.state = CredentialState::Disabled));
        case().refused(Denial::ExpiredCredential, on_parent(|p| p.expires_at = Some(NOW)));
        case().refused(Denial::RevokedCredential, on_parent(|p| p.valid_after = Some(NOW)));
        case().refused(Denial::InsufficientScope, on_parent(|p| p.scopes = scopes(&[])));
    }
}

#[test]
fn the_last_check_that_is_noted_is_the_one_that_refuses() {
    let all = Case::key().checks();
    assert_eq!(
        all,
        Check::ALL[Check::Surface as usize..=Check::Scopes as usize],
        "in the order of the list"
    );
    let last = |change: fn(&mut Case)| {
        let mut case = Case::key();
        change(&mut case);
        case.checks().last().copied()
    };
    assert_eq!(last(|case| case.route = route_for(&[2], &[])), Some(Check::Surface));
    assert_eq!(last(|case| case.proof = Some(Proof::NONE)), Some(Check::Possession));
    assert_eq!(last(|case| case.mode = Some(Mode::Test)), Some(Check::Mode));
    assert_eq!(
        last(|case| case.facts.credential.state = CredentialState::Disabled),
        Some(Check::Force)
    );
    assert_eq!(last(|case| case.carried = Carried::ByForeignPage), Some(Check::Origin));
    assert_eq!(last(|case| case.route = route_for(&[0], &["admin:all"])), Some(Check::Scopes));
}
