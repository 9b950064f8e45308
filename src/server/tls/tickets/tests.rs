//! Who reads a ticket and who does not; and that nothing that a client sends does harm.

use std::time::Duration;

use rustls::crypto::aws_lc_rs::Ticketer;

use super::*;
use crate::base::clock::{ManualClock, Now, UnixMillis};

/// As rustls writes a session of TLS 1.3 (AES-256-GCM) for `a.test`.
const SESSION: &[u8] = b"\x01\x06a.test\x03\x04\x13\x02\x04psk!\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
/// As it writes one of TLS 1.2.
const SESSION_12: &[u8] = b"\x01\x06a.test\x03\x03\xc0\x2c\x04mstr\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// In the middle of a period.
const START: i64 = (80_000 * PERIOD as i64 + PERIOD as i64 / 2) * 1000;
const ONE_PERIOD: Duration = Duration::from_secs(PERIOD as u64);

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(Now {
        wall: UnixMillis(START),
        ..Now::default()
    }))
}

/// The listener of a gateway with these peppers.
fn gateway(peppers: &[u8], listener: &str, clock: &Arc<ManualClock>) -> SharedTicketer {
    let peppers = peppers.iter().map(|byte| Pepper::new(&[*byte; 32]).unwrap()).collect();
    let source = TicketKeySource {
        peppers: Peppers::new(peppers).unwrap(),
        clock: clock.clone(),
    };
    SharedTicketer::new(source, listener, Ticketer::new().unwrap())
}

#[test]
fn a_ticket_is_read_by_every_gateway_with_the_pepper_and_tells_nothing() {
    let (here, there) = (gateway(&[1], "public", &clock()), gateway(&[1], "public", &clock()));
    let ticket = here.encrypt(SESSION).unwrap();
    assert_eq!(there.decrypt(&ticket).as_deref(), Some(SESSION));
    assert_eq!(here.decrypt(&ticket).as_deref(), Some(SESSION), "it may be used again");
    assert!(!ticket.windows(4).any(|part| part == b"psk!" || part == b"a.te"));
    let other = here.encrypt(SESSION).unwrap();
    assert_ne!(ticket[NAME_LEN..NAME_LEN + NONCE_LEN], other[NAME_LEN..NAME_LEN + NONCE_LEN]);
    assert_eq!(ticket.len(), NAME_LEN + NONCE_LEN + SESSION.len() + AES_256_GCM_SIV.tag_len());
    assert_eq!((here.enabled(), here.lifetime()), (true, 21_600));
}

#[test]
fn d12_a_ticket_of_another_listener_or_another_pepper_is_not_read() {
    let clock = clock();
    let ticket = gateway(&[1], "public", &clock).encrypt(SESSION).unwrap();
    for (peppers, listener) in [(&[1], "admin"), (&[1], "publi"), (&[1], ""), (&[2], "public")] {
        assert_eq!(gateway(peppers, listener, &clock).decrypt(&ticket), None, "{peppers:?} {listener}");
    }
}

#[test]
fn the_first_pepper_makes_tickets_and_all_read_them() {
    let clock = clock();
    let (old, both) = (gateway(&[1], "public", &clock), gateway(&[2, 1], "public", &clock));
    assert_eq!(both.decrypt(&old.encrypt(SESSION).unwrap()).as_deref(), Some(SESSION));
    let ticket = both.encrypt(SESSION).unwrap();
    assert_eq!(gateway(&[2], "public", &clock).decrypt(&ticket).as_deref(), Some(SESSION));
    assert_eq!(old.decrypt(&ticket), None);
}

#[test]
fn a_ticket_is_read_in_its_period_and_the_ones_beside_it() {
    let times = clock();
    let reader = gateway(&[1], "public", &times);
    let step = |periods: i64| times.step_wall(UnixMillis(START + periods * i64::from(PERIOD) * 1000));
    let ticket = reader.encrypt(SESSION).unwrap();
    for (periods, good) in [(-2, false), (-1, true), (0, true), (1, true), (2, false), (1_000_000, false)] {
        step(periods);
        assert_eq!(reader.decrypt(&ticket).is_some(), good, "{periods}");
    }
    // The end of a period, to the millisecond.
    times.step_wall(UnixMillis(START + i64::from(PERIOD) * 1500 - 1));
    assert!(reader.decrypt(&ticket).is_some());
    times.advance(Duration::from_millis(1));
    assert!(reader.decrypt(&ticket).is_none());
}

