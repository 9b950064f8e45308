//! Who could be promoted, by what sentinels and nodes of a cluster answer.

use super::*;

fn told(more: &[(&str, &str)]) -> HashMap<String, String> {
    let mut fields: HashMap<String, String> = [("ip", "10.0.0.2"), ("port", "6379"), ("flags", "slave"), ("slave-priority", "100")]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    fields.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    fields
}

#[test]
fn what_sentinel_would_never_promote_is_not_waited_for() {
    for never in [
        ("flags", "s_down,slave"),
        ("flags", "s_down,slave,disconnected"),
        ("flags", "slave,o_down"),
        ("slave-priority", "0"),
    ] {
        assert_eq!(promotable(&told(&[never])), Some(None), "{never:?}");
    }
    for might in [
        ("flags", "slave"),
        ("slave-priority", "1"),
        ("flags", "slave,disconnected"),
        ("master-link-status", "err"),
        ("flags", "slave,promoted"),
    ] {
        assert_eq!(promotable(&told(&[might])), Some(Peer::new("10.0.0.2", 6379)), "{might:?}");
    }
}

#[test]
fn f10_an_answer_of_a_sentinel_that_is_none_is_refused() {
    for wrong in [("port", "0"), ("port", "x"), ("ip", "")] {
        assert_eq!(promotable(&told(&[wrong])), None, "{wrong:?}");
    }
    for missing in ["ip", "port", "flags", "slave-priority"] {
        let mut fields = told(&[]);
        fields.remove(missing);
        assert_eq!(promotable(&fields), None, "{missing}");
    }
    let text = |text: &str| Value::BulkString(text.into());
    let primary = || Value::Array(vec![text("10.0.0.1"), text("6379")]);
    let read = |primary: Value, replicas: Value| Account::read(primary, replicas).map(|account| account.promotable.len());
    assert_eq!(read(primary(), Value::Array(vec![])), Some(0));
    assert_eq!(read(Value::Nil, Value::Array(vec![])), None);
    assert_eq!(read(primary(), Value::Nil), None);
    assert_eq!(read(primary(), Value::Array(vec![Value::Int(1)])), None);
    assert_eq!(
        read(primary(), Value::Array(vec![Value::Array(vec![text("ip"), text("10.0.0.2")])])),
        None
    );
}

fn node(host: Value, port: i64) -> Value {
    Value::Array(vec![
        host,
        Value::Int(port),
        Value::BulkString(b"id".to_vec()),
        Value::Array(Vec::new()),
    ])
}

fn named(host: &str, port: i64) -> Value {
    node(Value::BulkString(host.into()), port)
}

#[test]
fn the_replicas_of_our_slot_are_those_after_its_primary() {
    let range = |first, last, nodes: Vec<Value>| Value::Array([vec![Value::Int(first), Value::Int(last)], nodes].concat());
    let reply = Value::Array(vec![
        range(0, 99, vec![named("10.0.0.1", 1), named("10.0.0.4", 1)]),
        range(100, 199, vec![named("10.0.0.2", 1), named("10.0.0.5", 1), node(Value::Nil, 2)]),
        range(200, 299, vec![named("10.0.0.3", 1)]),
    ]);
    let shown = |slot| replicas_of(&reply, slot).map(|wanted| wanted.to_string());
    assert_eq!(shown(100).as_deref(), Some("10.0.0.5:1, ?:2"));
    assert_eq!(shown(200).as_deref(), Some(""));
    assert_eq!(shown(300), None, "nobody has it");
    for wrong in [
        Value::Nil,
        Value::Array(vec![Value::Int(1)]),
        Value::Array(vec![range(0, 9, vec![named("a", 1), Value::Nil])]),
        Value::Array(vec![range(0, 9, vec![named("a", 1), named("b", 70_000)])]),
        Value::Array(vec![range(0, 9, vec![named("a", 1), named("b", 0)])]),
    ] {
        assert_eq!(replicas_of(&wrong, 5), None, "{wrong:?}");
    }
}
