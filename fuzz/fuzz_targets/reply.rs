//! Whatever a Redis server answers to a look-up: bounded before it is parsed, and never another one's facts.
#![no_main]

use std::fmt::Write as _;
use std::sync::Once;

use durward::base::fingerprint::Fingerprint;
use durward::store::redis::judge_bytes;
use libfuzzer_sys::fuzz_target;

/// What is asked for; the record of `record` below is its answer.
const ASKED: [u8; 32] = [0x11; 32];

/// A good answer, into which a piece of the input is put: from nothing the fuzzer would never find one.
fn answer_with(at: usize, piece: &[u8]) -> Vec<u8> {
    let key = Fingerprint::from_bytes(ASKED).to_hex();
    let record = format!(
        "\u{2}-\n{{\"id\":\"k\",\"surface\":\"s\",\"tenant\":\"t\",\"scopes\":[],\"state\":\"active\",\"key\":\"{key}\",\
         \"prefix\":\"\",\"last4\":\"\",\"created_at\":0,\"epoch\":1}}"
    );
    let tenant = "\u{2}{\"id\":\"t\",\"active\":true,\"created_at\":0,\"epoch\":1}";
    let mut reply = "*3\r\n".to_owned();
    for word in ["history", "7 1.2.7", "*5", &*key, tenant, "1", &record] {
        let _ = match word {
            "*5" => write!(reply, "*5\r\n"),
            word => write!(reply, "${}\r\n{word}\r\n", word.len()),
        };
    }
    reply.push_str("$-1\r\n");
    let mut bytes = reply.into_bytes();
    let at = at % (bytes.len() + 1);
    let end = (at + piece.len()).min(bytes.len());
    bytes.splice(at..end, piece.iter().copied());
    bytes
}

fuzz_target!(|bytes: &[u8]| {
    static SOUND: Once = Once::new();
    let asked = Fingerprint::from_bytes(ASKED);
    SOUND.call_once(|| assert!(judge_bytes(&asked, &answer_with(0, b"")).is_ok_and(|facts| facts.is_some())));
    let mut replies = vec![bytes.to_vec()];
    if let [high, low, piece @ ..] = bytes {
        replies.push(answer_with(usize::from(u16::from_be_bytes([*high, *low])), piece));
    }
    for reply in replies {
        match judge_bytes(&asked, &reply) {
            Ok(Some(facts)) => {
                let by_id = Fingerprint::of_id(&facts.credential.surface, &facts.credential.id);
                assert!(facts.credential.fingerprint == asked || by_id == asked);
                assert_eq!(facts.credential.tenant, facts.tenant.id);
                assert!(facts.ancestors.iter().all(|ancestor| ancestor.tenant == facts.tenant.id));
            }
            // Nobody is unknown by the answer to another question.
            Ok(None) => assert!(reply.windows(64).any(|word| word == asked.to_hex().as_bytes())),
            Err(_) => {}
        }
    }
});
