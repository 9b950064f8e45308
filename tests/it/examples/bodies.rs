//! Bodies of served routes beyond flat texts: objects, numbers, truth values, free values, forms.

use serde_json::{Value, json};

use crate::support::gateway::Gateway;
use crate::support::raw::Response;
use crate::support::site::Site;
use crate::support::upstream::Upstream;

use super::house::text;
use super::{call, site};

const SESSION: &str = "[[routes]]\nname = \"clients-session\"";
const ORDERS: &str = r#"[[routes]]
name = "orders"
methods = ["POST"]
path = "/orders"
access = { surfaces = ["custodian"] }
serve = "mint"
forms = true

[routes.body]
urgent = { type = "boolean" }
rate = { type = "number", min = 1, max = 10 }
tags = { type = "list", required = false }
meta = { type = "any", required = false, max = 60, depth = 2 }
pin = { type = "secret", required = false }

[routes.body.buyer]
type = "object"
[routes.body.buyer.fields.name]
max = 20
[routes.body.buyer.fields.pin]
type = "secret"
required = false
[routes.body.buyer.fields.address]
type = "object"
required = false
fields = { city = {}, zip = { type = "integer", required = false } }

[[routes.mint]]
surface = "client_record"
name = "body.buyer.name"

[routes.answer]
status = 201
body = '{"body":{{ body }},"city":{{ body.buyer.address.city }},"name":{{ credential.name }}}'

"#;

fn open(edit: (&str, &str)) -> (Site, Gateway, String, Upstream) {
    let upstream = Upstream::echoing();
    let route = format!("{}{SESSION}", ORDERS.replace(edit.0, edit.1));
    let site = site("portal", upstream.address, &[(SESSION, &route)]);
    let gateway = Gateway::start(&site);
    gateway.json(&["tenants", "create", "acme"]);
    let key = text(&gateway.create_key("custodian", "acme", &["--mode", "live"]), "key");
    (site, gateway, key, upstream)
}

fn order(gateway: &Gateway, key: &str, media: &str, body: &str) -> Response {
    let bearer = format!("Bearer {key}");
    call(
        gateway,
        "POST",
        "/orders",
        &[("Authorization", &bearer), ("Content-Type", media)],
        body,
    )
}

fn details(answer: &Response) -> Value {
    assert_eq!(answer.status, 422, "{answer:?}");
    answer.json()["error"]["details"].clone()
}

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

#[test]
fn objects_numbers_truth_values_and_free_values_are_read_and_told_as_they_came() {
    let (_site, gateway, key, _upstream) = open(("", ""));
    let body = json!({
        "urgent": false, "rate": 1.5, "tags": ["b", "a"], "meta": {"any": [1, null]}, "pin": "1234",
        "buyer": {"name": "Ann", "pin": "9876", "address": {"city": "Ulm", "zip": 89073}},
    });
    let answer = order(&gateway, &key, JSON, &body.to_string());
    assert_eq!(answer.status, 201, "{answer:?}");
    let mut shown = body.clone();
    shown.as_object_mut().unwrap().remove("pin");
    shown["buyer"].as_object_mut().unwrap().remove("pin");
    assert_eq!(
        answer.json(),
        json!({"body": shown, "city": "Ulm", "name": "Ann"}),
        "but for secrets"
    );

    let least = r#"{"urgent":true,"rate":10,"buyer":{"name":"Ann"}}"#;
    let answer = order(&gateway, &key, JSON, least);
    assert_eq!(answer.json()["city"], Value::Null, "{answer:?}");
    assert_eq!(answer.json()["body"]["meta"], Value::Null);
}

