//! Every credential on every route, through extraction, verification, look-up and decision: a
//! credential of one surface never works on a route of another.

use std::collections::HashMap;

use serde_json::json;

use super::*;
use crate::base::clock::Now;
use crate::base::ids::CredentialId;
use crate::base::key::{GeneratedKey, GeneratedPair};
use crate::decide::extract::extract;
use crate::decide::surface::Verified;
use crate::decide::token;
use crate::wire::fields::Fields;

const DASHBOARD_SECRET: &[u8] = b"dashboard-dashboard-dashboard-32";
const PORTAL_SECRET: &[u8] = b"portal-portal-portal-portal-3232";

/// One caller of each surface, and the store that knows them all.
struct World {
    surfaces: Vec<Surface>,
    peppers: Peppers,
    store: HashMap<Fingerprint, Facts>,
    /// The fields of a good request, by surface.
    callers: Vec<Fields>,
}

fn fields(lines: &[(&str, &str)]) -> Fields {
    let mut fields = Fields::default();
    for (name, value) in lines {
        fields.push(name.as_bytes(), value.as_bytes());
    }
    fields
}

fn world() -> World {
    let header = |name: &str| Carrier::Header(name.into());
    let surfaces = vec![
        api_key("api", &[Carrier::BEARER], "htst_", "hlive_", KeyOrigin::Generated),
        session(
            "dashboard",
            &[Carrier::BEARER],
            token_rules(DASHBOARD_SECRET, "dashboard_session"),
            "account",
        ),
        session(
            "portal",
            &[header("x-portal-session"), Carrier::BEARER],
            token_rules(PORTAL_SECRET, "portal_session"),
            "access",
        ),
        api_key(
            "access",
            &[header("x-access-token")],
            "htpk_test_",
            "htpk_live_",
            KeyOrigin::Generated,
        ),
        key_pair("pair"),
    ];
    let peppers = peppers(&[7]);
    let mut world = World {
        surfaces,
        peppers,
        store: HashMap::new(),
        callers: Vec::new(),
    };
    let (api, access) = (GeneratedKey::mint("hlive_").unwrap(), GeneratedKey::mint("htpk_live_").unwrap());
    let pair = GeneratedPair::mint("pk_live_", "sk_live_").unwrap();
    world.store_key("api", api.expose(), None);
    let access_id = world.store_key("access", access.expose(), None);
    world.store_key("pair", pair.publishable.expose(), Some(pair.secret.expose()));
    let account = samples::facts("account", "acc_1", "acme");
    world.store.insert(account.credential.fingerprint, account);

    let bearer = |text: &str| format!("Bearer {text}");
    let jwt = |secret: &[u8], kind: &str, sub: &str| {
        let claims = json!({"sub": sub, "kind": kind, "iat": NOW.secs(), "exp": NOW.secs() + 60});
        token::mint(secret, claims.as_object().unwrap()).unwrap()
    };
    let dashboard = jwt(DASHBOARD_SECRET, "dashboard_session", "acc_1");
    let portal = jwt(PORTAL_SECRET, "portal_session", access_id.as_str());
    world.callers = vec![
        fields(&[("authorization", &bearer(api.expose()))]),
        fields(&[("authorization", &bearer(&dashboard))]),
        fields(&[("authorization", &bearer(&portal))]),
        fields(&[("x-access-token", access.expose())]),
        fields(&[("x-api-key", pair.publishable.expose()), ("x-api-secret", pair.secret.expose())]),
    ];
    world
}

impl World {
    fn store_key(&mut self, surface: &str, key: &str, secret: Option<&str>) -> CredentialId {
        let mut facts = samples::facts(surface, &format!("{surface}_1"), "acme");
        let record = &mut facts.credential;
        let fingerprint = |part, text: &str| self.peppers.first().fingerprint(&record.surface, part, text.as_bytes());
        let (found_by, compared) = (
            fingerprint(CredentialPart::Key, key),
            secret.map(|s| fingerprint(CredentialPart::Secret, s)),
        );
        (record.fingerprint, record.secret_fingerprint) = (found_by, compared);
        record.mode = Some(Mode::Live);
        let id = record.id.clone();
        self.store.insert(Fingerprint::of_id(&record.surface, &id), facts.clone());
        self.store.insert(found_by, facts);
        id
    }

