//! Forms of keys: what holds, and what does not.

use super::*;
use proptest::prelude::*;

#[test]
fn a_longer_key_holds_as_what_it_is_only() {
    for random in [43, 44, 62, 86, 128] {
        let key = GeneratedKey::mint_of("t", random).unwrap();
        let text = key.expose().as_bytes();
        assert_eq!(text.len(), 1 + random + CHECKSUM_LEN);
        assert!(text.iter().all(u8::is_ascii_alphanumeric));
        assert_eq!(shape_of(text, "t", random), Ok(KeyLayout::Unmarked));
        assert_eq!(shape_of(text, "t", random + 1), Err(KeyFormError::Length));
    }
    assert_eq!(
        GeneratedKey::mint_of("t", 0).unwrap().expose().len(),
        1 + 49,
        "never below 256 bits"
    );
}

#[test]
fn a_generated_key_holds_and_any_changed_character_does_not() {
    let key = GeneratedKey::mint("hlive_").unwrap();
    let text = key.expose();
    assert_eq!(text.len(), "hlive_".len() + 49);
    assert_eq!(checksum_holds(text.as_bytes(), "hlive_"), Ok(()));
    assert_eq!((key.prefix(), key.last4()), ("hlive_", &text[text.len() - 4..]));
    for at in "hlive_".len()..text.len() {
        let mut bad = text.as_bytes().to_vec();
        bad[at] = if bad[at] == b'a' { b'b' } else { b'a' };
        assert_eq!(checksum_holds(&bad, "hlive_"), Err(KeyFormError::Checksum), "at {at}");
    }
}

#[test]
fn each_part_of_the_form_is_checked() {
    let key = GeneratedKey::mint("htst_").unwrap();
    let text = key.expose();
    let refused = |text: &str| checksum_holds(text.as_bytes(), "htst_").unwrap_err();
    assert_eq!(refused(&text.replacen("htst_", "hlive_", 1)), KeyFormError::Prefix);
    assert_eq!(refused("htst"), KeyFormError::Prefix);
    assert_eq!(refused("htst_"), KeyFormError::Length);
    assert_eq!(refused(&format!("{text}0")), KeyFormError::Length);
    assert_eq!(refused(&text[..text.len() - 1]), KeyFormError::Length);
    assert_eq!(refused(&format!("htst_-{}", &text[6..])), KeyFormError::Alphabet);
}

#[test]
fn the_checksum_covers_the_prefix() {
    let key = GeneratedKey::mint("sk_test_").unwrap();
    let promoted = key.expose().replacen("test", "live", 1);
    assert_eq!(checksum_holds(promoted.as_bytes(), "sk_live_"), Err(KeyFormError::Checksum));
}

#[test]
fn base62_writes_the_whole_number() {
    let text_of = |mut number: Vec<u8>, digits| {
        let mut text = String::new();
        push_base62(&mut text, &mut number, digits);
        assert!(number.iter().all(|b| *b == 0), "the number is wiped");
        text
    };
    assert_eq!(text_of(vec![0; 32], 43), "0".repeat(43));
    assert_eq!(text_of(61_u32.to_be_bytes().to_vec(), 6), "00000z");
    assert_eq!(text_of(62_u32.to_be_bytes().to_vec(), 6), "000010");
    assert_eq!(text_of(u32::MAX.to_be_bytes().to_vec(), 6), "4gfFC3");
    assert_eq!(text_of(vec![0xff; 32], 43), "yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp1");
}

#[test]
fn k7_debug_of_a_key_shows_no_secret() {
    let pair = GeneratedPair::mint("pk_live_", "sk_live_").unwrap();
    let shown = format!("{pair:?}");
    assert!(shown.contains("sk_live_"));
    assert!(!shown.contains(&pair.secret.expose()[8..14]));
    assert!(!shown.contains(&pair.publishable.expose()[8..14]));
}

#[test]
fn ids_are_new_each_time_and_well_formed() {
    let ids: std::collections::BTreeSet<_> = (0..100).map(|_| mint_id(IdKind::Key, UnixMillis(1)).unwrap()).collect();
    assert_eq!(ids.len(), 100);
    assert!(ids.iter().all(|id| id.as_str().len() == 30 && id.as_str().starts_with("key_")));
    let tenants: std::collections::BTreeSet<_> = (0..100).map(|_| mint_tenant_id().unwrap()).collect();
    assert!(tenants.len() == 100 && tenants.iter().all(|id| id.as_str().len() == 26));
}

#[test]
fn ids_of_one_kind_are_in_order_the_newest_first() {
    const TODAY: i64 = 1_790_000_000_000;
    let times = [
        i64::MAX,
        COUNTED_TO,
        TODAY + 1_000,
        TODAY + 1,
        TODAY,
        TODAY - 1,
        1_700_000_000_000,
        1_000,
        0,
        i64::MIN,
    ];
    let ids = times.map(|at| mint_id(IdKind::Pair, UnixMillis(at)).unwrap().as_str().to_owned());
    for (newer, older) in ids.iter().zip(&ids[1..]).skip(1).take(7) {
        assert!(newer < older, "{newer} {older}");
    }
    assert!(ids[2..6].iter().all(|id| id.starts_with("pair_00")), "{ids:?}");
}

#[test]
fn the_id_of_a_provider_or_a_sign_on_shows_what_it_is() {
    let id = |kind| mint_id(kind, UnixMillis(1)).unwrap().as_str().to_owned();
    assert!(id(IdKind::Provider).starts_with("prv_"));
    assert!(id(IdKind::SignOn).starts_with("sgn_"));
}

