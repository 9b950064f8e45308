//! A log-in that waits for its turn to be hashed is judged again when its session is written: what
//! changed meanwhile counts.

use std::sync::mpsc;
use std::time::Instant;

use durward::base::clock;

use super::scene::{ALL, Call, Caller, Kind, PASSWORD, STORES, Scene, said, text, whole};
use crate::support::gateway::Gateway;
use crate::support::raw::{Client, Response};

const ANN: &str = "ann@acme.example";

/// Log-ins that are to wait, and tries to have all of them wait behind the others: the machine may be
/// busy with something else, so that the change comes too late.
const WAITING: usize = 6;
const ROUNDS: usize = 6;

/// Log-ins of others in front of them, in the first round and in the last. The places to wait are 48.
const FIRST: usize = 25;
const MOST: usize = 40;

/// Others, who log in with their right passwords, each from an address of its own, so that whoever
/// shares the places fairly has nobody to prefer.
const OTHERS: usize = 5;

/// An answer, and when it was here.
struct Told {
    at: Instant,
    answer: Response,
}

/// Log-ins on their way: those of the others, then Ann's.
struct Queue {
    fillers: Vec<mpsc::Receiver<Told>>,
    waiting: Vec<mpsc::Receiver<Told>>,
}

impl Queue {
    fn fill(gateway: &Gateway, fillers: usize) -> Self {
        let others = (0..fillers).map(|n| Call::log_in(&other(n % OTHERS), PASSWORD).from(&format!("198.51.100.{n}")));
        let fillers = others.map(|call| send(gateway, &call)).collect();
        let own = (0..WAITING).map(|n| Call::log_in(ANN, PASSWORD).from(&format!("203.0.113.{n}")));
        Self {
            fillers,
            waiting: own.map(|call| send(gateway, &call)).collect(),
        }
    }

    /// What Ann's were answered, in the order of their sending; the others are served in any case.
    fn answers(self) -> Vec<Told> {
        for other in self.fillers {
            let told = other.recv().expect("an answer");
            assert_eq!(told.answer.status, 200, "{}", whole(&told.answer));
        }
        self.waiting.into_iter().map(|one| one.recv().expect("an answer")).collect()
    }
}

/// Sends a call now, and waits for its answer on a thread of its own.
fn send(gateway: &Gateway, call: &Call) -> mpsc::Receiver<Told> {
    let mut client = Client::connect(gateway.address("public"));
    client.send(call.bytes().as_bytes());
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let answer = client.final_response_to("POST").expect("an answer");
        let _ = sender.send(Told {
            at: clock::instant(),
            answer,
        });
    });
    receiver
}

fn other(n: usize) -> String {
    format!("other{n}@globex.example")
}

/// A scene with Ann, whose scopes come from a role, and the others: her account and her role.
fn open(kind: Kind) -> (Scene, String, String) {
    let scene = Scene::open(kind);
    let role = scene.role("writer", &ALL);
    let account = scene.account(ANN, &["--role", &role]);
    scene.operator().json(&["tenants", "create", "globex"]);
    for n in 0..OTHERS {
        scene.account_of("globex", &other(n), &[]);
    }
    (scene, account, role)
}

/// How many sessions of this account were ever made and are not revoked.
fn sessions(scene: &Scene, account: &str) -> usize {
    let listed = scene.operator().json(&["sessions", "list", "--parent", account]);
    listed["sessions"].as_array().unwrap().len()
}

/// Fills the queue with log-ins, lets `change` happen, undoes it with `restore` and tries again until
/// all of Ann's were answered after the change was told to be done; answers what they were told. As many
/// sessions must have been made as were told of.
fn change_behind(scene: &Scene, account: &str, change: impl Fn(), restore: impl Fn()) -> Vec<Response> {
    for round in 0..ROUNDS {
        let before = sessions(scene, account);
        let queue = Queue::fill(&scene.near, FIRST + round * (MOST - FIRST) / (ROUNDS - 1));
        change();
        let done = clock::instant();
        let told = queue.answers();
        let late = told.iter().all(|one| one.at > done);
        let answers: Vec<Response> = told.into_iter().map(|one| one.answer).collect();
        let made = sessions(scene, account) - before;
        let opened = answers.iter().filter(|answer| answer.status == 200).count();
        assert_eq!(made, opened, "{:?}: sessions made and told of", scene.kind);
        if late {
            return answers;
        }
        eprintln!("round {round}: some were answered before the change was done; once more");
        restore();
    }
    panic!("the change never came in time");
}

