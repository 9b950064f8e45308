//! Which fingerprints are looked up, and how the secret half is compared.

use super::*;
use crate::base::credential::TokenOrigin;
use crate::base::fingerprint::sha256;
use crate::base::ids::CredentialId;
use crate::base::key::GeneratedKey;

fn all(surface: &Surface, credential: Credential<'_>, claims: Option<&TokenClaims>, peppers: &Peppers) -> Vec<Fingerprint> {
    fingerprints(surface, credential, claims, peppers).collect()
}

fn imported() -> Surface {
    api_key("imp", &[Carrier::BEARER], "t_", "l_", KeyOrigin::Imported)
}

#[test]
fn a_generated_key_is_looked_up_under_each_pepper_the_first_one_first() {
    let (surface, both) = (&surfaces()[API.0], peppers(&[1, 2]));
    let key = GeneratedKey::mint("hlive_").unwrap();
    let text = key.expose().as_bytes();
    let expected: Vec<_> = both
        .iter()
        .map(|p| p.fingerprint(&surface.name, CredentialPart::Key, text))
        .collect();
    assert_eq!(all(surface, Credential::Key(text), None, &both), expected);
}

#[test]
fn an_imported_surface_looks_up_the_forms_that_can_exist() {
    let (surface, both) = (imported(), peppers(&[1, 2]));
    let hashed = |text: &[u8]| -> Vec<_> {
        let hash = sha256(text);
        both.iter()
            .map(|p| p.fingerprint_of_sha256(&surface.name, CredentialPart::Key, &hash))
            .collect()
    };
    let foreign = b"l_made-elsewhere".as_slice();
    assert_eq!(all(&surface, Credential::Key(foreign), None, &both), hashed(foreign));

    let ours = GeneratedKey::mint("l_").unwrap();
    let text = ours.expose().as_bytes();
    let mut expected: Vec<_> = both
        .iter()
        .map(|p| p.fingerprint(&surface.name, CredentialPart::Key, text))
        .collect();
    expected.extend(hashed(text));
    assert_eq!(all(&surface, Credential::Key(text), None, &both), expected);
}

#[test]
fn a_pair_is_looked_up_by_its_publishable_half_alone() {
    let (surface, one) = (&surfaces()[PAIR.0], peppers(&[1]));
    let (publishable, secret) = (b"pk_live_x".as_slice(), b"sk_live_y".as_slice());
    let expected = one.first().fingerprint(&surface.name, CredentialPart::Key, publishable);
    assert_eq!(all(surface, Credential::Pair { publishable, secret }, None, &one), [expected]);
}

#[test]
fn a_token_is_looked_up_by_the_verified_subject_on_its_records_surface() {
    let (surface, one) = (&surfaces()[SESSION.0], peppers(&[1, 2]));
    let token = Credential::Jwt {
        token: b"a.b.c",
        origin: TokenOrigin::Header,
    };
    let claims = claims("at_1", NOW, NOW);
    let expected = Fingerprint::of_id(surface.record_surface(), &CredentialId::parse("at_1").unwrap());
    assert_eq!(all(surface, token, Some(&claims), &one), [expected]);
    assert_eq!(all(surface, token, None, &one), [], "an unverified token is looked up by nothing");
    assert_eq!(all(&surfaces()[API.0], Credential::Key(b"hlive_x"), Some(&claims), &one).len(), 2);
}

#[test]
fn j13_tokens_are_looked_up_by_what_they_say_not_by_their_bytes() {
    let (surface, one) = (&surfaces()[SESSION.0], peppers(&[1]));
    let claims = claims("at_1", NOW, NOW);
    let found = |token: &'static [u8]| {
        let origin = TokenOrigin::Header;
        all(surface, Credential::Jwt { token, origin }, Some(&claims), &one)
    };
    assert_eq!(found(b"a.b.c"), found(b"a.b.d"));
}

