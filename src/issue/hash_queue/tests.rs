//! Turns, bounds and departures.

use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::*;

/// Those from 100 on are known.
fn flow(n: u8) -> Flow {
    let network = ClientNetwork::of(IpAddr::from([192, 0, 2, n % 100]));
    if n < 100 { Flow::Stranger(network) } else { Flow::Known(network) }
}

type Entering = Pin<Box<dyn Future<Output = Result<QueuePermit, QueueFull>>>>;

/// Somebody who asked, and what he was told so far.
struct Asker {
    flow: u8,
    entering: Option<Entering>,
    outcome: Option<Result<QueuePermit, QueueFull>>,
}

fn ask(queue: &FairQueue, n: u8) -> Asker {
    let queue = queue.clone();
    let mut asker = Asker {
        flow: n,
        entering: Some(Box::pin(async move { queue.enter(flow(n)).await })),
        outcome: None,
    };
    asker.look();
    asker
}

impl Asker {
    /// Looks whether there is an answer.
    fn look(&mut self) {
        let Some(entering) = &mut self.entering else { return };
        if let Poll::Ready(outcome) = entering.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            self.outcome = Some(outcome);
            self.entering = None;
        }
    }

    fn has_place(&mut self) -> bool {
        self.look();
        matches!(self.outcome, Some(Ok(_)))
    }

    fn is_refused(&mut self) -> bool {
        self.look();
        matches!(self.outcome, Some(Err(QueueFull)))
    }
}

/// Gives the place of `holder` back and says which flow has it next.
fn pass_on(holder: Asker, waiting: &mut Vec<Asker>) -> (Asker, u8) {
    drop(holder);
    let at = waiting.iter_mut().position(Asker::has_place).expect("somebody waits");
    let next = waiting.remove(at);
    let flow = next.flow;
    (next, flow)
}

#[test]
fn networks_take_turns_however_long_their_lines_are() {
    let queue = FairQueue::new(1, 40);
    let mut holder = ask(&queue, 1);
    let mut waiting: Vec<Asker> = (0..10).map(|_| ask(&queue, 1)).collect();
    waiting.extend([ask(&queue, 2), ask(&queue, 2), ask(&queue, 3)]);
    let mut turns = Vec::new();
    for _ in 0..6 {
        let next;
        (holder, next) = pass_on(holder, &mut waiting);
        turns.push(next);
    }
    assert_eq!(turns, [1, 2, 3, 1, 2, 1]);
    drop(holder);
}

#[test]
fn one_network_holds_half_of_the_waiting_places() {
    let queue = FairQueue::new(1, 8);
    let _working = ask(&queue, 1);
    let mut line: Vec<Asker> = (0..4).map(|_| ask(&queue, 1)).collect();
    assert!(!line.iter_mut().any(Asker::is_refused));
    assert!(ask(&queue, 1).is_refused(), "the fifth");
    assert!(!ask(&queue, 2).is_refused(), "somebody else");
}

#[test]
fn whoever_has_many_waiting_is_refused_before_a_newcomer() {
    let queue = FairQueue::new(1, 4);
    let _working = ask(&queue, 1);
    let (mut first, mut second) = (ask(&queue, 1), ask(&queue, 1));
    let (mut third, mut fourth) = (ask(&queue, 2), ask(&queue, 3));
    assert_eq!(queue.waiting(), 4);
    let mut newcomer = ask(&queue, 4);
    assert!(second.is_refused(), "the last of the longest line");
    assert!(!newcomer.is_refused() && !first.is_refused() && !third.is_refused() && !fourth.is_refused());
    assert_eq!(queue.waiting(), 4);
    assert!(ask(&queue, 5).is_refused(), "now no line is longer than his would be");
    assert!(ask(&queue, 4).is_refused());
}

#[test]
fn a_flood_from_many_addresses_leaves_room_for_whoever_is_known() {
    let queue = FairQueue::new(1, 4);
    let _working = ask(&queue, 1);
    let mut flood: Vec<Asker> = (1..5).map(|n| ask(&queue, n)).collect();
    let mut known = ask(&queue, 101);
    assert!(!known.is_refused());
    assert_eq!(flood.iter_mut().filter_map(|one| one.is_refused().then_some(())).count(), 1);
    let mut beside = ask(&queue, 101);
    assert!(!beside.is_refused(), "his neighbour");
    assert!(ask(&queue, 101).is_refused(), "half of the room and no more");
    let (mut second, mut third) = (ask(&queue, 102), ask(&queue, 103));
    assert!(!second.is_refused() && !third.is_refused());
    assert_eq!(flood.iter_mut().filter_map(|one| one.is_refused().then_some(())).count(), 4);
    assert!(!known.is_refused() && !beside.is_refused());
    assert!(ask(&queue, 9).is_refused(), "a stranger takes nobody's room");
    let mut fourth = ask(&queue, 104);
    assert!(beside.is_refused() && !fourth.is_refused(), "the known share it fairly");
    assert_eq!(queue.waiting(), 4);
}

