//! Whatever a Redis server answers to a look-up: bounded before it is parsed, and never another one's facts.
#![no_main]

use std::fmt::Write as _;
use std::sync::Once;

use durward::base::fingerprint::Fingerprint;
use durward::store::redis::judge_bytes;
use libfuzzer_sys::fuzz_target;

/// What is asked for; each record of `answer_with` answers one of them.
const ASKED: [[u8; 32]; 2] = [[0x11; 32], [0x12; 32]];

/// The good part of an answer to one look-up.
fn part(asked: &Fingerprint) -> String {
    let key = asked.to_hex();
    let record = format!(
        "\u{2}-\n{{\"id\":\"k\",\"surface\":\"s\",\"tenant\":\"t\",\"scopes\":[],\"state\":\"active\",\"key\":\"{key}\",\
         \"prefix\":\"\",\"last4\":\"\",\"created_at\":0,\"epoch\":1}}"
    );
    let tenant = "\u{2}{\"id\":\"t\",\"active\":true,\"created_at\":0,\"epoch\":1}";
    let mut part = "*5\r\n".to_owned();
    for word in [&*key, tenant, "1", &record] {
        let _ = write!(part, "${}\r\n{word}\r\n", word.len());
    }
    part + "$-1\r\n"
}

/// A good answer to all look-ups, into which a piece of the input is put: from nothing the fuzzer would never find one.
fn answer_with(asked: &[Fingerprint], at: usize, piece: &[u8]) -> Vec<u8> {
    let mut reply = format!("*{}\r\n$7\r\nhistory\r\n$7\r\n7 1.2.7\r\n", 2 + asked.len());
    reply.extend(asked.iter().map(part));
    let mut bytes = reply.into_bytes();
    let at = at % (bytes.len() + 1);
    let end = (at + piece.len()).min(bytes.len());
    bytes.splice(at..end, piece.iter().copied());
    bytes
}

fuzz_target!(|bytes: &[u8]| {
    static SOUND: Once = Once::new();
    let both = ASKED.map(Fingerprint::from_bytes);
    SOUND.call_once(|| {
        let found = judge_bytes(&both, &answer_with(&both, 0, b"")).expect("an answer");
        assert!(found.len() == 2 && found.iter().all(|found| matches!(found, Ok(Some(_)))));
    });
    for asked in [&both[..1], &both[..]] {
        check(asked, bytes);
        if let [high, low, piece @ ..] = bytes {
            check(asked, &answer_with(asked, usize::from(u16::from_be_bytes([*high, *low])), piece));
        }
    }
});

fn check(asked: &[Fingerprint], reply: &[u8]) {
    let Ok(found) = judge_bytes(asked, reply) else { return };
    assert_eq!(found.len(), asked.len());
    for (asked, found) in asked.iter().zip(found) {
        match found {
            Ok(Some(facts)) => {
                let by_id = Fingerprint::of_id(&facts.credential.surface, &facts.credential.id);
                assert!(facts.credential.fingerprint == *asked || by_id == *asked);
                assert_eq!(facts.credential.tenant, facts.tenant.id);
                assert!(facts.ancestors.iter().all(|ancestor| ancestor.tenant == facts.tenant.id));
            }
            // Nobody is unknown by the answer to another question.
            Ok(None) => assert!(reply.windows(64).any(|word| word == asked.to_hex().as_bytes())),
            Err(_) => {}
        }
    }
}
