//! Requests of every kind while the store fails at random: none is forwarded without its identity (docs/threats.md L2).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;

use crate::support::fault_proxy::{Door, Pushes, Way, Weather};
use crate::support::wait::{PATIENCE, pause, until};

use super::Dice;
use super::scene::{Caller, Scene, Which, scale};
use super::watch::Line;

/// Who asks, and what they may be told.
struct Asker {
    caller: Caller,
    allowed: &'static [u16],
}

fn askers(scene: &Scene) -> Vec<Asker> {
    let mut askers = Vec::new();
    for n in 0..6 {
        let tenant = format!("tenant-{n}");
        scene.operate(Which::Far, "/v1/tenants", &json!({ "id": tenant }));
        for _ in 0..3 {
            askers.push(Asker {
                caller: scene.key_of(&tenant),
                allowed: &[200, 503],
            });
        }
    }
    askers.push(Asker {
        caller: scene.session(),
        allowed: &[200, 503],
    });
    for _ in 0..4 {
        let revoked = scene.key();
        assert_eq!(scene.call(Which::Near, &revoked).status, 200);
        scene.revoke(&revoked);
        until("the revocation", PATIENCE, || {
            (scene.call(Which::Near, &revoked).status == 401).then_some(())
        });
        askers.push(Asker {
            caller: Caller {
                tenant: "nobody".to_owned(),
                ..revoked
            },
            allowed: &[401, 503],
        });
    }
    for _ in 0..4 {
        askers.push(Asker {
            caller: Caller::nobody(),
            allowed: &[401, 503],
        });
    }
    askers.push(Asker {
        caller: Caller {
            bearer: String::new(),
            ..Caller::nobody()
        },
        allowed: &[400, 401],
    });
    askers
}

/// Another weather, each kind in its turn, as it falls. Swapped answers come first: everybody is unknown then.
fn change(scene: &mut Scene, dice: &mut Dice, kept: &Arc<Mutex<Option<Vec<u8>>>>, turn: usize) {
    let silent = |dice: &mut Dice| if dice.roll(2) == 0 { Way::Silent } else { Way::Open };
    match (turn + 7) % 12 {
        0 => scene.proxy.refuse(),
        1 => scene.proxy.set(Weather {
            up: silent(dice),
            down: silent(dice),
            ..Weather::default()
        }),
        2 => scene.proxy.delay(Duration::from_millis(20 + dice.roll(400)), 1 + dice.roll(5)),
        3 => scene.proxy.lose_pushes(),
        4 => scene.proxy.cut_lookups(3),
        5 => scene
            .proxy
            .rewrite(|seen, _| seen.lookup.as_ref().map(|_| b"-LOADING x\r\n".to_vec())),
        6 => scene
            .proxy
            .rewrite(|seen, _| seen.lookup.as_ref().map(|_| b"*1000000000\r\n".to_vec())),
        7 => {
            // Everybody is answered with what somebody else asked for.
            let kept = Arc::clone(kept);
            scene.proxy.rewrite(move |seen, reply| {
                seen.lookup.as_ref()?;
                kept.lock().unwrap().replace(reply.to_vec())
            });
        }
        8 => scene.redis.pause(),
        9 => {
            scene.redis.kill();
            pause(Duration::from_millis(dice.roll(500)));
            scene.redis.revive();
        }
        10 => scene.proxy.set(Weather {
            door: Door::Shut,
            pushes: Pushes::Lost,
            ..Weather::default()
        }),
        _ => scene.proxy.sever(),
    }
}

#[test]
fn l2_whatever_the_store_does_nothing_is_forwarded_without_its_identity() {
    let requests = scale("DURWARD_TEST_CHAOS", 8_000);
    let seed = scale("DURWARD_TEST_SEED", 0x0513_5EED);
    let mut scene = Scene::with("max_age = \"2s\"\n");
    let askers = askers(&scene);
    scene.upstream.forget();
    let (left, done) = (AtomicU64::new(requests), AtomicBool::new(false));
    let told = [(); 6].map(|()| AtomicU64::new(0));
    let address = scene.near.address("plain");
    let mut changes = 0;
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..6)
            .map(|worker| {
                let (askers, left, told) = (&askers, &left, &told);
                scope.spawn(move || {
                    let mut dice = Dice::new(seed, worker);
                    let mut line = Line::to(address);
                    while left
                        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                        .is_ok()
                    {
                        let asker = dice.pick(askers);
                        let tick = line.ask(&asker.caller.request());
                        assert!(asker.allowed.contains(&tick.status), "{} was told {tick:?}", asker.caller.tenant);
                        told[usize::from(tick.status / 100)].fetch_add(1, Ordering::Relaxed);
                        pause(Duration::from_millis(dice.roll(12)));
                    }
                })
            })
            .collect();
        let mut dice = Dice::new(seed, 99);
        let kept = Arc::default();
        while !done.load(Ordering::Relaxed) {
            change(&mut scene, &mut dice, &kept, changes);
            changes += 1;
            pause(Duration::from_millis(50 + dice.roll(250)));
            scene.redis.resume();
            // Long enough, mostly, for the gateway to find its store again.
            if dice.roll(4) > 0 {
                scene.proxy.pass();
                pause(Duration::from_millis(dice.roll(3_000)));
            }
            done.store(clients.iter().all(std::thread::ScopedJoinHandle::is_finished), Ordering::Relaxed);
        }
    });
    let arrived = scene.assert_identities();
    let [_, _, passed, _, refused, unavailable] = told.map(AtomicU64::into_inner);
    eprintln!(
        "L2: seed {seed}: {requests} requests under {changes} changes of the store: {passed} times 200, {refused} refused, {unavailable} unavailable, \
         {arrived} arrived, 0 of them without their identity"
    );
    assert_eq!(arrived as u64, passed, "what was forwarded is what was answered");
    assert!(passed > 0 && refused > 0 && unavailable > 0 && changes > 3);
    assert!(scene.near.is_running());
}