    /// What the gateway does, without the wire.
    fn admit(&self, head: &Fields, accepted: &[usize]) -> Result<Permit, Denial> {
        let accepted: Vec<_> = accepted.iter().map(|i| SurfaceIndex(*i)).collect();
        let found = extract(head, &self.surfaces, &accepted)?;
        let surface = &self.surfaces[found.surface.0];
        let now = Now {
            wall: NOW,
            ..Now::default()
        };
        let token = match surface.kind.verify(found.credential, now)? {
            Verified::Token(token) => Some(token.claims),
            Verified::NoToken | Verified::KeyWanted { .. } => None,
        };
        let facts = fingerprints(surface, found.credential, token.as_deref(), &self.peppers).find_map(|f| self.store.get(&f));
        let proof = surface.prove(found.credential, token.as_deref(), facts.map(|f| &f.credential), &self.peppers);
        let facts = Arc::new(facts.ok_or(Denial::UnknownCredential)?.clone());
        let indices: Vec<_> = accepted.iter().map(|i| i.0).collect();
        let request = AccessRequest {
            route: &route_for(&indices, &[]),
            surface_index: found.surface,
            surface,
            method: Method::Post,
            presented_mode: found.mode,
            carried: Carried::Explicitly,
            proof,
            scope_grants: &ScopeGrants::default(),
        };
        authorize(&request, Principal::new(facts, token), NOW)
    }
}

#[test]
fn k11_each_credential_works_on_the_routes_of_its_own_surface_and_on_no_other() {
    let world = world();
    let (mut admitted, mut refused) = (0, 0);
    for (caller, head) in world.callers.iter().enumerate() {
        for accepted in 0..world.surfaces.len() {
            match world.admit(head, &[accepted]) {
                Ok(_) => {
                    assert_eq!(caller, accepted, "admitted on a route of another surface");
                    admitted += 1;
                }
                Err(denial) => {
                    assert_ne!(caller, accepted, "refused on its own route: {denial:?}");
                    let (row, unknown) = (denial.row(), Denial::UnknownCredential.row());
                    assert_eq!((row.status, row.code), (unknown.status, unknown.code), "{caller} on {accepted}");
                    refused += 1;
                }
            }
        }
    }
    assert_eq!((admitted, refused), (5, 20));
}

#[test]
fn k11_on_a_route_of_all_surfaces_each_credential_is_admitted_as_its_own() {
    let world = world();
    // Two surfaces of tokens in one place are refused by the configuration, so portal is left out.
    for (caller, head) in world.callers.iter().enumerate().filter(|(i, _)| *i != 2) {
        assert!(world.admit(head, &[0, 1, 3, 4]).is_ok(), "{caller}");
    }
}

#[test]
fn k1_halves_of_two_pairs_are_no_pair() {
    let mut world = world();
    let other = GeneratedPair::mint("pk_live_", "sk_live_").unwrap();
    world.store_key("pair", other.publishable.expose(), Some(other.secret.expose()));
    let own: Vec<_> = world.callers[4]
        .iter()
        .map(|f| String::from_utf8(f.value.to_vec()).unwrap())
        .collect();
    let verdict = |key: &str, secret: &str| world.admit(&fields(&[("x-api-key", key), ("x-api-secret", secret)]), &[4]).err();
    assert_eq!(verdict(&own[0], &own[1]), None);
    assert_eq!(verdict(other.publishable.expose(), other.secret.expose()), None);
    assert_eq!(verdict(&own[0], other.secret.expose()), Some(Denial::WrongSecret));
    assert_eq!(verdict(other.publishable.expose(), &own[1]), Some(Denial::WrongSecret));
    let unknown = GeneratedPair::mint("pk_live_", "sk_live_").unwrap();
    assert_eq!(
        verdict(unknown.publishable.expose(), unknown.secret.expose()),
        Some(Denial::UnknownCredential)
    );
}
