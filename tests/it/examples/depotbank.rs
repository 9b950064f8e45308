//! `examples/depotbank`, a scheme of our own: lockers enrolled by codes, keys they change themselves, slips.

use serde_json::{Value, json};

use crate::support::gateway::{Gateway, run};
use crate::support::raw::Response;
use crate::support::site::Site;
use crate::support::upstream::Upstream;
use crate::support::wait::{PATIENCE, until};

use super::matrix::{Documented, Holder, try_all};
use super::{call, expect, site, text};

const PASSWORD: &str = "correct horse battery";

/// What the documentation says of each call a token or a key is for. The log-in takes a body.
const DOCUMENTED: [Documented; 14] = [
    (&["POST"], "/v1/desk/login", &["account"], &[]),
    (&["PUT"], "/v1/desk/password", &["desk"], &[]),
    (&["POST"], "/v1/codes", &["desk"], &["devices:enrol"]),
    (&["POST"], "/v1/devices", &["code"], &[]),
    (&["GET"], "/v1/devices", &["desk"], &["devices:enrol"]),
    (&["DELETE"], "/v1/devices/{id}", &["desk"], &["devices:enrol"]),
    (&["POST"], "/v1/slips", &["device"], &["boxes:lend"]),
    (&["GET"], "/v1/slips", &["device"], &["boxes:lend"]),
    (&["DELETE"], "/v1/slips/{id}", &["device"], &["boxes:lend"]),
    (&["GET"], "/v1/boxes/**", &["device"], &["boxes:read"]),
    (&["POST"], "/v1/pickup", &["slip"], &["boxes:open"]),
    (&["GET"], "/v1/depots/**", &["desk"], &[]),
    (&["POST"], "/v1/devices/rotate", &["device"], &[]),
    // The last: it ends the session and the codes.
    (&["POST"], "/v1/desk/logout", &["desk"], &[]),
];

struct House {
    upstream: Upstream,
    site: Site,
    gateway: Gateway,
}

impl House {
    fn open(edits: &[(&str, &str)]) -> Self {
        let upstream = Upstream::echoing();
        let site = site("depotbank", upstream.address, edits);
        let gateway = Gateway::start(&site);
        gateway.json(&["tenants", "create", "acme"]);
        let house = Self { upstream, site, gateway };
        house.account("ann@acme.example", &["--scope", "devices:enrol"]);
        house
    }

    fn account(&self, email: &str, more: &[&str]) {
        let mut args = vec!["accounts", "create", "--tenant", "acme", "--email", email];
        args.extend(more);
        let made = run(&self.site.config(), &args, format!("{PASSWORD}\n").as_bytes());
        assert_eq!(made.code, 0, "{made:?}");
    }

    fn log_in(&self, email: &str, password: &str) -> Response {
        let body = json!({ "email": email, "password": password }).to_string();
        call(&self.gateway, "POST", "/v1/desk/login", &[], &body)
    }

    fn desk(&self) -> String {
        text(&self.log_in("ann@acme.example", PASSWORD), "token")
    }

    fn bearer(&self, method: &str, path: &str, token: &str, body: &str) -> Response {
        call(&self.gateway, method, path, &[("Authorization", &format!("Bearer {token}"))], body)
    }

    fn code(&self, desk: &str, depot: &str) -> String {
        let made = self.bearer("POST", "/v1/codes", desk, &json!({ "depot": depot }).to_string());
        let shape = json!({ "id": "~key_", "code": "~dbc_", "depot": depot, "expires_at": "~time" });
        expect(&made, 201, &[], &shape);
        text(&made, "code")
    }

    fn enrol(&self, code: &str, name: &str) -> Response {
        let body = json!({ "name": name }).to_string();
        call(&self.gateway, "POST", "/v1/devices", &[("X-Enrolment-Code", code)], &body)
    }

