//! Rules of signed notes and checkpoints, with the published examples.

use super::*;

/// The example of C2SP `signed-note`.
const VKEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
const NOTE: &str = "This is an example message.\n\n\u{2014} example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";

/// The example of C2SP `tlog-checkpoint`.
const CHECKPOINT: &str = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n\u{2014} example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n";

fn signer() -> (tempfile::TempDir, CheckpointSigner) {
    let folder = tempfile::tempdir().unwrap();
    let signer = CheckpointSigner::open_or_create(&folder.path().join("audit.key"), "durward.audit/edge-1").unwrap();
    (folder, signer)
}

#[test]
fn the_example_of_signed_note_verifies() {
    let key = CheckpointVerifier::parse_key(VKEY).unwrap();
    assert_eq!(key.to_string(), VKEY);
    assert_eq!(key.verify_note(NOTE), Ok("This is an example message.\n"));
    assert_eq!(
        key.verify_note(&NOTE.replace("example message", "exemple message")),
        Err(InvalidCheckpoint::WrongSignature)
    );
    assert_eq!(
        key.verify_note(&NOTE.replace("example.com/foo", "example.com/bar")),
        Err(InvalidCheckpoint::NotSigned)
    );
    assert_eq!(key.verify(NOTE), Err(InvalidCheckpoint::NotACheckpoint));
}

#[test]
fn the_example_of_tlog_checkpoint_is_read() {
    let said = Checkpoint::parse_unverified(CHECKPOINT).unwrap();
    assert_eq!(
        (said.origin.as_str(), said.size, said.time),
        ("example.com/behind-the-sofa", 20_852_163, None)
    );
    assert_eq!(STANDARD.encode(said.root), "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=");
}

#[test]
fn what_is_signed_verifies_and_nothing_else_does() {
    let (_folder, signer) = signer();
    let note = signer.sign(256, &[7; 32], UnixMillis(1_764_399_600_123));
    let key = CheckpointVerifier::parse_key(&signer.verifier().to_string()).unwrap();
    let said = key.verify(&note).unwrap();
    assert_eq!(
        said,
        Checkpoint {
            origin: "durward.audit/edge-1".into(),
            size: 256,
            root: [7; 32],
            time: Some(UnixMillis(1_764_399_600_123)),
        }
    );
    assert_eq!(gateway_of(&said.origin), Some(GatewayId::parse("edge-1").unwrap()));
    // No flipped bit gives another checkpoint that verifies.
    for i in 0..note.len() {
        let mut bytes = note.clone().into_bytes();
        bytes[i] ^= 1;
        if let Ok(text) = String::from_utf8(bytes) {
            assert!(key.verify(&text).is_err(), "byte {i}");
        }
    }
    // Other signatures beside ours change nothing.
    let cosigned = format!("{note}\u{2014} witness.example {}\n", STANDARD.encode([9; 80]));
    assert_eq!(key.verify(&cosigned), Ok(said));
    let crowded = format!("{note}{}", format!("\u{2014} w.example {}\n", STANDARD.encode([9; 80])).repeat(16));
    assert_eq!(key.verify(&crowded), Err(InvalidCheckpoint::NotANote));
    let (_other_folder, other) = self::signer();
    assert_eq!(other.verifier().verify(&note), Err(InvalidCheckpoint::NotSigned));
}