fn assert_refused(scene: &Scene, answers: &[Response], status: u16, code: &str) {
    let refused = |answer: &&Response| answer.status == status && said(answer).contains(code);
    let wrong: Vec<String> = answers.iter().filter(|answer| !refused(answer)).map(whole).collect();
    assert!(wrong.is_empty(), "{:?}: not {status} {code}:\n{}", scene.kind, wrong.join("\n"));
}

#[test]
fn log_ins_that_wait_are_served_when_nothing_has_changed() {
    for kind in STORES {
        let (scene, _, _) = open(kind);
        let queue = Queue::fill(&scene.near, FIRST);
        for told in queue.answers() {
            assert_eq!(told.answer.status, 200, "{kind:?}: {}", whole(&told.answer));
            let session = Caller::session(&text(&told.answer.json(), "token"));
            assert_eq!(session.get(&scene.near, "/orders"), 200, "{kind:?}");
        }
    }
}

#[test]
fn an_old_password_that_waits_to_be_hashed_opens_no_session_after_the_new_one_is_confirmed() {
    for kind in STORES {
        let (scene, account, _) = open(kind);
        let set = ["accounts", "set-password", &account];
        let answers = change_behind(
            &scene,
            &account,
            || scene.confirmed(&set, "a-new-password-4711"),
            || scene.confirmed(&set, PASSWORD),
        );
        assert_refused(&scene, &answers, 401, "invalid_credentials");
        let now = Call::log_in(ANN, "a-new-password-4711").send(&scene.near);
        assert_eq!(now.status, 200, "the new one: {}", whole(&now));
    }
}

#[test]
fn an_old_password_that_waits_at_a_gateway_that_hears_nothing_opens_no_session() {
    let (scene, account, _) = open(Kind::Redis);
    scene.deafen();
    let set = ["accounts", "set-password", &account];
    let answers = change_behind(
        &scene,
        &account,
        || scene.acknowledged(&set, "a-new-password-4711"),
        || scene.acknowledged(&set, PASSWORD),
    );
    assert_refused(&scene, &answers, 401, "invalid_credentials");
}

#[test]
fn an_account_that_is_disabled_while_its_log_in_waits_gets_no_session() {
    for kind in STORES {
        let (scene, account, _) = open(kind);
        let answers = change_behind(
            &scene,
            &account,
            || scene.confirmed(&["accounts", "disable", &account], ""),
            || scene.confirmed(&["accounts", "enable", &account], ""),
        );
        assert_refused(&scene, &answers, 401, "invalid_credentials");
    }
}

#[test]
fn a_tenant_that_is_disabled_while_a_log_in_waits_gets_no_session() {
    for kind in STORES {
        let (scene, account, _) = open(kind);
        let answers = change_behind(
            &scene,
            &account,
            || scene.confirmed(&["tenants", "disable", "acme"], ""),
            || scene.confirmed(&["tenants", "enable", "acme"], ""),
        );
        assert_refused(&scene, &answers, 403, "closed");
    }
}

#[test]
fn a_role_that_is_narrowed_while_a_log_in_waits_narrows_its_session() {
    for kind in STORES {
        let (scene, account, role) = open(kind);
        let answers = change_behind(
            &scene,
            &account,
            || scene.confirmed(&["roles", "set", &role, "--scope", "keys:write"], ""),
            || scene.confirmed(&["roles", "set", &role, "--scope", ALL[0], "--scope", ALL[1]], ""),
        );
        for answer in answers {
            assert_eq!(answer.status, 200, "{kind:?}: the account may still log in: {}", whole(&answer));
            let session = Caller::session(&text(&answer.json(), "token"));
            assert_eq!(session.get(&scene.near, "/anything"), 200, "{kind:?}");
            assert_eq!(session.get(&scene.near, "/orders"), 403, "{kind:?}: it was taken while it waited");
        }
    }
}
