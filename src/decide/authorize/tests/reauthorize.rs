//! What ends a permit that was granted before.

use std::sync::Arc;

use serde_json::json;

use super::super::*;
use crate::base::clock::{BootMillis, UnixMillis};
use crate::base::credential::Credential;
use crate::base::fingerprint::{CredentialPart, Fingerprint, Pepper, Peppers};
use crate::base::ids::{CredentialId, TenantId};
use crate::base::principal::{CredentialState, Extras, PasswordHash, TENANT_SURFACE, TokenClaims};
use crate::decide::external::{KeySet, PublishedKeys};
use crate::decide::samples::issuer::{self, Issuer, external};
use crate::decide::samples::{self, api_key, key_pair, route_for, scopes, session, token_rules};
use crate::decide::surface::{AccountSurface, Carrier, KeyOrigin, Proof, SurfaceKind};

const NOW: Now = Now {
    wall: UnixMillis(1_000_000_000),
    boot: BootMillis(1_000),
};
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const OTHER: &[u8] = b"fedcba9876543210fedcba9876543210";

/// What was admitted, and by what it is judged again.
struct Case {
    facts: Facts,
    token: Option<TokenClaims>,
    was: Surface,
    is: Surface,
    route: Route,
    /// `None`: what whoever has the credential proves.
    proof: Option<Proof>,
}

impl Case {
    fn of(facts: Facts, surface: impl Fn() -> Surface) -> Self {
        Self {
            facts,
            token: None,
            was: surface(),
            is: surface(),
            route: route_for(&[0], &["orders:read"]),
            proof: None,
        }
    }

    fn key() -> Self {
        let mut facts = samples::facts("api", "key_1", "acme");
        facts.credential.scopes = scopes(&["orders:read"]);
        Self::of(facts, || {
            api_key("api", &[Carrier::BEARER], "htst_", "hlive_", KeyOrigin::Generated)
        })
    }

    fn pair() -> Self {
        let mut facts = samples::facts("pair", "pair_1", "acme");
        facts.credential.scopes = scopes(&["orders:read"]);
        let peppers = Peppers::new(vec![Pepper::new(&[7; 32]).unwrap()]).unwrap();
        let (publishable, secret) = (b"pk_live_x".as_slice(), b"sk_live_x".as_slice());
        let surface = key_pair("pair");
        facts.credential.secret_fingerprint = Some(peppers.first().fingerprint(&surface.name, CredentialPart::Secret, secret));
        let pair = Credential::Pair { publishable, secret };
        Self {
            proof: Some(surface.prove(pair, None, Some(&facts.credential), &peppers)),
            ..Self::of(facts, || key_pair("pair"))
        }
    }

    fn account() -> Self {
        let mut facts = samples::facts("people", "acc_1", "acme");
        facts.credential.scopes = scopes(&["orders:read"]);
        set_password(&mut facts, Some("$argon2id$one"));
        Self {
            proof: Some(Proof::of_password(&facts.credential)),
            ..Self::of(facts, || {
                samples::surface("people", SurfaceKind::Account(AccountSurface { fields: None }))
            })
        }
    }

    fn token() -> Self {
        let mut facts = samples::facts("access", "user_1", "acme");
        facts.credential.scopes = scopes(&["orders:read"]);
        let rules = token_rules(SECRET, "portal");
        let mut text = serde_json::Map::new();
        for (name, value) in [("kind", "portal".into()), ("sub", "user_1".into()), ("exp", 2_000_000.into())] {
            text.insert(name.into(), value);
        }
        let signed = rules.keys.sign(&text).unwrap();
        Self {
            token: Some(rules.verify(signed.as_bytes(), NOW.wall).unwrap()),
            ..Self::of(facts, || {
                session("session", &[Carrier::BEARER], token_rules(SECRET, "portal"), "access")
            })
        }
    }

    /// What is said when these facts are all that is known at `now`.
    fn judge_at(&self, newer: Facts, now: Now) -> Result<Permit, Denial> {
        let scope_grants = ScopeGrants::default();
        let proven = samples::proven(&self.was, &self.facts.credential, self.token.as_ref());
        let request = AccessRequest {
            route: &route_for(&[0], &["orders:read"]),
            surface_index: SurfaceIndex(0),
            surface: &self.was,
            method: Method::Get,
            presented_mode: None,
            carried: Carried::Explicitly,
            proof: self.proof.unwrap_or(proven),
            scope_grants: &scope_grants,
        };
        let permit = authorize(
            &request,
            Principal::new(Arc::new(self.facts.clone()), self.token.clone().map(Arc::new)),
            NOW.wall,
        )
        .unwrap();
        let again = Reauthorization {
            permit: &permit,
            was: &self.was,
            method: Method::Get,
            route: &self.route,
            surface_index: SurfaceIndex(0),
            surface: &self.is,
            scope_grants: &scope_grants,
        };
        reauthorize(&again, Arc::new(newer), now)
    }

