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

type Answer = Result<Account, (Fault, String)>;

fn account(primary: &str, promotable: &[&str]) -> Answer {
    Ok(Account {
        primary: Endpoint::parse(primary).unwrap(),
        promotable: promotable.iter().map(|host| Peer::new(host, 6379).unwrap()).collect(),
    })
}

fn failed(line: &str) -> Answer {
    let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
    let fault = Fault::of(&value.extract_error().unwrap_err());
    let why = fault.error.to_string();
    Err((fault, why))
}

fn away() -> Answer {
    failed("LOADING")
}

fn outcome(answers: Vec<Answer>) -> Result<String, String> {
    let primary = Endpoint::parse("a:1").unwrap();
    let mut tally = Tally::new(answers.len(), &primary);
    answers.into_iter().for_each(|answer| tally.count(answer));
    tally.outcome().map(|wanted| wanted.to_string())
}

#[test]
fn what_any_of_a_majority_could_promote_counts() {
    let union = outcome(vec![account("a:1", &["b"]), account("a:1", &["b", "c"]), away()]);
    assert_eq!(union.as_deref(), Ok("b:6379, c:6379"));
    assert_eq!(outcome(vec![account("a:1", &[]), away(), account("a:1", &[])]).as_deref(), Ok(""));
    assert_eq!(outcome(vec![account("a:1", &["b"])]).as_deref(), Ok("b:6379"));
    // What another primary's replicas are says nothing of ours.
    let one_elsewhere = outcome(vec![account("a:1", &["b"]), account("a:1", &[]), account("z:1", &["d"])]);
    assert_eq!(one_elsewhere.as_deref(), Ok("b:6379"));
}

#[test]
fn without_a_majority_that_names_our_primary_nobody_knows_and_why_is_said() {
    let why = |answers| outcome(answers).unwrap_err();
    let two_elsewhere = why(vec![account("a:1", &["b"]), account("z:1", &[]), account("z:1", &[])]);
    assert!(
        two_elsewhere.contains("1 of 3 sentinels name a:1") && two_elsewhere.contains("z:1"),
        "{two_elsewhere}"
    );
    let two_away = why(vec![account("a:1", &["b"]), away(), away()]);
    assert!(
        two_away.contains("1 of 3 sentinels said") && two_away.contains("2 must"),
        "{two_away}"
    );
    // Of two reasons the one that somebody can mend.
    let denied = "NOPERM User durward has no permissions to run the 'sentinel|replicas' command";
    let told = why(vec![away(), failed(denied), away()]);
    assert!(told.contains("sentinel|replicas"), "{told}");
    assert!(outcome(vec![account("a:1", &["b"]), away()]).is_err(), "half is no majority");
    assert!(outcome(Vec::new()).is_err());
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
