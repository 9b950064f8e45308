//! Which certificate a name gets.

use super::*;

fn key() -> Arc<CertifiedKey> {
    let made = rcgen::generate_simple_self_signed(["x.test".to_owned()]).unwrap();
    let der = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let signing = aws_lc_rs::sign::any_supported_type(&der).unwrap();
    Arc::new(CertifiedKey::new(vec![made.cert.der().clone()], signing))
}

fn set(names: &[&[&str]]) -> CertificateSet {
    let entry = |names: &&[&str]| (names.iter().map(|n| (*n).to_owned()).collect(), key());
    CertificateSet {
        entries: names.iter().map(entry).collect(),
    }
}

fn found(set: &CertificateSet, name: Option<&str>, usable: impl Fn(&CertifiedKey) -> bool) -> Option<usize> {
    let key = find_certificate(set, name, usable)?;
    set.entries.iter().position(|(_, k)| Arc::ptr_eq(k, key))
}

#[test]
fn exact_beats_wildcard_beats_default() {
    let set = set(&[&["default.test"], &["*.a.test"], &["x.a.test"]]);
    let any = |_: &CertifiedKey| true;
    assert_eq!(found(&set, Some("x.a.test"), any), Some(2));
    assert_eq!(found(&set, Some("y.a.test"), any), Some(1));
    assert_eq!(found(&set, Some("z.y.a.test"), any), Some(0), "a wildcard is for one label");
    assert_eq!(found(&set, Some("a.test"), any), Some(0));
    assert_eq!(found(&set, Some("unknown.test"), any), Some(0));
    assert_eq!(found(&set, None, any), Some(0));
    assert_eq!(found(&CertificateSet { entries: Vec::new() }, None, any), None);
}

#[test]
fn of_two_for_one_name_the_usable_one_is_taken() {
    let set = set(&[&["a.test"], &["a.test"]]);
    let second = Arc::clone(&set.entries[1].1);
    assert_eq!(found(&set, Some("a.test"), |key| std::ptr::eq(key, &*second)), Some(1));
    assert_eq!(found(&set, Some("a.test"), |_| false), Some(0));
}