#[test]
fn mistakes_are_told_by_path() {
    let (_site, gateway, key, _upstream) = open(("", ""));
    let told = |body: &str| details(&order(&gateway, &key, JSON, body));
    assert_eq!(
        told(r#"{"urgent":"yes","rate":0.5,"buyer":{"name":"","address":{"city":7,"zip":1.5,"land":"DE"}}}"#),
        json!({
            "urgent": ["The urgent field must be true or false."],
            "rate": ["The rate field must be at least 1."],
            "buyer.name": ["The buyer.name field is required."],
            "buyer.address.city": ["The buyer.address.city field must be a string."],
            "buyer.address.zip": ["The buyer.address.zip field must be an integer."],
            "buyer.address.land": ["The buyer.address.land field is not known."],
        })
    );
    let only = |meta: &str| format!(r#"{{"urgent":true,"rate":2,"buyer":{{"name":"Ann"}},"meta":{meta}}}"#);
    assert_eq!(order(&gateway, &key, JSON, &only("[[1]]")).status, 201);
    assert_eq!(
        told(&only("[[[1]]]")),
        json!({"meta": ["The meta field is not valid."]}),
        "too deep"
    );
    let long = format!("\"{}\"", "x".repeat(60));
    assert_eq!(
        told(&only(&long)),
        json!({"meta": ["The meta field must not be larger than 60 bytes."]})
    );
    assert_eq!(
        told(r#"{"urgent":true,"rate":"2","buyer":[]}"#),
        json!({"rate": ["The rate field must be a number."], "buyer": ["The buyer field must be an object."]})
    );
    assert_eq!(
        told(r#"{"urgent":true,"rate":2,"buyer":{"name":"Ann"},"buyer.address":{"city":"Ulm"}}"#),
        json!({"buyer.address": ["The buyer.address field is not known."]}),
        "a name with a dot is no path"
    );
    let twice = r#"{"urgent":true,"rate":2,"buyer":{"name":"Ann","name":"Bob"}}"#;
    assert_eq!(order(&gateway, &key, JSON, twice).status, 400);
}

#[test]
fn a_form_is_read_where_the_route_says_so() {
    let (_site, gateway, key, _upstream) = open(("", ""));
    let form = "urgent=true&rate=2.5&tags=b&tags=a&pin=1&buyer.name=Ann+M%C3%BCller&buyer.address.city=Ulm&buyer.address.zip=89073";
    let answer = order(&gateway, &key, FORM, form);
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(
        answer.json(),
        json!({
            "body": {
                "urgent": true, "rate": 2.5, "tags": ["b", "a"], "meta": null,
                "buyer": {"name": "Ann Müller", "address": {"city": "Ulm", "zip": 89073}},
            },
            "city": "Ulm", "name": "Ann Müller",
        })
    );
    assert_eq!(
        details(&order(&gateway, &key, FORM, "urgent=1&rate=x&buyer.name=Ann&buyer.role=admin")),
        json!({
            "urgent": ["The urgent field must be true or false."],
            "rate": ["The rate field must be a number."],
            "buyer.role": ["The buyer.role field is not known."],
        })
    );
    for bad in ["urgent=true&urgent=false", "rate=%zz", "buyer=x&buyer.name=y"] {
        assert_eq!(order(&gateway, &key, FORM, bad).status, 400, "{bad}");
    }
    for media in [
        "text/plain",
        "multipart/form-data",
        "application/x-www-form-urlencoded; charset=latin1",
    ] {
        assert_eq!(order(&gateway, &key, media, form).status, 415, "{media}");
    }
    let (_site, gateway, key, _upstream) = open(("forms = true\n", ""));
    assert_eq!(order(&gateway, &key, FORM, form).status, 415, "and nowhere else");
}

#[test]
fn unknown_fields_are_left_out_or_kept_where_the_route_says_so() {
    let body = r#"{"urgent":true,"rate":2,"buyer":{"name":"Ann","mood":"good"},"note":{"a":1}}"#;
    let shown = |choice: &str| {
        let line = format!("forms = true\nunknown_fields = \"{choice}\"\n");
        let (_site, gateway, key, _upstream) = open(("forms = true\n", &line));
        let answer = order(&gateway, &key, JSON, body);
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()["body"].clone()
    };
    let (ignored, kept) = (shown("ignore"), shown("keep"));
    assert_eq!((&ignored["note"], &ignored["buyer"]["mood"]), (&Value::Null, &Value::Null));
    assert!(ignored.get("note").is_none(), "{ignored}");
    assert_eq!((&kept["note"], &kept["buyer"]["mood"]), (&json!({"a": 1}), &json!("good")));
}