#[test]
fn texts_that_are_no_checkpoints_are_refused() {
    let root = STANDARD.encode([7; 32]);
    for text in [
        String::new(),
        "\n".into(),
        "\n\n".into(),
        "origin\n1\n".into(),
        format!("origin\n1\n{root}\n"),
        format!("origin\n1\n{root}\n\n"),
        format!("origin\n01\n{root}\n\n{SIGNATURE}k AAAA\n"),
        format!("origin\n+1\n{root}\n\n{SIGNATURE}k AAAA\n"),
        format!("origin\n18446744073709551616\n{root}\n\n{SIGNATURE}k AAAA\n"),
        format!("origin\n1\nshort\n\n{SIGNATURE}k AAAA\n"),
        format!("\n1\n{root}\n\n{SIGNATURE}k AAAA\n"),
        format!("origin\r\n1\n{root}\n\n{SIGNATURE}k AAAA\n"),
        format!("origin\n1\n{root}\n\n{SIGNATURE}k AAAA"),
    ] {
        assert!(Checkpoint::parse_unverified(&text).is_err(), "{text:?}");
    }
    for key in [
        "",
        "a+b",
        "example.com/foo+530d903b+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/foo+530d903a+AukyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "exa mple+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
    ] {
        assert_eq!(CheckpointVerifier::parse_key(key), None, "{key}");
    }
}

#[test]
fn a_file_of_checkpoints_ends_at_the_last_whole_one() {
    let (_folder, signer) = signer();
    let all: Vec<String> = (1..4).map(|size| signer.sign(size, &[7; 32], UnixMillis(0))).collect();
    let file: String = all.iter().map(|note| format!("{note}\n")).collect();
    assert_eq!(notes(&file), (all.iter().map(String::as_str).collect(), file.len()));
    let whole = all[0].len() + all[1].len() + 2;
    for torn in whole..file.len() {
        if let Some(torn) = file.get(..torn) {
            assert_eq!(notes(torn), (vec![all[0].as_str(), all[1].as_str()], whole));
        }
    }
    assert_eq!(notes(""), (Vec::new(), 0));
    assert_eq!(notes("\n\n\n"), (Vec::new(), 0));
}

#[test]
fn the_key_is_made_once_and_for_its_owner_only() {
    let folder = tempfile::tempdir().unwrap();
    let (key, public) = (folder.path().join("audit.key"), folder.path().join("audit.pub"));
    let made = CheckpointSigner::open_or_create(&key, "durward.audit/edge-1").unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&key), 0o600);
    assert_eq!(std::fs::read_to_string(&public).unwrap(), format!("{}\n", made.verifier()));
    assert_eq!(&CheckpointVerifier::read(&public).unwrap(), made.verifier());
    let again = CheckpointSigner::open_or_create(&key, "durward.audit/edge-1").unwrap();
    assert_eq!(again.verifier(), made.verifier());
    assert!(!format!("{again:?}").contains("PRIVATE"));

    let failure = CheckpointSigner::open_or_create(&key, "durward.audit/edge-2").unwrap_err();
    assert!(matches!(failure, KeyError::Differs { .. }), "{failure}");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    let failure = CheckpointSigner::open_or_create(&key, "durward.audit/edge-1").unwrap_err();
    assert!(matches!(failure, KeyError::Open(_)), "{failure}");
    std::fs::remove_file(&key).unwrap();
    let failure = CheckpointSigner::open_or_create(&key, "durward.audit/edge-1").unwrap_err();
    assert!(matches!(failure, KeyError::Missing { .. }), "{failure}");
    assert!(!key.exists(), "no second key for the same trail");
}

#[test]
fn a_lost_public_half_is_written_again_and_a_foreign_one_refused() {
    let (folder, signer) = signer();
    let (key, public) = (folder.path().join("audit.key"), folder.path().join("audit.pub"));
    std::fs::remove_file(&public).unwrap();
    CheckpointSigner::open_or_create(&key, "durward.audit/edge-1").unwrap();
    assert_eq!(&CheckpointVerifier::read(&public).unwrap(), signer.verifier());
    std::fs::write(&public, VKEY).unwrap();
    let failure = CheckpointSigner::open_or_create(&key, "durward.audit/edge-1").unwrap_err();
    assert!(matches!(failure, KeyError::Differs { .. }), "{failure}");
    std::fs::write(&key, "not a key").unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let failure = CheckpointSigner::open_or_create(&key, "durward.audit/edge-1").unwrap_err();
    assert!(matches!(failure, KeyError::NotAKey(_)), "{failure}");
}