    fn judge(&self, change: impl FnOnce(&mut Facts)) -> Option<Denial> {
        let mut newer = self.facts.clone();
        change(&mut newer);
        self.judge_at(newer, NOW).err()
    }
}

#[test]
fn what_did_not_change_is_admitted_again() {
    for case in [Case::key(), Case::pair(), Case::account(), Case::token()] {
        assert_eq!(case.judge(|_| {}), None);
    }
}

#[test]
fn whatever_ends_a_credential_ends_what_it_opened() {
    for case in [Case::key(), Case::pair(), Case::account(), Case::token()] {
        let revoked = case.judge(|facts| facts.credential.state = CredentialState::Revoked { at: UnixMillis(0) });
        assert_eq!(revoked, Some(Denial::RevokedCredential));
        assert_eq!(
            case.judge(|facts| facts.credential.state = CredentialState::Disabled),
            Some(Denial::DisabledCredential)
        );
        assert_eq!(
            case.judge(|facts| facts.credential.expires_at = Some(NOW.wall)),
            Some(Denial::ExpiredCredential)
        );
        assert_eq!(case.judge(|facts| facts.tenant.active = false), Some(Denial::InactiveTenant));
        assert_eq!(
            case.judge(|facts| facts.credential.scopes = scopes(&[])),
            Some(Denial::InsufficientScope)
        );
    }
}

#[test]
fn facts_of_another_record_prove_nothing() {
    let case = Case::key();
    let other = |facts: &mut Facts| facts.credential.id = CredentialId::parse("key_2").unwrap();
    assert_eq!(case.judge(other), Some(Denial::UnknownCredential));
    let tenant = |facts: &mut Facts| {
        facts.credential.tenant = TenantId::parse("globex").unwrap();
        facts.tenant.id = TenantId::parse("globex").unwrap();
    };
    assert_eq!(case.judge(tenant), Some(Denial::UnknownCredential));
}

#[test]
fn another_secret_half_ends_what_the_old_one_opened() {
    let case = Case::pair();
    let changed = |facts: &mut Facts| facts.credential.secret_fingerprint = Some(Fingerprint::from_bytes([8; 32]));
    assert_eq!(case.judge(changed), Some(Denial::WrongSecret));
    assert_eq!(
        case.judge(|facts| facts.credential.secret_fingerprint = None),
        Some(Denial::WrongSecret)
    );
}

fn set_password(facts: &mut Facts, phc: Option<&str>) {
    let extras = Extras {
        password: phc.map(|phc| PasswordHash::parse(phc).unwrap()),
        ..Extras::default()
    };
    facts.credential.extras = extras.boxed();
}

#[test]
fn another_password_ends_what_the_old_one_opened() {
    let case = Case::account();
    assert_eq!(case.judge(|facts| set_password(facts, Some("$argon2id$one"))), None);
    for now in [Some("$argon2id$two"), None] {
        assert_eq!(case.judge(|facts| set_password(facts, now)), Some(Denial::WrongSecret));
    }
}

/// A surface that kept its name and takes another kind of credential now: neither what was proven to the old kind
/// counts for the new one, nor does a half of a pair become a key.
#[test]
fn what_was_proven_to_one_kind_is_nothing_to_another() {
    let all = || [Case::key(), Case::pair(), Case::account(), Case::token()];
    for (i, was) in all().into_iter().enumerate() {
        for (j, other) in all().into_iter().enumerate() {
            let case = Case {
                is: other.is,
                facts: was.facts.clone(),
                token: was.token.clone(),
                was: match i {
                    0 => Case::key().was,
                    1 => Case::pair().was,
                    2 => Case::account().was,
                    _ => Case::token().was,
                },
                route: route_for(&[0], &["orders:read"]),
                proof: was.proof,
            };
            let expected = (i != j).then_some(Denial::WrongSurface);
            assert_eq!(case.judge(|_| {}), expected, "{i} {j}");
        }
    }
    let half = Case::key();
    let paired = |facts: &mut Facts| facts.credential.secret_fingerprint = Some(Fingerprint::from_bytes([7; 32]));
    assert_eq!(half.judge(paired), Some(Denial::WrongSecret));
}

#[test]
fn a_token_is_dead_from_its_expiry_on() {
    let case = Case::token();
    let at = |wall| Now { wall, ..NOW };
    // The rules of these tests allow for five seconds.
    let end = case.token.as_ref().unwrap().expires_at.plus(std::time::Duration::from_secs(5));
    assert!(case.judge_at(case.facts.clone(), at(UnixMillis(end.0 - 1))).is_ok());
    assert_eq!(case.judge_at(case.facts.clone(), at(end)).err(), Some(Denial::ExpiredCredential));
}