#[test]
fn k5_a_secret_is_compared_under_every_pepper_and_form() {
    let mut pair = surfaces().remove(PAIR.0);
    let mut record = samples::facts("pair", "pair_1", "acme").credential;
    let (publishable, secret) = (b"pk_live_x".as_slice(), b"sk_live_right".as_slice());
    let hash = sha256(secret);
    let second = Pepper::new(&[2; 32]).unwrap();
    let mut holds = |stored: Option<Fingerprint>, keys: KeyOrigin, with: &Peppers| {
        if let SurfaceKind::KeyPair(KeyPairSurface { keys: own, .. }) = &mut pair.kind {
            *own = keys;
        }
        record.secret_fingerprint = stored;
        pair.prove(Credential::Pair { publishable, secret }, None, Some(&record), with)
            .is_of_secret(&record)
    };
    let name = surfaces()[PAIR.0].name.clone();
    let generated = Some(second.fingerprint(&name, CredentialPart::Secret, secret));
    let imported = Some(second.fingerprint_of_sha256(&name, CredentialPart::Secret, &hash));
    let as_key = Some(second.fingerprint(&name, CredentialPart::Key, secret));
    assert!(holds(generated, KeyOrigin::Generated, &peppers(&[1, 2])));
    assert!(holds(generated, KeyOrigin::Imported, &peppers(&[2])));
    assert!(holds(imported, KeyOrigin::Imported, &peppers(&[1, 2, 3])));
    assert!(!holds(generated, KeyOrigin::Generated, &peppers(&[1])));
    assert!(!holds(imported, KeyOrigin::Generated, &peppers(&[2])));
    assert!(!holds(as_key, KeyOrigin::Imported, &peppers(&[2])));
    assert!(!holds(None, KeyOrigin::Imported, &peppers(&[2])));
    assert!(!holds(Some(Fingerprint::from_bytes([0; 32])), KeyOrigin::Imported, &peppers(&[2])));
}

#[test]
fn k5_without_a_record_the_answer_is_the_same_as_with_a_wrong_secret() {
    let case = Case::pair();
    let (publishable, secret) = (b"pk_live_x".as_slice(), b"sk_live_wrong".as_slice());
    let pair = Credential::Pair { publishable, secret };
    let absent = case.surfaces[PAIR.0].prove(pair, None, None, &peppers(&[1]));
    assert_eq!(absent, case.compare(b"sk_live_wrong"));
    assert_eq!(absent, Proof::NONE);
    let no_pair = case.surfaces[API.0].prove(Credential::Key(b"x"), None, None, &peppers(&[1]));
    assert_eq!(no_pair, Proof::NONE);
}

/// A key with a MAC, of this pepper.
fn marked(prefix: &str, pepper: u8) -> String {
    let key = GeneratedKey::mint_marked(prefix, 43, peppers(&[pepper]).first()).unwrap();
    key.expose().to_owned()
}

#[test]
fn a_key_with_a_mac_is_proven_under_every_pepper_and_forged_under_another() {
    let both = peppers(&[1, 2]);
    let of = |surface: &Surface, key: &str| provenance(surface, Credential::Key(key.as_bytes()), &both);
    let api = &surfaces()[API.0];
    assert_eq!(of(api, &marked("hlive_", 1)), Provenance::Proven);
    assert_eq!(
        of(api, &marked("hlive_", 2)),
        Provenance::Proven,
        "made before the pepper was changed"
    );
    assert_eq!(of(api, &marked("hlive_", 3)), Provenance::Forged);
    let older = GeneratedKey::mint("hlive_").unwrap();
    assert_eq!(of(api, older.expose()), Provenance::Unproven, "made before keys had a MAC");
    // Another gateway's keys may be imported here: theirs have a MAC that nobody here can check.
    assert_eq!(of(&imported(), &marked("l_", 1)), Provenance::Proven);
    assert_eq!(of(&imported(), &marked("l_", 3)), Provenance::Unproven);
    assert_eq!(of(&imported(), "l_made-elsewhere"), Provenance::Unproven);
}

#[test]
fn of_a_pair_the_publishable_half_tells_where_it_comes_from() {
    let (pair, one) = (&surfaces()[PAIR.0], peppers(&[1]));
    let of = |publishable: &str, secret: &str| {
        let (publishable, secret) = (publishable.as_bytes(), secret.as_bytes());
        provenance(pair, Credential::Pair { publishable, secret }, &one)
    };
    assert_eq!(of(&marked("pk_live_", 1), &marked("sk_live_", 9)), Provenance::Proven);
    assert_eq!(of(&marked("pk_live_", 9), &marked("sk_live_", 1)), Provenance::Forged);
}

#[test]
fn a_token_is_proven_by_its_signature() {
    let token = Credential::Jwt {
        token: b"a.b.c",
        origin: TokenOrigin::Header,
    };
    assert_eq!(provenance(&surfaces()[SESSION.0], token, &peppers(&[1])), Provenance::Proven);
}
