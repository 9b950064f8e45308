//! Fields as clients send them: odd names, credentials behind more than one space.

use serde_json::Value;

use super::*;
use crate::support::site::ROUTES;
use crate::support::wait::{PATIENCE, until};

/// The access line of a request id.
fn line(house: &House, id: &str) -> Value {
    until("the access line", PATIENCE, || {
        let output = String::from_utf8_lossy(&house.gateway.output()).into_owned();
        let line = output.lines().find(|line| line.contains(id))?;
        serde_json::from_str(line).ok()
    })
}

fn metric(house: &House, name: &str) -> String {
    let mut client = Client::connect(house.gateway.probes());
    client.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let body = client.response().unwrap().body;
    let text = String::from_utf8(body).unwrap();
    let line = text
        .lines()
        .find(|line| line.starts_with(name))
        .unwrap_or_else(|| panic!("{name} in {text}"));
    line.rsplit(' ').next().unwrap().to_owned()
}

#[test]
fn odd_names_arrive_by_default_and_what_is_left_out_is_told() {
    let odd = [("access_key", "k"), ("a.b", "1"), ("X-Plain", "1")];
    let names = |house: &House| {
        let requests = house.upstream.requests();
        let fields = requests.iter().flat_map(|r| r.fields.clone());
        fields
            .map(|(name, _)| name)
            .filter(|name| ["access_key", "a.b", "X-Plain", "X_Original_URL"].contains(&name.as_str()))
            .collect::<Vec<_>>()
    };
    let house = House::open(Upstream::echoing(), ROUTES, "");
    assert_eq!(house.reaches("/public/x", &odd).0.status, 200);
    assert_eq!(names(&house), ["access_key", "a.b", "X-Plain"]);
    let answer = house.reaches("/public/x", &[("X_Original_URL", "/admin")]).0;
    assert_eq!((answer.status, names(&house)), (200, vec![]));
    assert_eq!(line(&house, answer.field("x-request-id").unwrap())["dropped_fields"], 1);
    let (answer, targets) = house.reaches("/public/x", &[("X_Tenant_Id", "evil")]);
    assert_eq!((refusal(&answer), targets), ((400, "forged_header".to_owned()), vec![]));

    let house = House::open(Upstream::echoing(), ROUTES, "[limits]\nodd_names = \"drop\"\n");
    let answer = house.reaches("/public/x", &odd).0;
    assert_eq!((answer.status, names(&house)), (200, vec!["X-Plain".to_owned()]));
    assert_eq!(line(&house, answer.field("x-request-id").unwrap())["dropped_fields"], 2);
    assert_eq!(metric(&house, "durward_dropped_fields_total"), "2");

    let house = House::open(Upstream::echoing(), ROUTES, "[limits]\nodd_names = \"refuse\"\n");
    let (answer, targets) = house.reaches("/public/x", &odd);
    assert_eq!((refusal(&answer), targets), ((400, "malformed_request".to_owned()), vec![]));
    assert_eq!(house.reaches("/public/x", &[("X-Plain", "1")]).0.status, 200);
}

#[test]
fn a_word_that_odd_names_cannot_be_is_shown_where_it_stands() {
    let text = check(ROUTES, "[limits]\nodd_names = \"droop\"\n");
    assert!(text.contains("`odd_names` cannot be `droop`") && text.contains('^'), "{text}");
}
