//! Holds the codec to its promise: what was written is read back, everything else is an error.

use proptest::prelude::*;

use super::*;
use crate::base::clock::BootMillis;
use crate::base::ids::{Subject, SurfaceName};
use crate::base::principal::{
    ClaimValue, CredentialRecord, CredentialState, Extras, Facts, IdentityLines, IdleTimeout, MAX_ROLES, MAX_SIGN_ON_SECRETS, Parent,
    PasswordHash, Position, Reading, RecordClaims, TenantRecord,
};
use crate::base::scope::Mode;

/// A record with every field in use.
pub(in crate::store) fn sample() -> CredentialRecord {
    CredentialRecord {
        id: CredentialId::parse("key_1").unwrap(),
        surface: SurfaceName::parse("api").unwrap(),
        tenant: TenantId::parse("acme").unwrap(),
        subject: Some(Subject::parse("client-7").unwrap()),
        mode: Some(Mode::Live),
        scopes: ["orders:read", "orders:write"].iter().map(|s| Scope::parse(s).unwrap()).collect(),
        state: CredentialState::Active,
        fingerprint: Fingerprint::from_bytes([3; 32]),
        secret_fingerprint: Some(Fingerprint::from_bytes([4; 32])),
        prefix: "hlive_".into(),
        last4: "wxyz".into(),
        name: Some("billing \"quoted\" ü".into()),
        created_at: UnixMillis(1_700_000_000_000),
        not_before: Some(UnixMillis(-1)),
        expires_at: Some(UnixMillis(i64::MAX)),
        valid_after: None,
        epoch: 1,
        pepper: None,
        extras: None,
    }
}

/// Facts of a record that hangs on nothing but its tenant, read when the clock and the store began.
pub(in crate::store) fn facts_of(credential: CredentialRecord) -> Facts {
    Facts {
        tenant: TenantRecord {
            id: credential.tenant.clone(),
            active: true,
            created_at: UnixMillis(0),
            epoch: 1,
        },
        credential,
        ancestors: Vec::new(),
        roles: Vec::new(),
        reading: Reading::new(BootMillis(0), Position(0)),
        lines: IdentityLines::default(),
    }
}

fn id() -> impl Strategy<Value = String> {
    "[A-Za-z0-9._:-]{1,128}"
}

fn time() -> impl Strategy<Value = Option<UnixMillis>> {
    proptest::option::of(any::<i64>().prop_map(UnixMillis))
}

fn state() -> impl Strategy<Value = CredentialState> {
    prop_oneof![
        Just(CredentialState::Active),
        Just(CredentialState::Disabled),
        any::<i64>().prop_map(|at| CredentialState::Revoked { at: UnixMillis(at) }),
    ]
}

prop_compose! {
    fn extras()(
        parent in proptest::option::of((id(), id())),
        roles in proptest::collection::btree_set(id(), 0..MAX_ROLES),
        claims in proptest::collection::btree_map("[a-z_]{1,20}", claim(), 0..4),
        idle in proptest::option::of((any::<u64>(), any::<i64>())),
        account in proptest::option::of(("\\PC{0,64}", "\\$[a-z0-9$]{0,90}")),
        description in proptest::option::of("\\PC{0,64}"),
        granted in proptest::option::of(proptest::collection::vec("[a-z:.]{1,40}", 0..5)),
    ) -> Extras {
        let (login, password) = account.unzip();
        Extras {
            parent: parent.map(|(surface, id)| Parent {
                surface: SurfaceName::parse(&surface).unwrap(),
                id: CredentialId::parse(&id).unwrap(),
            }),
            roles: roles.iter().map(|role| RoleId::parse(role).unwrap()).collect(),
            claims: RecordClaims::new(claims).unwrap(),
            idle: idle.map(|(timeout, last_used)| IdleTimeout {
                timeout: std::time::Duration::from_millis(timeout),
                last_used: UnixMillis(last_used),
            }),
            login,
            password: password.map(|hash| PasswordHash::parse(&hash).unwrap()),
            granted: granted.map(|words| words.iter().map(|word| Scope::parse(word).unwrap()).collect()),
            description,
            settings: None,
        }
    }
}

fn claim() -> impl Strategy<Value = ClaimValue> {
    prop_oneof![
        "[!-~]([ -~]{0,30}[!-~])?".prop_map(ClaimValue::Text),
        proptest::collection::vec(id(), 0..5).prop_map(ClaimValue::List),
    ]
}

