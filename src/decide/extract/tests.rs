//! What extraction admits and refuses.

use proptest::prelude::*;

use super::*;
use crate::base::key::GeneratedKey;
use crate::decide::samples::{api_key, key_pair, prefixes, session, surface, token_rules};
use crate::decide::surface::{ApiKeySurface, Carrier, DEFAULT_RANDOM, KeyOrigin, SurfaceKind};

mod carriers;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const JWT: &str = "eyJhbGciOiJIUzI1NiJ9.e30.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Places of the surfaces below.
const API: usize = 0;
const DASHBOARD: usize = 1;
const PORTAL: usize = 2;
const ACCESS: usize = 3;
const PAIR: usize = 4;
const LEGACY: usize = 5;

/// One surface of every kind, sharing `Authorization` as far as the documented schemes do.
fn surfaces() -> Vec<Surface> {
    let header = |name: &str| Carrier::Header(name.into());
    let cookie = |name: &str| Carrier::Cookie(name.into());
    let rules = |kind| token_rules(SECRET, kind);
    vec![
        api_key("api", &[Carrier::BEARER], "htst_", "hlive_", KeyOrigin::Generated),
        session(
            "dashboard",
            &[Carrier::BEARER, cookie("__Host-session")],
            rules("dashboard"),
            "account",
        ),
        session("portal", &[header("x-portal-session"), Carrier::BEARER], rules("portal"), "access"),
        api_key(
            "access",
            &[header("x-access-token")],
            "htpk_test_",
            "htpk_live_",
            KeyOrigin::Generated,
        ),
        key_pair("pair"),
        surface(
            "legacy",
            SurfaceKind::ApiKey(ApiKeySurface {
                carriers: vec![header("x-legacy-key")],
                prefixes: prefixes(&[("lg-", None)]),
                keys: KeyOrigin::Imported,
                random: DEFAULT_RANDOM,
                claim_headers: Vec::new(),
            }),
        ),
    ]
}

fn fields(lines: &[(&str, &str)]) -> Fields {
    let mut fields = Fields::default();
    for (name, value) in lines {
        fields.push(name.as_bytes(), value.as_bytes());
    }
    fields
}

/// What extraction says: the surface and the shown credential, or the denial.
fn verdict(lines: &[(&str, &str)], accepted: &[usize]) -> Result<usize, Denial> {
    let accepted: Vec<_> = accepted.iter().map(|i| SurfaceIndex(*i)).collect();
    let found = extract(&fields(lines), &surfaces(), &accepted).map(|e| e.surface.0);
    if let Ok(surface) = found {
        assert!(accepted.contains(&SurfaceIndex(surface)), "only accepted surfaces are told");
    }
    found
}

fn key(prefix: &str) -> String {
    GeneratedKey::mint(prefix).unwrap().expose().to_owned()
}

fn bearer(text: &str) -> String {
    format!("Bearer {text}")
}

#[test]
fn each_credential_is_found_in_its_place_with_its_mode() {
    let (all, fields) = (surfaces(), |name: &str, value: &str| fields(&[(name, value)]));
    let live = key("hlive_");
    let head = fields("Authorization", &bearer(&live));
    let found = extract(&head, &all, &[SurfaceIndex(API)]).unwrap();
    assert_eq!((found.mode, found.credential), (Some(Mode::Live), Credential::Key(live.as_bytes())));

    let test = key("htst_");
    let head = fields("authorization", &format!("bEARER {test}"));
    assert_eq!(extract(&head, &all, &[SurfaceIndex(API)]).unwrap().mode, Some(Mode::Test));

    let head = fields("X-Portal-Session", JWT);
    let found = extract(&head, &all, &[SurfaceIndex(PORTAL)]).unwrap();
    let (token, origin) = (JWT.as_bytes(), TokenOrigin::Header);
    assert_eq!((found.mode, found.credential), (None, Credential::Jwt { token, origin }));

    let head = fields("Cookie", &format!("a=b; __Host-session={JWT}; c=d"));
    let found = extract(&head, &all, &[SurfaceIndex(DASHBOARD)]).unwrap();
    let origin = TokenOrigin::Cookie;
    assert_eq!(found.credential, Credential::Jwt { token, origin });

    assert_eq!(verdict(&[("x-legacy-key", "lg-anything:at/all+=")], &[LEGACY]), Ok(LEGACY));
}

#[test]
fn a_route_of_several_surfaces_tells_them_apart_by_prefix_and_shape() {
    let accepted = &[API, DASHBOARD, ACCESS];
    assert_eq!(verdict(&[("authorization", &bearer(&key("htst_")))], accepted), Ok(API));
    assert_eq!(verdict(&[("authorization", &bearer(JWT))], accepted), Ok(DASHBOARD));
    assert_eq!(verdict(&[("x-access-token", &key("htpk_live_"))], accepted), Ok(ACCESS));
}