    /// A new locker: id and key.
    fn device(&self, desk: &str, depot: &str) -> (String, String) {
        let made = self.enrol(&self.code(desk, depot), "locker");
        expect(&made, 201, &[], &json!({ "id": "~key_", "device_key": "~dbd_", "depot": depot }));
        (text(&made, "id"), text(&made, "device_key"))
    }

    fn by_device(&self, method: &str, path: &str, key: &str, body: &str) -> Response {
        call(&self.gateway, method, path, &[("X-Device-Key", key)], body)
    }

    fn slip(&self, device: &str, boxed: &str) -> (String, String) {
        let made = self.by_device("POST", "/v1/slips", device, &json!({ "box": boxed }).to_string());
        let shape = json!({ "id": "~key_", "slip": "~dbs_", "box": boxed, "expires_at": "~time" });
        expect(&made, 201, &[], &shape);
        (text(&made, "id"), text(&made, "slip"))
    }

    fn boxes(&self, device: &str) -> u16 {
        self.by_device("GET", "/v1/boxes/7", device, "").status
    }

    fn pickup(&self, slip: &str) -> u16 {
        self.bearer("POST", "/v1/pickup", slip, "").status
    }
}

fn refusal(code: &str, text: &str) -> Value {
    json!({ "problem": code, "text": text })
}

const INVALID: (&str, &str) = ("www-authenticate", "Bearer realm=\"api\", error=\"invalid_token\"");

/// What answers of the log-in have besides.
const LIMITED: [(&str, &str); 2] = [("ratelimit-policy", "\"address\";q=60;w=60"), ("ratelimit", "~")];

fn expect_not_you(response: &Response) {
    expect(response, 401, &[INVALID], &refusal("not_you", "What was shown does not open this."));
}

fn expect_no_log_in(response: &Response) {
    let fields = [INVALID, LIMITED[0], LIMITED[1]];
    expect(response, 401, &fields, &refusal("not_you", "What was shown does not open this."));
}