prop_compose! {
    fn credential()(
        ids in (id(), id(), id(), proptest::option::of(id())),
        mode in proptest::option::of(prop_oneof![Just(Mode::Test), Just(Mode::Live)]),
        scopes in proptest::collection::vec("[a-z:.]{1,40}", 0..20),
        state in state(),
        key in any::<[u8; 32]>(),
        secret in proptest::option::of(any::<[u8; 32]>()),
        texts in ("[ -~]{0,64}", "[ -~]{0,16}", proptest::option::of("\\PC{0,64}")),
        times in (any::<i64>(), time(), time(), time()),
        epoch in any::<u64>(),
        extras in extras(),
    ) -> CredentialRecord {
        CredentialRecord {
            id: CredentialId::parse(&ids.0).unwrap(),
            surface: SurfaceName::parse(&ids.1).unwrap(),
            tenant: TenantId::parse(&ids.2).unwrap(),
            subject: ids.3.map(|s| Subject::parse(&s).unwrap()),
            mode,
            scopes: scopes.iter().map(|s| Scope::parse(s).unwrap()).collect(),
            state,
            fingerprint: Fingerprint::from_bytes(key),
            secret_fingerprint: secret.map(Fingerprint::from_bytes),
            prefix: texts.0,
            last4: texts.1,
            name: texts.2,
            created_at: UnixMillis(times.0),
            not_before: times.1,
            expires_at: times.2,
            valid_after: times.3,
            epoch,
            pepper: None,
            extras: extras.boxed(),
        }
    }
}

proptest! {
    #[test]
    fn every_credential_is_read_back_as_it_was_written(record in credential()) {
        let bytes = encode_credential(&record).unwrap();
        prop_assert_eq!(decode_credential(&bytes).unwrap(), record);
    }

    #[test]
    fn every_tenant_is_read_back_as_it_was_written(id in id(), active: bool, at: i64, epoch: u64) {
        let record = TenantRecord {
            id: TenantId::parse(&id).unwrap(),
            active,
            created_at: UnixMillis(at),
            epoch,
        };
        prop_assert_eq!(decode_tenant(&encode_tenant(&record).unwrap()).unwrap(), record);
    }

    #[test]
    fn random_bytes_are_errors_and_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(decode_credential(&bytes).is_err());
        prop_assert!(decode_tenant(&bytes).is_err());
        prop_assert!(decode_event(&bytes).is_err());
    }
}

#[test]
fn a_sign_on_may_keep_sealed_texts_and_no_other_record_may() {
    let record = |surface: &str, length: usize| {
        let mut record = CredentialRecord {
            surface: SurfaceName::parse(surface).unwrap(),
            ..sample()
        };
        record.extras_mut().settings = Some("a".repeat(length).into());
        record
    };
    let kept = record("sign_on", MAX_SIGN_ON_SECRETS);
    assert_eq!(decode_credential(&encode_credential(&kept).unwrap()).unwrap(), kept);
    for other in [
        record("sign_on", MAX_SIGN_ON_SECRETS + 1),
        record("session", 1),
        record("provider", 1),
    ] {
        assert_eq!(encode_credential(&other), Err(CodecError::Field("settings")), "{}", other.surface);
    }
    let mut without = record("sign_on", 1);
    without.extras_mut().settings = None;
    assert!(encode_credential(&without).is_ok(), "sign-ons by OpenID Connect keep nothing");
}

#[test]
fn a_record_cut_short_is_an_error() {
    let bytes = encode_credential(&sample()).unwrap();
    for cut in 0..bytes.len() {
        assert!(decode_credential(&bytes[..cut]).is_err(), "{cut} bytes were a record");
    }
}

#[test]
fn events_are_read_back_as_they_were_written() {
    for subject in [
        EventSubject::Tenant {
            id: TenantId::parse("acme").unwrap(),
        },
        EventSubject::Role {
            id: RoleId::of_name("admin"),
        },
        EventSubject::Credential {
            id: CredentialId::parse("key_1").unwrap(),
            fingerprints: vec![Fingerprint::from_bytes([1; 32]), Fingerprint::from_bytes([2; 32])],
        },
    ] {
        assert_eq!(decode_event(&encode_event(&subject).unwrap()).unwrap(), subject);
    }
    let crowded = EventSubject::Credential {
        id: CredentialId::parse("key_1").unwrap(),
        fingerprints: vec![Fingerprint::from_bytes([1; 32]); MAX_EVENT_FINGERPRINTS + 1],
    };
    assert_eq!(encode_event(&crowded), Err(CodecError::Field("fingerprints")));
}