#[test]
fn without_any_credential_it_is_missing() {
    for lines in [
        &[][..],
        &[("accept", "*/*"), ("cookie", "a=b")],
        &[("authorization", "Basic dXNlcjpwYXNz")],
        &[("authorization", "")],
        &[("authorization", "Bear")],
        &[("authorization", "Bearerx abc")],
        &[("x-other", "hlive_abc")],
    ] {
        assert_eq!(verdict(lines, &[API]), Err(Denial::MissingCredential), "{lines:?}");
    }
    for nothing in ["nothing-of-ours", "two words", ""] {
        let in_another_place = &[("x-legacy-key", nothing)];
        assert_eq!(verdict(in_another_place, &[API]), Err(Denial::MissingCredential), "{nothing:?}");
        assert_eq!(
            verdict(in_another_place, &[LEGACY]),
            Err(Denial::MalformedCredential),
            "{nothing:?}"
        );
    }
}

#[test]
fn a_credential_of_another_surface_is_told_as_such() {
    let (api, access) = (bearer(&key("hlive_")), key("htpk_live_"));
    for (lines, accepted) in [
        (&[("authorization", api.as_str())][..], PORTAL),
        (&[("authorization", &bearer(JWT))], API),
        (&[("authorization", &bearer(&access))], API),
    ] {
        assert_eq!(verdict(lines, &[accepted]), Err(Denial::WrongSurface), "{lines:?}");
    }
}

#[test]
fn a_credential_in_a_place_that_the_route_does_not_look_at_is_told_apart() {
    let (api, access) = (bearer(&key("hlive_")), key("htpk_live_"));
    for (lines, accepted) in [
        (&[("authorization", api.as_str())][..], LEGACY),
        (&[("x-portal-session", JWT)], API),
        (&[("x-portal-session", JWT)], DASHBOARD),
        (&[("x-access-token", access.as_str())], API),
        (&[("x-legacy-key", "lg-1")], API),
        (&[("x-api-key", "pk_live_x"), ("x-api-secret", "sk_live_x")], API),
    ] {
        assert_eq!(verdict(lines, &[accepted]), Err(Denial::MisplacedCredential), "{lines:?}");
    }
}

#[test]
fn k2_what_cannot_be_a_key_is_refused_before_any_look_up() {
    let good = key("hlive_");
    assert_eq!(verdict(&[("authorization", &bearer(&good))], &[API]), Ok(API));
    let mut wrong_sum = good.clone().into_bytes();
    wrong_sum[20] ^= 1;
    for bad in [
        String::from_utf8(wrong_sum).unwrap(),
        good[..good.len() - 1].into(),
        format!("{good}0"),
        "hlive_".into(),
        good.replace("hlive_", "htst_"),
        good.replacen("hlive_", "HLIVE_", 1),
        format!("x{good}"),
        format!("hlive_{}", "a".repeat(49)),
        format!("hlive_{}", "a".repeat(4_000)),
        format!("hlive_{}", "a".repeat(5_000)),
        "\u{e4}".repeat(20),
    ] {
        let refused = verdict(&[("authorization", &bearer(&bad))], &[API]);
        assert_eq!(refused, Err(Denial::MalformedCredential), "{bad}");
    }
}

#[test]
fn k2_imported_keys_need_no_checksum_but_a_form() {
    assert_eq!(verdict(&[("x-legacy-key", "lg-0")], &[LEGACY]), Ok(LEGACY));
    let longest = format!("lg-{}", "a".repeat(253));
    assert_eq!(verdict(&[("x-legacy-key", &longest)], &[LEGACY]), Ok(LEGACY));
    for bad in ["lg-", "lg-a\"b", "lg-a;b", "lg-a\\b", "lg-a%b", &format!("{longest}a")] {
        assert_eq!(
            verdict(&[("x-legacy-key", bad)], &[LEGACY]),
            Err(Denial::MalformedCredential),
            "{bad}"
        );
    }
}

#[test]
fn j12_a_token_surface_takes_three_parts_only() {
    assert_eq!(verdict(&[("x-portal-session", JWT)], &[PORTAL]), Ok(PORTAL));
    for bad in [
        "",
        "a.b",
        "a.b.c.d",
        "a.b.c.d.e",
        "a..c",
        "a.b.",
        "a.b.c=",
        "a.b.c+",
        &"a".repeat(4_097),
    ] {
        let refused = verdict(&[("x-portal-session", bad)], &[PORTAL]);
        assert_eq!(refused, Err(Denial::MalformedCredential), "{bad}");
        let refused = verdict(&[("cookie", &format!("__Host-session={bad}"))], &[DASHBOARD]);
        assert_eq!(refused, Err(Denial::MalformedCredential), "cookie {bad}");
    }
    let long = |n: usize| format!("a.b.{}", "c".repeat(n - 4));
    // How long a token may be says its surface, when it is verified.
    assert_eq!(verdict(&[("x-portal-session", &long(16_384))], &[PORTAL]), Ok(PORTAL));
    let cookie = |n| verdict(&[("cookie", &format!("__Host-session={}", long(n)))], &[DASHBOARD]);
    assert_eq!((cookie(4_096), cookie(4_097)), (Ok(DASHBOARD), Err(Denial::MalformedCredential)));
}