#[test]
fn a_locker_is_enrolled_lends_a_box_and_the_service_sees_which() {
    let house = House::open(&[]);
    let logged = house.log_in("Ann@Acme.example", PASSWORD);
    expect(&logged, 200, &LIMITED, &json!({ "token": "~jwt", "expires_at": "~time" }));
    expect_no_log_in(&house.log_in("ann@acme.example", "wrong horse battery"));
    expect_no_log_in(&house.log_in("bob@acme.example", PASSWORD));
    let desk = text(&logged, "token");
    let (id, device) = house.device(&desk, "north");
    house.upstream.forget();
    assert_eq!(house.boxes(&device), 200);
    let seen = &house.upstream.requests()[0];
    assert_eq!(
        (seen.all("x-depot"), seen.all("x-scopes")),
        (vec!["north"], vec!["boxes:lend boxes:read"])
    );
    assert_eq!(seen.all("x-device-key"), Vec::<&str>::new());
    let (_, slip) = house.slip(&device, "box-7");
    house.upstream.forget();
    assert_eq!(house.pickup(&slip), 200);
    assert_eq!(house.upstream.requests()[0].all("x-box"), ["box-7"]);

    let listed = house.bearer("GET", "/v1/devices", &desk, "");
    let last4 = &device[device.len() - 4..];
    let item = json!({ "id": id, "name": "locker", "depot": "north", "last4": last4, "expires_at": null });
    expect(&listed, 200, &[], &json!({ "data": [item] }));
    assert_eq!(house.bearer("DELETE", &format!("/v1/devices/{id}"), &desk, "").status, 204);
    assert_eq!((house.boxes(&device), house.pickup(&slip)), (401, 401), "its slips end with it");

    let fields = json!({ "problem": "wrong_fields", "text": "Some fields are wrong.",
        "fields": { "box": ["The box field is required."], "expires_in": ["The expires in field must not be greater than 1800."] } });
    let (_, other) = house.device(&desk, "south");
    let wrong = house.by_device("POST", "/v1/slips", &other, r#"{"expires_in":1801}"#);
    expect(&wrong, 422, &[], &fields);
    assert_eq!(
        house
            .by_device("POST", "/v1/slips", &other, r#"{"box":"b","expires_in":1800}"#)
            .status,
        201
    );
}

#[test]
fn a_locker_reaches_its_own_slips_and_those_of_no_other() {
    let house = House::open(&[]);
    let desk = house.desk();
    let ((_, north), (_, south)) = (house.device(&desk, "north"), house.device(&desk, "south"));
    let (id, slip) = house.slip(&north, "box-1");
    let (other_id, other) = house.slip(&south, "box-2");
    let list = |device: &str| house.by_device("GET", "/v1/slips", device, "");
    expect(&list(&north), 200, &[], &json!({ "data": [{ "id": id, "box": "box-1" }] }));
    expect(&list(&south), 200, &[], &json!({ "data": [{ "id": other_id, "box": "box-2" }] }));
    let end = |device: &str, id: &str| house.by_device("DELETE", &format!("/v1/slips/{id}"), device, "");
    expect(&end(&south, &id), 404, &[], &refusal("not_there", "It is not there."));
    assert_eq!(house.pickup(&slip), 200);
    expect(&end(&north, &id), 204, &[], &Value::Null);
    assert_eq!((house.pickup(&slip), house.pickup(&other)), (401, 200));
    expect(&list(&north), 200, &[], &json!({ "data": [] }));
}

#[test]
fn a_locker_changes_its_key_and_the_old_one_goes_on_for_the_grace_and_no_longer() {
    let house = House::open(&[("grace = \"1h\"", "grace = \"3s\"")]);
    let desk = house.desk();
    let (old_id, old) = house.device(&desk, "north");
    let (_, slip) = house.slip(&old, "box-1");
    let rotated = house.by_device("POST", "/v1/devices/rotate", &old, "");
    expect(&rotated, 201, &[], &json!({ "id": "~key_", "device_key": "~dbd_" }));
    let (id, new) = (text(&rotated, "id"), text(&rotated, "device_key"));
    assert_ne!((&id, &new), (&old_id, &old));
    assert_eq!((house.boxes(&old), house.boxes(&new), house.pickup(&slip)), (200, 200, 200));
    let depots: Vec<_> = house.upstream.requests().iter().map(|seen| seen.all("x-depot").concat()).collect();
    assert_eq!(
        depots,
        ["north", "north", ""],
        "its claims are the old one's, and none are the slip's"
    );
    until("the end of the grace", PATIENCE, || (house.boxes(&old) == 401).then_some(()));
    assert_eq!((house.boxes(&new), house.pickup(&slip)), (200, 401), "its slips end with it");
    let (_, slip) = house.slip(&new, "box-1");
    assert_eq!(house.pickup(&slip), 200);
}

#[test]
fn the_shipped_grace_is_an_hour_and_a_key_in_grace_makes_none_that_outlives_it() {
    let house = House::open(&[]);
    let (_, old) = house.device(&house.desk(), "north");
    let before = jiff::Timestamp::now();
    let new = text(&house.by_device("POST", "/v1/devices/rotate", &old, ""), "id");
    let again = text(&house.by_device("POST", "/v1/devices/rotate", &old, ""), "id");
    let ends = |id: &str| house.gateway.json(&["keys", "show", id])["expires_at"].clone();
    assert_eq!(ends(&new), Value::Null);
    let end: jiff::Timestamp = ends(&again).as_str().unwrap().parse().unwrap();
    let grace = end.as_second() - before.as_second();
    assert!((3_599..=3_660).contains(&grace), "{grace}");
}

#[test]
fn logging_out_ends_every_session_of_the_operator_and_his_codes_and_no_locker() {
    let house = House::open(&[]);
    house.account("eve@acme.example", &[]);
    let eve = text(&house.log_in("eve@acme.example", PASSWORD), "token");
    let (one, two) = (house.desk(), house.desk());
    let code = house.code(&one, "north");
    let (_, device) = house.device(&two, "north");
    let depot = |token: &str| house.bearer("GET", "/v1/depots/north", token, "").status;
    assert_eq!((depot(&one), depot(&two), depot(&eve)), (200, 200, 200));
    expect(&house.bearer("POST", "/v1/desk/logout", &one, ""), 204, &[], &Value::Null);
    assert_eq!((depot(&one), depot(&two), depot(&eve)), (401, 401, 200));
    expect_not_you(&house.enrol(&code, "late"));
    assert_eq!(house.boxes(&device), 200);
    assert_eq!(depot(&house.desk()), 200, "he logs in again");
}

#[test]
fn a_new_password_needs_the_present_one_and_ends_all_sessions() {
    let house = House::open(&[]);
    let (one, two) = (house.desk(), house.desk());
    let change = |token: &str, current: &str, new: &str| {
        let body = json!({ "current": current, "new": new }).to_string();
        house.bearer("PUT", "/v1/desk/password", token, &body)
    };
    let wrong = change(&one, "wrong horse battery", "another battery");
    assert_eq!(wrong.status, 422, "{:?}", wrong.json());
    assert_eq!(wrong.json()["fields"], json!({ "current": ["The selected current is invalid."] }));
    let short = change(&one, PASSWORD, "short");
    assert_eq!(
        short.json()["fields"],
        json!({ "new": ["The new field must be at least 10 characters."] })
    );
    let depot = |token: &str| house.bearer("GET", "/v1/depots/north", token, "").status;
    assert_eq!((depot(&one), depot(&two)), (200, 200));
    expect(&change(&one, PASSWORD, "another battery"), 204, &[], &Value::Null);
    assert_eq!((depot(&one), depot(&two)), (401, 401));
    expect_no_log_in(&house.log_in("ann@acme.example", PASSWORD));
    assert_eq!(house.log_in("ann@acme.example", "another battery").status, 200);
}

#[test]
fn only_the_documented_pairs_of_credential_and_route_are_admitted() {
    let house = House::open(&[("rate = \"60/1m\"", "rate = \"1000/1m\"")]);
    house.account("eve@acme.example", &[]);
    let eve = text(&house.log_in("eve@acme.example", PASSWORD), "token");
    let desk = house.desk();
    let (_, device) = house.device(&desk, "north");
    let (_, slip) = house.slip(&device, "box-1");
    let bare = house.gateway.create_key("device", "acme", &[])["key"].as_str().unwrap().to_owned();
    let holder = |name, surface, scopes, place, credential: &str| Holder {
        name,
        surface,
        scopes,
        shown: (place, credential.to_owned()),
    };
    let holders = [
        holder("a desk", "desk", &["devices:enrol"][..], 0, &desk),
        holder("a desk without scopes", "desk", &[], 0, &eve),
        holder("a code", "code", &[], 1, &house.code(&desk, "north")),
        holder("a locker", "device", &["boxes:lend", "boxes:read"], 2, &device),
        holder("a locker without scopes", "device", &[], 2, &bare),
        holder("a slip", "slip", &["boxes:open"], 0, &slip),
    ];
    let places = [("Authorization", "Bearer "), ("X-Enrolment-Code", ""), ("X-Device-Key", "")];
    let tally = try_all(&house.gateway, &house.site, &DOCUMENTED, &places, &holders);
    // A desk has eight of the eighteen calls, one without scopes the four that ask for none, a code one,
    // a locker seven, one without scopes one, a slip one.
    assert_eq!(tally.admitted, 8 + 4 + 1 + 7 + 1 + 1, "{tally:?}");
    assert_eq!(tally.admitted + tally.refused, 18 * (1 + 6 * 3));
    // An operator's password opens the log-in and nothing else.
    let body = json!({ "email": "ann@acme.example", "password": PASSWORD }).to_string();
    for (methods, path, surfaces, _) in DOCUMENTED {
        let status = call(
            &house.gateway,
            methods[0],
            &path.replace("{id}", "one").replace("**", "x"),
            &[],
            &body,
        )
        .status;
        assert_eq!(status, if surfaces == ["account"] { 200 } else { 401 }, "{path}");
    }
}