#[test]
fn keys_are_derived_once_for_a_period_and_replaced_in_the_next() {
    let times = clock();
    let ticketer = gateway(&[1, 2], "public", &times);
    let before = ticketer.keys();
    assert!(Arc::ptr_eq(&before, &ticketer.keys()));
    assert_eq!(before.keys.len(), 6);
    let first = ticketer.encrypt(SESSION).unwrap();
    times.advance(ONE_PERIOD);
    let after = ticketer.keys();
    assert!(!Arc::ptr_eq(&before, &after) && Arc::ptr_eq(&after, &ticketer.keys()));
    assert_ne!(first[..NAME_LEN], ticketer.encrypt(SESSION).unwrap()[..NAME_LEN]);
}

/// Whoever got the pepper later could otherwise read what was recorded of TLS 1.2.
#[test]
fn k12_a_session_of_tls_1_2_is_never_under_a_shared_key() {
    let clock = clock();
    let (here, there) = (gateway(&[1], "public", &clock), gateway(&[1], "public", &clock));
    let mut others = vec![SESSION_12.to_vec(), Vec::new(), vec![0], vec![1], vec![1, 255, 3, 4]];
    // A name that looks like a version, and forms that rustls does not write today.
    others.push(b"\x01\x05\x03\x04\x13\x02x\x03\x03\xc0\x2c\x04mstr".to_vec());
    others.push(b"\x02\x03\x04\x13\x02\x04psk!".to_vec());
    others.push(b"\x00\x03\x04\xc0\x2c\x04mstr".to_vec());
    for session in others {
        let ticket = here.encrypt(&session).unwrap();
        assert!(here.keys().named(ticket.first_chunk().unwrap()).is_none());
        assert_eq!(there.decrypt(&ticket), None, "{}", session.escape_ascii());
        assert_eq!(here.decrypt(&ticket), Some(session), "it is resumed where it was made");
    }
    // Not even one that somebody made with the pepper is taken.
    let forged = here.keys().first().unwrap().seal(SESSION_12).unwrap();
    assert_eq!(here.decrypt(&forged), None);
    assert!(is_of_tls13(b"\x00\x03\x04\x13\x01"), "without a name");
}

#[test]
fn d12_what_was_changed_cut_or_invented_is_refused() {
    let ticketer = gateway(&[1], "public", &clock());
    let ticket = ticketer.encrypt(SESSION).unwrap();
    for at in 0..ticket.len() {
        let mut changed = ticket.clone();
        changed[at] ^= 1;
        assert_eq!(ticketer.decrypt(&changed), None, "bit {at}");
        assert_eq!(ticketer.decrypt(&ticket[..at]), None, "cut at {at}");
        assert_eq!(ticketer.decrypt(&ticket[at + 1..]), None, "from {}", at + 1);
    }
    let longer = [ticket.as_slice(), b"\0"].concat();
    assert_eq!(ticketer.decrypt(&longer), None);
    for length in [0, 1, NAME_LEN, 44, MAX_TICKET, MAX_TICKET + 1, 1 << 16] {
        assert_eq!(ticketer.decrypt(&vec![0xff; length]), None, "{length}");
        // Behind the name of a key that is there.
        let named = [&ticket[..NAME_LEN], &vec![0; length]].concat();
        assert_eq!(ticketer.decrypt(&named), None, "{length}");
    }
}

#[test]
fn what_is_too_long_gets_no_ticket() {
    let ticketer = gateway(&[1], "public", &clock());
    let room = MAX_TICKET - NAME_LEN - NONCE_LEN - AES_256_GCM_SIV.tag_len();
    let session = |length: usize| [SESSION, &vec![0; length - SESSION.len()]].concat();
    let ticket = ticketer.encrypt(&session(room)).unwrap();
    assert_eq!(ticketer.decrypt(&ticket), Some(session(room)));
    assert_eq!(ticketer.encrypt(&session(room + 1)), None);
}

/// Gateways of two versions share tickets only if they derive the same keys: values of another implementation.
#[test]
fn keys_and_names_are_derived_in_one_way() {
    let pepper = Pepper::new(&[7; 32]).unwrap();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let key = TicketKey::derive(&pepper, "public", 80_000).unwrap();
    assert_eq!(hex(&key.name), "625f7c143f19c53dce4219d13229994a");
    assert_eq!(
        hex(&*pepper.sealing_key("session tickets\0public\080000")),
        "bcd734e3b2fef6524ba4cd77f013215bf74f532f6fc2cc25a28b22268ed5d8da"
    );
}

#[test]
fn nothing_secret_is_printed() {
    assert_eq!(
        format!("{:?}", gateway(&[1], "public", &clock())),
        "SharedTicketer { listener: \"public\", .. }"
    );
}

#[test]
fn the_entry_for_fuzzing_tells_a_changed_ticket_from_one_that_was_made() {
    for at in 0..200 {
        assert!(only_made_tickets_are_read(b"", at), "unchanged");
        for piece in [&b"x"[..], b"longer than a nonce", &[0; 2_000]] {
            assert!(only_made_tickets_are_read(piece, at), "{at}");
        }
    }
}