/// Replaces `from` by `to` in the JSON of the sample and decodes that.
fn decode_with(from: &str, to: &str) -> Result<CredentialRecord, CodecError> {
    let bytes = encode_credential(&sample()).unwrap();
    // Head and JSON.
    let json = std::str::from_utf8(&bytes[1..]).unwrap();
    assert!(json.contains(from), "{from} is not in {json}");
    let mut changed = vec![VERSION];
    changed.extend(json.replacen(from, to, 1).into_bytes());
    decode_credential(&changed)
}

#[test]
fn f11_a_tampered_record_is_an_error() {
    for (from, to) in [
        ("-\n{", "key_0\n{"),
        ("-\n{", "- admin\n{"),
        ("-\n{", "{"),
        (r#""tenant":"acme""#, r#""tenant":"acme\r\nX-Scopes: admin""#),
        (r#""tenant":"acme""#, r#""tenant":"""#),
        (r#""tenant":"acme","#, ""),
        (r#""tenant":"acme""#, r#""tenant":"acme","tenant":"evil""#),
        (r#""id":"key_1""#, r#""id":"key 1""#),
        (r#""scopes":["#, r#""scopes":["a b","#),
        (r#""scopes":["#, r#""scopes":[7,"#),
        (r#""mode":"live""#, r#""mode":"LIVE""#),
        (r#""state":"active""#, r#""state":"admin""#),
        (r#""state":"active""#, r#""state":{"revoked":{}}"#),
        (r#""key":"03"#, r#""key":"0"#),
        (r#""key":"03"#, r#""key":"ZZ"#),
        (r#""last4":"wxyz""#, r#""last4":"\u001b[2J""#),
        (r#""prefix":"hlive_""#, r#""prefix":"a\nb""#),
        (r#""epoch":1"#, r#""epoch":-1"#),
        (r#""epoch":1"#, r#""epoch":1,"admin":true"#),
        (r#""epoch":1}"#, r#""epoch":1}{}"#),
    ] {
        let decoded = decode_with(from, to);
        assert!(decoded.is_err(), "{to} was read as {decoded:?}");
    }
    assert!(decode_with(r#""tenant":"acme""#, r#""tenant":"other""#).is_ok(), "the twin decodes");
}

#[test]
fn another_version_is_named_and_refused() {
    let mut bytes = encode_credential(&sample()).unwrap();
    bytes[0] = 1;
    assert_eq!(decode_credential(&bytes), Err(CodecError::Version(1)));
    assert_eq!(decode_credential(&[]), Err(CodecError::Empty));
}

#[test]
fn what_is_larger_than_the_cap_is_neither_written_nor_read() {
    let mut record = sample();
    record.scopes = (0..400).map(|i| Scope::parse(&format!("{i:0>100}")).unwrap()).collect();
    assert_eq!(encode_credential(&record), Err(CodecError::TooLarge));
    assert_eq!(decode_credential(&vec![VERSION; MAX_RECORD_BYTES + 1]), Err(CodecError::TooLarge));
    record.scopes = (0..100).map(|i| Scope::parse(&format!("{i:0>100}")).unwrap()).collect();
    assert!(encode_credential(&record).is_ok());
}

#[test]
fn a_text_that_could_forge_a_log_line_is_not_written() {
    let mut record = sample();
    record.name = Some("a\n{\"level\":\"info\"}".into());
    assert_eq!(encode_credential(&record), Err(CodecError::Field("name")));
    record.name = Some("x".repeat(MAX_NAME + 1));
    assert_eq!(encode_credential(&record), Err(CodecError::Field("name")));
    record.name = Some("x".repeat(MAX_NAME));
    assert!(encode_credential(&record).is_ok());
}

#[test]
fn an_error_never_repeats_the_value() {
    let error = decode_with(r#""epoch":1"#, r#""canary-4711":1"#).unwrap_err();
    assert!(!error.to_string().contains("canary"), "{error}");
    assert!(!format!("{error:?}").contains("canary"), "{error:?}");
}
