//! A gateway killed while it serves changes leaves each of them whole or not begun: a rotation with its
//! grace, a password that ends sessions, a log-out everywhere.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::scene::{ALL, Call, Caller, Made, PASSWORD, STORES, Scene, text, whole};
use crate::support::gateway::Gateway;
use crate::support::raw::Response;

/// Kills for each store, each after another number of answers; 20 in `scripts/faults`.
fn kills() -> usize {
    std::env::var("DURWARD_TEST_KILLS").map_or(3, |n| n.parse().unwrap())
}

/// Answers until a kill: at least so many, and up to 35 more.
const ANSWERS: usize = 30;

/// When the gateway dies.
struct Fuse<'g> {
    gateway: &'g Gateway,
    answers: AtomicUsize,
    wanted: usize,
    gone: AtomicBool,
}

impl Fuse<'_> {
    /// Sends a call; `None` once the gateway was killed. The answer that is one too many kills it.
    fn call(&self, call: &Call) -> Option<Response> {
        if self.gone.load(Ordering::SeqCst) {
            return None;
        }
        let answer = call.try_send(self.gateway)?;
        if self.answers.fetch_add(1, Ordering::SeqCst) + 1 == self.wanted {
            self.gateway.signal(Signal::KILL);
            self.gone.store(true, Ordering::SeqCst);
        }
        Some(answer)
    }
}

/// Whether a change was answered, or had only been sent when the gateway died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    Answered,
    Sent,
}

// ---------------------------------------------------------------------------- rotation

/// A key that takes another one for itself, again and again: the keys it was told of.
fn rotate(fuse: &Fuse<'_>, first: Made) -> Vec<Made> {
    let mut keys = vec![first];
    while let Some(answer) = fuse.call(&keys.last().unwrap().caller().asks("POST", "/rotate", "")) {
        assert_eq!(answer.status, 201, "{}", whole(&answer));
        keys.push(Made::told(&answer.json()));
    }
    keys
}

/// Each key but the newest has been told its end, and the newest works.
fn assert_rotated(scene: &Scene, name: &str, told: &[Made]) {
    let listed = scene.operator().json(&["keys", "list", "--surface", "key"]);
    let own: Vec<&Value> = listed["keys"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|key| key["name"] == name)
        .collect();
    let endless = own.iter().filter(|key| key["expires_at"] == Value::Null).count();
    assert_eq!(endless, 1, "{name}: a key and its end, or neither: {own:#?}");
    assert!(
        (told.len()..=told.len() + 1).contains(&own.len()),
        "{name}: {} keys, {} told of",
        own.len(),
        told.len()
    );
    for key in told {
        assert_eq!(key.caller().get(&scene.near, "/orders"), 200, "{name}: within its grace");
    }
}

// ---------------------------------------------------------------------------- passwords

/// Whoever changes a password again and again, and logs in with it.
struct Changer {
    email: String,
    /// The one that is in force for certain, and the one that may have taken its place.
    passwords: [String; 2],
    session: Caller,
    last: Last,
}

fn change_passwords(fuse: &Fuse<'_>, email: String, session: Caller) -> Changer {
    let mut changer = Changer {
        email,
        passwords: [PASSWORD.to_owned(), String::new()],
        session,
        last: Last::Answered,
    };
    for n in 0.. {
        changer.passwords[1] = format!("password-number-{n}");
        let [current, new] = &changer.passwords;
        let body = json!({ "current": current, "new": new }).to_string();
        changer.last = Last::Sent;
        let Some(answer) = fuse.call(&changer.session.asks("PUT", "/password", &body)) else {
            break;
        };
        assert_eq!(answer.status, 204, "{}", whole(&answer));
        changer.last = Last::Answered;
        let Some(answer) = fuse.call(&Call::log_in(&changer.email, new)) else {
            break;
        };
        assert_eq!(answer.status, 200, "{}", whole(&answer));
        changer.passwords.swap(0, 1);
        changer.session = Caller::session(&text(&answer.json(), "token"));
    }
    changer
}