#[test]
fn k1_a_pair_is_both_halves_of_one_mode_in_their_places() {
    let (pk, sk) = (key("pk_live_"), key("sk_live_"));
    let both = [("x-api-key", pk.as_str()), ("X-Api-Secret", sk.as_str())];
    assert_eq!(verdict(&both, &[PAIR]), Ok(PAIR));
    let mut reversed = both;
    reversed.reverse();
    assert_eq!(verdict(&reversed, &[PAIR]), Ok(PAIR), "the order of fields means nothing");

    let head = fields(&both);
    let all = surfaces();
    let found = extract(&head, &all, &[SurfaceIndex(PAIR)]).unwrap();
    let (publishable, secret) = (pk.as_bytes(), sk.as_bytes());
    assert_eq!(
        (found.mode, found.credential),
        (Some(Mode::Live), Credential::Pair { publishable, secret })
    );

    let mixed = verdict(&[("x-api-key", &pk), ("x-api-secret", &key("sk_test_"))], &[PAIR]);
    assert_eq!(mixed, Err(Denial::WrongMode));
    for lines in [
        &[("x-api-key", pk.as_str())][..],
        &[("x-api-secret", sk.as_str())],
        &[("x-api-key", sk.as_str()), ("x-api-secret", pk.as_str())],
        &[("x-api-key", pk.as_str()), ("x-api-secret", pk.as_str())],
        &[("x-api-key", pk.as_str()), ("x-api-secret", "")],
        &[("x-api-key", pk.as_str()), ("x-api-secret", &sk[..sk.len() - 1])],
        &[("x-api-key", &pk[..pk.len() - 1]), ("x-api-secret", sk.as_str())],
    ] {
        assert_eq!(verdict(lines, &[PAIR]), Err(Denial::MalformedCredential), "{lines:?}");
    }
}

#[test]
fn k1_every_refusal_of_a_pair_looks_alike_from_outside() {
    let rows = [
        Denial::MalformedCredential,
        Denial::WrongMode,
        Denial::WrongSecret,
        Denial::UnknownCredential,
    ]
    .map(Denial::row);
    assert!(
        rows.iter()
            .all(|r| (r.status, r.code, r.message) == (rows[0].status, rows[0].code, rows[0].message))
    );
}

#[test]
fn a_surface_pinned_to_one_mode_takes_no_key_of_the_other() {
    let mut all = surfaces();
    all[API].mode = Some(Mode::Test);
    let found = |prefix: &str| {
        let head = fields(&[("authorization", &bearer(&key(prefix)))]);
        extract(&head, &all, &[SurfaceIndex(API)]).map(|e| e.mode)
    };
    assert_eq!(found("htst_"), Ok(Some(Mode::Test)));
    assert_eq!(found("hlive_"), Err(Denial::WrongMode));
}

#[test]
fn the_longest_prefix_decides_whose_a_key_is() {
    let carriers = [Carrier::Header("x-key".into())];
    let nested = |name, text| {
        surface(
            name,
            SurfaceKind::ApiKey(ApiKeySurface {
                carriers: carriers.to_vec(),
                prefixes: prefixes(&[(text, None)]),
                keys: KeyOrigin::Imported,
                random: DEFAULT_RANDOM,
                claim_headers: Vec::new(),
            }),
        )
    };
    let all = [nested("short", "k_"), nested("long", "k_live_")];
    let head = fields(&[("x-key", "k_live_1")]);
    let accepts = |i| extract(&head, &all, &[SurfaceIndex(i)]).map(|e| e.surface.0);
    assert_eq!(accepts(1), Ok(1));
    assert_eq!(accepts(0), Err(Denial::WrongSurface));
}

#[test]
fn k7_debug_of_what_was_extracted_shows_no_secret() {
    let (all, sk) = (surfaces(), key("sk_live_"));
    let head = fields(&[("x-api-key", &key("pk_live_")), ("x-api-secret", &sk)]);
    let shown = format!("{:?}", extract(&head, &all, &[SurfaceIndex(PAIR)]).unwrap());
    assert!(shown.contains("Pair") && !shown.contains(&sk[8..16]));
}

proptest! {
    /// Whatever the fields hold, extraction answers, and what it admits is of an accepted surface.
    #[test]
    fn any_fields_are_judged(
        lines in proptest::collection::vec((
            prop_oneof![
                Just("authorization"), Just("cookie"), Just("x-api-key"), Just("x-api-secret"), Just("x-portal-session"), Just("x-legacy-key"), Just("accept"),
            ],
            prop_oneof![
                "\\PC{0,40}", Just(JWT.to_owned()), Just(bearer(JWT)), Just(format!("__Host-session={JWT}")), "[Bb]earer [a-z_,. ]{0,60}", "lg-[a-z]{0,9}",
            ],
        ), 0..5),
        accepted in proptest::collection::vec(0_usize..6, 0..4),
    ) {
        let lines: Vec<_> = lines.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let _ = verdict(&lines, &accepted);
    }
}