#[test]
fn a_stranger_takes_the_room_of_strangers_only() {
    let queue = FairQueue::new(1, 4);
    let _working = ask(&queue, 1);
    let (mut first, mut second) = (ask(&queue, 101), ask(&queue, 101));
    let (mut third, mut fourth) = (ask(&queue, 1), ask(&queue, 1));
    assert!(!ask(&queue, 2).is_refused());
    assert!(fourth.is_refused());
    assert!(!first.is_refused() && !second.is_refused() && !third.is_refused());
}

#[test]
fn whoever_leaves_gives_back_the_room_he_waited_in_and_the_place_he_was_given() {
    let queue = FairQueue::new(1, 2);
    let holder = ask(&queue, 1);
    let (leaver, mut patient) = (ask(&queue, 2), ask(&queue, 3));
    assert!(ask(&queue, 4).is_refused());
    drop(leaver);
    assert_eq!(queue.waiting(), 1);
    let mut late = ask(&queue, 4);
    drop(holder);
    assert!(patient.has_place());
    assert!(!late.has_place());
    drop(patient);
    assert!(late.has_place());
    drop(late);

    let holder = ask(&queue, 1);
    let (called, mut next) = (ask(&queue, 2), ask(&queue, 3));
    drop(holder);
    // The place is his, but he never looks and goes.
    drop(called);
    assert!(next.has_place());
    drop(next);
    assert!(ask(&queue, 1).has_place(), "nothing was lost on the way");
}

/// A generator of numbers, the same each time (Knuth's MMIX constants).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % n
    }
}

#[test]
fn whatever_happens_the_bounds_hold_no_place_is_lost_and_nobody_waits_beside_a_free_one() {
    for seed in 0..200 {
        let mut numbers = Numbers(seed);
        let (places, room) = (1 + numbers.below(3), 1 + numbers.below(9));
        let queue = FairQueue::new(places, room);
        let mut askers: Vec<Asker> = Vec::new();
        for step in 0..300 {
            match numbers.below(3) {
                0 if !askers.is_empty() => drop(askers.swap_remove(numbers.below(askers.len()))),
                _ => askers.push(ask(&queue, [0, 1, 2, 3, 101, 104][numbers.below(6)])),
            }
            askers.retain_mut(|asker| !asker.is_refused());
            let working = askers.iter_mut().filter_map(|asker| asker.has_place().then_some(())).count();
            let waiting = askers.len() - working;
            let of_one = |n: u8| askers.iter().filter(|a| a.flow == n && a.outcome.is_none()).count();
            let longest = [0, 1, 2, 3, 101, 104].map(of_one).into_iter().max().unwrap();
            let case = format!("seed {seed}, step {step}: {places} places, room for {room}");
            assert!(working <= places && waiting <= room && longest <= room.div_ceil(2), "{case}");
            assert_eq!(queue.waiting(), waiting, "{case}");
            assert!(waiting == 0 || working == places, "{case}: somebody waits beside a free place");
        }
        drop(askers);
        let all: Vec<bool> = (0..places).map(|_| ask(&queue, 1)).map(|mut asker| asker.has_place()).collect();
        assert_eq!(all, vec![true; places], "seed {seed}");
    }
}

#[test]
fn nobody_starves() {
    for seed in 0..50 {
        let mut numbers = Numbers(seed);
        let queue = FairQueue::new(1, 12);
        let mut holder = ask(&queue, 0);
        let mut crowd: Vec<Asker> = Vec::new();
        for _ in 0..5 {
            crowd.push(ask(&queue, u8::try_from(1 + numbers.below(4)).unwrap()));
        }
        crowd.push(ask(&queue, 9));
        let others = 5;
        let mut passed = 0;
        loop {
            let next;
            (holder, next) = pass_on(holder, &mut crowd);
            passed += 1;
            if next == 9 {
                break;
            }
            // As soon as somebody is served, two of the others come.
            for _ in 0..2 {
                crowd.push(ask(&queue, u8::try_from(1 + numbers.below(4)).unwrap()));
            }
            crowd.retain_mut(|asker| !asker.is_refused());
        }
        assert!(passed <= others, "seed {seed}: {passed} were served before");
        drop(holder);
    }
}