#[test]
fn j9_a_withdrawn_signing_secret_ends_what_its_tokens_opened() {
    let rules = |secret: &[u8], kind: &str| session("session", &[Carrier::BEARER], token_rules(secret, kind), "access");
    let withdrawn = Case {
        is: rules(OTHER, "portal"),
        ..Case::token()
    };
    assert_eq!(withdrawn.judge(|_| {}), Some(Denial::InvalidToken));
    let narrower = Case {
        is: rules(SECRET, "dashboard"),
        ..Case::token()
    };
    assert_eq!(narrower.judge(|_| {}), Some(Denial::InvalidToken));
}

#[test]
fn a_route_or_surface_that_takes_others_now_ends_it() {
    let moved = Case {
        route: route_for(&[1], &["orders:read"]),
        ..Case::key()
    };
    assert_eq!(moved.judge(|_| {}), Some(Denial::WrongSurface));
    let narrowed = Case {
        route: route_for(&[0], &["orders:write"]),
        ..Case::key()
    };
    assert_eq!(narrowed.judge(|_| {}), Some(Denial::InsufficientScope));
    let other_kind = Case {
        is: session("api", &[Carrier::BEARER], token_rules(SECRET, "portal"), "api"),
        ..Case::key()
    };
    assert_eq!(other_kind.judge(|_| {}), Some(Denial::WrongSurface));
}

/// What was opened by a token that the first of two issuers has signed. Each publishes its own key, and keys can be replaced.
struct TwoIssuers {
    case: Case,
    signer: Issuer,
    published: [Arc<PublishedKeys>; 2],
}

impl TwoIssuers {
    const NAMES: [&str; 2] = ["https://first.test", "https://second.test"];

    /// A token of the issuer in this place.
    fn with_token_of(place: usize) -> Self {
        let (signer, other) = (Issuer::new(), Issuer::new());
        let mut published = [signer.published(), other.published()];
        published.rotate_right(place);
        let surface = || external(&[(Self::NAMES[0], &published[0]), (Self::NAMES[1], &published[1])], "gate");
        let token = signer.token(&json!({
            "iss": Self::NAMES[place], "aud": "gate", "sub": "user_1", "tenant": "acme", "scope": "orders:read", "exp": 2_000_000,
        }));
        let SurfaceKind::External(kind) = surface().kind else {
            panic!("it is a surface of other issuers");
        };
        let claims = kind.rules.verify(token.as_bytes(), NOW).unwrap();
        let facts = samples::facts(TENANT_SURFACE, "acme", "acme");
        let case = Case {
            token: Some(claims),
            ..Case::of(facts, surface)
        };
        Self { case, signer, published }
    }
}

#[test]
fn j22_a_key_counts_only_for_the_issuer_whose_token_it_signed() {
    for place in [0, 1] {
        let two = TwoIssuers::with_token_of(place);
        let (own, other) = (&two.published[place], &two.published[1 - place]);
        assert_eq!(two.case.judge(|_| {}), None, "the token of each issuer is good");
        // Public keys are public: whoever runs one issuer can publish the keys of all others.
        other.replace(two.signer.set(), BootMillis(0));
        assert_eq!(two.case.judge(|_| {}), None);
        own.replace(Issuer::new().set(), BootMillis(0));
        assert_eq!(
            two.case.judge(|_| {}),
            Some(Denial::InvalidToken),
            "its own issuer has withdrawn the key"
        );
        own.replace(two.signer.set(), BootMillis(0));
        other.replace(KeySet::default(), BootMillis(0));
        assert_eq!(two.case.judge(|_| {}), None, "what others publish does not matter");
    }
}

#[test]
fn issuers_without_usable_keys_are_no_reason_to_doubt_the_keys_of_another() {
    for place in [0, 1] {
        let mut two = TwoIssuers::with_token_of(place);
        let SurfaceKind::External(kind) = &mut two.case.is.kind else {
            panic!("it is a surface of other issuers");
        };
        kind.rules.issuers[1 - place].keys = issuer::unfetched();
        assert_eq!(two.case.judge(|_| {}), None);
        two.published[place].replace(KeySet::default(), BootMillis(0));
        assert_eq!(
            two.case.judge(|_| {}),
            Some(Denial::InvalidToken),
            "withdrawn is known, and not unknown"
        );
        let SurfaceKind::External(kind) = &mut two.case.is.kind else {
            panic!("it is a surface of other issuers");
        };
        kind.rules.issuers[place].keys = issuer::unfetched();
        kind.rules.issuers[1 - place].keys = two.signer.published();
        assert_eq!(two.case.judge(|_| {}), Some(Denial::StoreUnavailable), "unknown is not withdrawn");
    }
}