/// Exactly one password works, and the session from before lives exactly if that is the old one.
fn assert_changed(scene: &Scene, changer: &Changer) {
    let works = |password: &String| Call::log_in(&changer.email, password).send(&scene.near).status == 200;
    let [old, new] = [&changer.passwords[0], &changer.passwords[1]].map(works);
    let lives = changer.session.get(&scene.near, "/orders") == 200;
    assert!(
        old != new && lives == old,
        "{}: old {old}, new {new}, session {lives}",
        changer.email
    );
    assert!(changer.last == Last::Sent || new, "{}: answered and not done", changer.email);
}

// ---------------------------------------------------------------------------- log-out everywhere

/// Whoever logs in twice and out everywhere by the first session, again and again: the last two sessions.
fn log_out(fuse: &Fuse<'_>, email: &str, first: [Caller; 2]) -> ([Caller; 2], Last) {
    let mut sessions = first;
    loop {
        let Some(answer) = fuse.call(&sessions[0].asks("POST", "/log-out/everywhere", "")) else {
            return (sessions, Last::Sent);
        };
        assert_eq!(answer.status, 204, "{}", whole(&answer));
        for n in 0..2 {
            let Some(answer) = fuse.call(&Call::log_in(email, PASSWORD)) else {
                // The first of two may be a new one; what was ended is the other.
                let ended = sessions[1].clone();
                return ([ended.clone(), ended], Last::Answered);
            };
            assert_eq!(answer.status, 200, "{}", whole(&answer));
            sessions[n] = Caller::session(&text(&answer.json(), "token"));
        }
    }
}

fn assert_logged_out(scene: &Scene, sessions: &[Caller; 2], last: Last) {
    let lives = sessions.clone().map(|session| session.get(&scene.near, "/orders"));
    assert!(lives == [200, 200] || lives == [401, 401], "both or neither: {lives:?}");
    assert!(last == Last::Sent || lives == [401, 401], "answered and not done: {lives:?}");
}

// ---------------------------------------------------------------------------- all at once

/// A person of this round, with as many sessions as asked for.
fn person<const N: usize>(scene: &Scene, name: &str, kill: usize) -> (String, [Caller; N]) {
    let email = format!("{name}{kill}@acme.example");
    scene.account(&email, &["--scope", ALL[0], "--scope", ALL[1]]);
    let sessions = [(); N].map(|()| scene.log_in(&email));
    (email, sessions)
}

#[test]
fn a_killed_gateway_leaves_no_rotation_password_or_log_out_half_made() {
    for kind in STORES {
        let mut scene = Scene::open(kind);
        let mut answered = 0;
        for kill in 0..kills() {
            let names = [0, 1].map(|n| format!("line {n} of kill {kill}"));
            let keys = names.clone().map(|name| scene.key(&ALL, &["--name", &name]));
            let (changing, [session]) = person(&scene, "changing", kill);
            let (leaving, both) = person(&scene, "leaving", kill);
            let fuse = Fuse {
                gateway: &scene.near,
                answers: AtomicUsize::new(0),
                wanted: ANSWERS + kill % 6 * 7,
                gone: AtomicBool::new(false),
            };
            let (lines, changer, (sessions, last)) = std::thread::scope(|scope| {
                let fuse = &fuse;
                let lines = keys.map(|key| scope.spawn(move || rotate(fuse, key)));
                let changer = scope.spawn(move || change_passwords(fuse, changing, session));
                let leaver = scope.spawn(move || log_out(fuse, &leaving, both));
                (
                    lines.map(|line| line.join().unwrap()),
                    changer.join().unwrap(),
                    leaver.join().unwrap(),
                )
            });
            answered += fuse.answers.load(Ordering::SeqCst);
            scene.revive_near();
            for (name, told) in names.iter().zip(&lines) {
                assert_rotated(&scene, name, told);
            }
            assert_changed(&scene, &changer);
            assert_logged_out(&scene, &sessions, last);
        }
        assert!(answered >= ANSWERS * kills(), "{kind:?}: {answered} answers");
        eprintln!("{kind:?}: {} kills among {answered} changes and log-ins", kills());
    }
}
