//! A change that was made and that the replicas did not confirm.

use crate::support::wait::{PATIENCE, until};

use super::scene::{Call, Kind, PASSWORD, Scene};

const ANN: &str = "ann@acme.example";

#[test]
fn a_log_in_that_no_replica_confirms_is_503_and_the_log_says_why() {
    let mut scene = Scene::open(Kind::Redis);
    scene.account(ANN, &[]);
    scene.log_in(ANN);
    scene.restart_near_with("wait_replicas = 1");
    let log_in = || Call::log_in(ANN, PASSWORD).send(&scene.near).status;
    assert_eq!(log_in(), 503);
    until("the reason", PATIENCE, || {
        let log = scene.near.output();
        String::from_utf8_lossy(&log).contains("0 of 1 replicas confirmed it").then_some(())
    });
}