#[test]
fn digits_of_generated_keys_are_not_skewed() {
    let mut counts = [0_u32; 256];
    for _ in 0..500 {
        // The first digit is bounded by 2^256 / 62^42, so it is left out.
        for digit in &GeneratedKey::mint("").unwrap().expose().as_bytes()[1..43] {
            counts[usize::from(*digit)] += 1;
        }
    }
    // 21,000 digits, 339 of each expected, standard deviation 18: seven of them either way.
    for digit in ALPHABET {
        let n = counts[usize::from(*digit)];
        assert!((211..=467).contains(&n), "{} occurs {n} times", char::from(*digit));
    }
}

fn peppers(bytes: &[u8]) -> Peppers {
    Peppers::new(bytes.iter().map(|byte| Pepper::new(&[*byte; 32]).unwrap()).collect()).unwrap()
}

fn marked(prefix: &str, random: usize, pepper: u8) -> GeneratedKey {
    GeneratedKey::mint_marked(prefix, random, peppers(&[pepper]).first()).unwrap()
}

/// The text with another last digit of its MAC, and the checksum that this text has.
fn with_another_mac(key: &str) -> String {
    let (beginning, last) = key[..key.len() - CHECKSUM_LEN].split_at(key.len() - CHECKSUM_LEN - 1);
    let mut text = format!("{beginning}{}", if last == "a" { 'b' } else { 'a' });
    let mut sum = checksum(text.as_bytes()).to_be_bytes();
    push_base62(&mut text, &mut sum, CHECKSUM_LEN);
    text
}

/// Keys of customers must hold for ever: what another implementation of HMAC and CRC makes of the same parts.
#[test]
fn the_parts_of_a_marked_key_are_what_is_documented() {
    let random = "0".repeat(43);
    let mut text = format!("acme_live_{random}");
    let mark = peppers(&[7]).first().mark(text.as_bytes());
    assert_eq!(mark, 0x02e3_bdb2_7563_a15c);
    push_base62(&mut text, &mut (mark % MACS).to_be_bytes(), MAC_LEN);
    let mut sum = checksum(text.as_bytes()).to_be_bytes();
    push_base62(&mut text, &mut sum, CHECKSUM_LEN);
    assert_eq!(text, format!("acme_live_{random}tq05j20kQsty"));
    assert_eq!(shape_of(text.as_bytes(), "acme_live_", 43), Ok(KeyLayout::Marked));
    assert!(mac_holds(text.as_bytes(), &peppers(&[7])));
}

#[test]
fn a_mac_holds_under_every_pepper_that_is_configured_and_under_no_other() {
    let key = marked("hlive_", 43, 1);
    let text = key.expose().as_bytes();
    assert_eq!(text.len(), "hlive_".len() + 55);
    assert_eq!(shape_of(text, "hlive_", 43), Ok(KeyLayout::Marked));
    for (configured, holds) in [
        (&[1_u8][..], true),
        (&[2, 1], true),
        (&[3, 2, 1], true),
        (&[2], false),
        (&[2, 3], false),
    ] {
        assert_eq!(mac_holds(text, &peppers(configured)), holds, "{configured:?}");
    }
}

#[test]
fn a_wrong_mac_with_a_right_checksum_has_the_form_and_does_not_hold() {
    let forged = with_another_mac(marked("hlive_", 43, 1).expose());
    assert_eq!(shape_of(forged.as_bytes(), "hlive_", 43), Ok(KeyLayout::Marked));
    assert!(!mac_holds(forged.as_bytes(), &peppers(&[1])));
}

#[test]
fn the_mac_covers_prefix_and_random_part() {
    let key = marked("sk_test_", 43, 1);
    for at in 0..key.expose().len() - CHECKSUM_LEN {
        let mut text = key.expose().as_bytes().to_vec();
        text[at] = if text[at] == b'a' { b'b' } else { b'a' };
        assert!(!mac_holds(&text, &peppers(&[1])), "at {at}");
    }
}

#[test]
fn an_older_key_is_told_by_its_length() {
    for random in [43, 62, 128] {
        let old = GeneratedKey::mint_of("t", random).unwrap();
        let new = marked("t", random, 1);
        assert_eq!(shape_of(old.expose().as_bytes(), "t", random), Ok(KeyLayout::Unmarked));
        assert_eq!(shape_of(new.expose().as_bytes(), "t", random), Ok(KeyLayout::Marked));
        assert_eq!(new.expose().len(), old.expose().len() + MAC_LEN);
        assert!(!mac_holds(old.expose().as_bytes(), &peppers(&[1])));
    }
}

proptest! {
    #[test]
    fn every_generated_key_passes_its_mac(prefix in "[a-z_]{0,32}", random in 43..128_usize, pepper in 0..3_u8) {
        let key = marked(&prefix, random, pepper);
        prop_assert_eq!(shape_of(key.expose().as_bytes(), &prefix, random), Ok(KeyLayout::Marked));
        prop_assert!(mac_holds(key.expose().as_bytes(), &peppers(&[0, 1, 2])));
    }

    #[test]
    fn k2_a_random_text_never_passes_the_mac(body in "[0-9A-Za-z]{55}") {
        let text = format!("hlive_{body}");
        prop_assert!(!mac_holds(text.as_bytes(), &peppers(&[0, 1, 2])));
    }

    #[test]
    fn any_bytes_have_no_mac_without_a_panic(text in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(!mac_holds(&text, &peppers(&[0])));
    }

    #[test]
    fn k2_random_keys_never_pass_the_prefilter(body in "[0-9A-Za-z]{49}") {
        prop_assert_eq!(checksum_holds(format!("hlive_{body}").as_bytes(), "hlive_"), Err(KeyFormError::Checksum));
    }

    #[test]
    fn any_bytes_are_judged_without_a_panic(text in proptest::collection::vec(any::<u8>(), 0..300), prefix in ".{0,10}") {
        let _ = checksum_holds(&text, &prefix);
    }
}
