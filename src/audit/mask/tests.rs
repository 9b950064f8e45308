//! Rules of masking: a secret never appears, and what is no secret stays readable.

use proptest::prelude::*;

use super::*;
use crate::base::key::GeneratedKey;
use crate::decide::samples::{api_key, key_pair};

const CARD: &str = "4111 1111 1111 1111";
const JWT: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJlLW9mLWEtdG9rZW4";

fn shapes() -> Arc<Shapes> {
    Arc::new(Shapes::of(&[
        api_key(
            "keys",
            &[Carrier::BEARER, Carrier::Header("x-portal-session".into())],
            "tkt_",
            "hlive_",
            KeyOrigin::Generated,
        ),
        api_key("old", &[Carrier::Header("x-old".into())], "o", "op", KeyOrigin::Imported),
        key_pair("pairs"),
    ]))
}

use crate::decide::surface::Carrier;

fn capture(mask: &[&str]) -> BodyCapture {
    let types = [
        "application/json",
        "application/x-ndjson",
        "application/x-www-form-urlencoded",
        "text/plain",
        "application/xml",
        "multipart/form-data",
    ];
    BodyCapture {
        max: 64 << 10,
        types: types.map(str::to_owned).to_vec(),
        mask: mask.iter().map(|pattern| (*pattern).to_owned()).collect(),
    }
}

/// Masks a body twice: what is remembered of its names changes nothing.
fn mask_body(content_type: &str, body: &[u8], capture: &BodyCapture, shapes: &Arc<Shapes>) -> Result<String, Withheld> {
    let mut memory = MaskMemory::default();
    let mut mask = || {
        let mut masked = String::new();
        let result = memory.mask(&BodyType::of(content_type, capture), body, capture, shapes, &mut masked);
        result.map(|()| masked)
    };
    let once = mask();
    assert_eq!(mask(), once);
    once
}

fn masked(content_type: &str, body: &str) -> String {
    match mask_body(content_type, body.as_bytes(), &capture(&["ssn", "card.*"]), &shapes()) {
        Ok(masked) => masked,
        Err(why) => panic!("{why:?}: {body}"),
    }
}

fn json(body: &str) -> String {
    masked("application/json", body)
}

fn text(body: &str) -> String {
    mask_text(body, &shapes()).into_owned()
}

#[test]
fn what_looks_like_a_secret_is_masked_in_texts_and_the_rest_stays() {
    let marked = GeneratedKey::mint("hlive_").unwrap();
    let foreign = GeneratedKey::mint("other_product_").unwrap();
    for secret in [
        CARD,
        "4111-1111-1111-1111",
        "4111111111111111",
        JWT,
        marked.expose(),
        foreign.expose(),
        "tkt_0123456789",
        "hlive_0123456789",
        "op0123456789abcdefgh~+/.x",
    ] {
        assert_eq!(text(secret), "***", "{secret}");
        assert_eq!(text(&format!("see {secret}, please")), "see ***, please");
    }
    for (plain, shown) in [
        ("Authorization: Bearer abcdefgh.ijkl", "Authorization: ***"),
        ("sent bearer abcdefghijkl!", "sent bearer ***!"),
        ("sent Basic dXNlcjpwYXNzd29yZA== x", "sent Basic *** x"),
        ("password=hunter2&x=1", "password=***&x=1"),
        ("password: hunter2, x", "password: ***, x"),
        ("{\"password\":\"hun\\\"ter2\",\"x\":1", "{\"password\":\"***\",\"x\":1"),
        ("{\"token\":{\"a\":\"}\",\"b\":[1]},\"x\":1", "{\"token\":***,\"x\":1"),
        ("<password>hunter2</password><a>b</a>", "<password>***</password><a>b</a>"),
        ("<n:clientSecret>hunter2</n:clientSecret>", "<n:clientSecret>***</n:clientSecret>"),
        ("Cookie: a=b; c=d\nnext", "Cookie: ***\nnext"),
        ("x-portal-session: abc", "x-portal-session: ***"),
        (
            "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\nx",
            "-----BEGIN PRIVATE KEY-----***\nx",
        ),
        ("pay%20with%204111%201111%201111%201111", "pay with ***"),
        ("a\\u0020password\\u003dhunter2", "a password=***"),
    ] {
        assert_eq!(text(plain), shown, "{plain}");
    }
    for plain in [
        "",
        "basic knowledge is enough, said the bearer",
        "at 2026-11-29T07:00:00Z: 12 of 13",
        "hlive_",
        "hlive_short",
        "https://example.com/a?b=c",
        "1764400000003",
        "eyJhbGciOiJIUzI1NiJ9",
        "4111111111111112",
        "100 % of C:\\data",
        "open",
    ] {
        assert_eq!(text(plain), plain);
    }
}

#[test]
fn a_key_with_a_checksum_is_found_whatever_characters_it_has() {
    for _ in 0..300 {
        let key = GeneratedKey::mint("other_").unwrap();
        assert_eq!(mask_text(key.expose(), &Shapes::default()), "***");
        let body = format!("[\"{}\"]", key.expose());
        let masked = mask_body("application/json", body.as_bytes(), &capture(&[]), &Arc::default());
        assert_eq!(masked.as_deref(), Ok("[\"***\"]"));
    }
}

#[test]
fn json_is_masked_by_names_patterns_and_shapes() {
    for (body, shown) in [
        (r#"{"password":"x","name":"y"}"#, r#"{"password":"***","name":"y"}"#),
        (
            r#"{ "newPassword" : null , "n" : [ 1 , 2.50 , true ] }"#,
            r#"{"newPassword":"***","n":[1,2.50,true]}"#,
        ),
        (r#"{"a":{"secret":{"b":[1,{"c":2}]}},"d":3}"#, r#"{"a":{"secret":"***"},"d":3}"#),
        (r#"{"pass\u0077ord":"x"}"#, r#"{"password":"***"}"#),
        (
            r#"{"card":{"number":"x","exp":1},"cards":2}"#,
            r#"{"card":{"number":"***","exp":"***"},"cards":2}"#,
        ),
        (r#"{"card":[{"number":"x"}]}"#, r#"{"card":[{"number":"***"}]}"#),
        (r#"{"a":{"SSN":7}}"#, r#"{"a":{"SSN":"***"}}"#),
        (r#"{"n":4111111111111111,"m":4.111111111111111e15}"#, r#"{"n":"***","m":"***"}"#),
        (r#"{"n":4111111111111112}"#, r#"{"n":4111111111111112}"#),
        (r#"{"t":"card 4111 1111 1111 1111!"}"#, r#"{"t":"card ***!"}"#),
        (r#"{"t":"\u0034111 1111 1111 1111"}"#, r#"{"t":"***"}"#),
        (r#"{"4111 1111 1111 1111":1}"#, r#"{"***":1}"#),
        (
            r#"{"t":"{\"password\":\"x\",\"a\":1}"}"#,
            r#"{"t":"{\"password\":\"***\",\"a\":1}"}"#,
        ),
        (r#"{"a":1,"a":2}"#, r#"{"a":1,"a":2}"#),
        (r#""\ud83d\ude00\n""#, "\"\u{1f600}\\n\""),
        (r#"4111111111111111"#, r#""***""#),
        ("", ""),
        (" null ", "null"),
    ] {
        assert_eq!(json(body), shown, "{body}");
        if !shown.is_empty() {
            serde_json::from_str::<serde_json::Value>(shown).unwrap();
        }
    }
    assert_eq!(
        masked("application/x-ndjson", "{\"pin\":1}\n\n{\"a\":2}\n"),
        "{\"pin\":\"***\"}\n{\"a\":2}\n"
    );
}

#[test]
fn what_is_remembered_of_names_holds_for_the_same_rules_only() {
    let mut memory = MaskMemory::default();
    let body = r#"{"number":"a","x":{"number":"b","":"c"},"session":{"number":"d"}}"#;
    let known = Arc::new(Shapes::of(&[api_key(
        "keys",
        &[Carrier::Header("session".into())],
        "t_",
        "a_",
        KeyOrigin::Imported,
    )]));
    let mut mask = |patterns: &[&str], shapes: &Arc<Shapes>| {
        let (capture, mut masked) = (capture(patterns), String::new());
        let body_type = BodyType::of("application/json", &capture);
        memory.mask(&body_type, body.as_bytes(), &capture, shapes, &mut masked).unwrap();
        masked
    };
    let plain = shapes();
    // More sets of rules than are remembered, and each of them again.
    for _ in 0..2 {
        for other in 0..=MAX_REMEMBERED {
            assert_eq!(mask(&[&format!("other{other}")], &plain), body);
        }
        assert_eq!(mask(&[], &plain), body);
        assert_eq!(
            mask(&["x.number"], &plain),
            r#"{"number":"a","x":{"number":"***","":"c"},"session":{"number":"d"}}"#
        );
        assert_eq!(
            mask(&["x.*"], &plain),
            r#"{"number":"a","x":{"number":"***","":"c"},"session":{"number":"d"}}"#
        );
        assert_eq!(mask(&["x"], &plain), r#"{"number":"a","x":"***","session":{"number":"d"}}"#);
        assert_eq!(
            mask(&["number"], &plain),
            r#"{"number":"***","x":{"number":"***","":"c"},"session":{"number":"***"}}"#
        );
        assert_eq!(mask(&[], &known), r#"{"number":"a","x":{"number":"b","":"c"},"session":"***"}"#);
    }
}

#[test]
fn forms_are_masked_decoded_and_the_rest_stays_as_it_was() {
    for (body, shown) in [
        (
            "password=x%20y&name=J%C3%BCrgen+M.&&empty=",
            "password=***&name=J%C3%BCrgen+M.&&empty=",
        ),
        ("pass%77ord=x", "pass%77ord=***"),
        ("note=my+4111+1111+1111+1111%21", "note=my%20***%21"),
        ("card%5Bnumber%5D=7&ssn=8", "card%5Bnumber%5D=***&ssn=***"),
        ("payload=%7B%22token%22%3A%22x%22%7D", "payload=%7B%22token%22%3A%22***%22%7D"),
        ("4111111111111111", "***"),
        ("key=op0123456+89abcdefgh/x&b=2", "key=***&b=2"),
        // JSON that is said to be a form, as curl says by itself.
        (
            r#"{"password":"a&b=c", "key":"op0123456+89abcdefgh/x"}"#,
            r#"{"password":"***","key":"***"}"#,
        ),
        (
            r#"{"password":"a","key":"op0123456+89abcdefgh/x"#,
            "%7B%22password%22%3A%22***%22%2C%22key%22%3A%22***",
        ),
        ("password=", "password="),
    ] {
        assert_eq!(masked("application/x-www-form-urlencoded", body), shown, "{body}");
    }
}

#[test]
fn bodies_in_which_secrets_cannot_be_found_are_withheld() {
    let withheld = |content_type: &str, body: &[u8]| mask_body(content_type, body, &capture(&[]), &shapes()).err();
    for body in [
        "{",
        "{\"a\":1}}",
        "[1,]",
        "{\"a\":\"\n\"}",
        "01",
        "1.",
        "tru",
        "\"\\x\"",
        "'a'",
        "{a:1}",
        "\"",
        "[\"\\u00\"]",
    ] {
        assert_eq!(withheld("application/json", body.as_bytes()), Some(Withheld::NotJson), "{body}");
    }
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(withheld("application/json", nested(64).as_bytes()), None);
    assert_eq!(withheld("application/json", nested(65).as_bytes()), Some(Withheld::NotJson));
    assert_eq!(withheld("application/json", nested(30_000).as_bytes()), Some(Withheld::NotJson));
    assert_eq!(withheld("application/json", b"\"\xff\""), Some(Withheld::Binary));
    assert_eq!(withheld("text/plain", b"4\x001\x001\x001\x00"), Some(Withheld::Binary));
    assert_eq!(withheld("text/plain; charset=UTF-16", b"abc"), Some(Withheld::Binary));
    assert_eq!(withheld("Text/Plain; charset=\"UTF-8\"", b"abc"), None);
    assert_eq!(withheld("multipart/form-data; boundary=x", b"abc"), Some(Withheld::Type));
    assert_eq!(withheld("image/png", b"abc"), Some(Withheld::Type));
    assert_eq!(withheld("text/plain", &[b'a'; (64 << 10) + 1]), Some(Withheld::TooLong));
}

fn query(query: &str, url: &AuditedUrl) -> String {
    let mut out = Vec::new();
    redact_query(query, url, &shapes(), &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn k10_what_a_log_in_is_proven_by_is_masked_and_the_same_names_elsewhere_are_not() {
    let shown = AuditedUrl::Redacted {
        shown: vec!["code".into(), "state".into()],
    };
    for (plain, masked_as) in [
        // The answer of an authorization server, by redirect and by `response_mode=form_post`.
        ("code=SplxlOBe&state=af0ifjsldkj&iss=a", "code=***&state=***&iss=a"),
        ("state=af0ifjsldkj&c%6fde=SplxlOBe", "state=***&c%6fde=***"),
        ("code=a&state=b&code=c", "code=***&state=***&code=***"),
        ("code=&state=b", "code=&state=***"),
        // What says that it is one need have no value.
        ("code=a&state", "code=***&state"),
        // The request of a token.
        (
            "grant_type=authorization_code&code=a&redirect_uri=b",
            "grant_type=authorization_code&code=***&redirect_uri=b",
        ),
        // Filters of lists, addresses, errors of an authorization server.
        ("code=94105&city=x", "code=94105&city=x"),
        ("state=open&page=2", "state=open&page=2"),
        ("error=access_denied&state=b", "error=access_denied&state=b"),
        ("grant_type=password&state=b", "grant_type=password&state=b"),
        ("zip_code=1&state=b", "zip_code=1&state=b"),
        // An assertion, a log-out, an artifact.
        ("SAMLResponse=PHNhbWw%2B&RelayState=x", "SAMLResponse=***&RelayState=x"),
        ("SAMLRequest=fZJ&SigAlg=rsa", "SAMLRequest=***&SigAlg=rsa"),
        ("SAMLart=AAQ&RelayState=x", "SAMLart=***&RelayState=x"),
    ] {
        assert_eq!(masked("application/x-www-form-urlencoded", plain), masked_as);
        assert_eq!(query(plain, &AuditedUrl::Full), masked_as);
    }
    assert_eq!(query("code=a&state=b&iss=c", &shown), "code=***&state=***&iss");
    assert_eq!(query("code=a&iss=c", &shown), "code=a&iss");
    // Members of JSON are no parameters.
    let address = r#"{"code":"94105","state":"CA"}"#;
    assert_eq!(json(address), address);
    assert_eq!(json(r#"{"SAMLResponse":"PHNhbWw+"}"#), r#"{"SAMLResponse":"***"}"#);
    assert_eq!(text("posted SAMLResponse=PHNhbWw+ twice"), "posted SAMLResponse=*** twice");
}

#[test]
fn queries_and_paths_are_redacted() {
    let shown = AuditedUrl::Redacted {
        shown: vec!["page".into(), "token".into()],
    };
    let secret = "a=1&page=2&token=x&page=4111+1111+1111+1111&bare&4111111111111111=5&%70age=3";
    assert_eq!(query(secret, &shown), "a&page=2&token=***&page=***&***&***&%70age=3");
    assert_eq!(
        query("a=1&token=x&b=%C3%BC\u{fc}&c", &AuditedUrl::Full),
        "a=1&token=***&b=%C3%BC%C3%BC&c"
    );
    assert_eq!(query("", &shown), "");
    let path = |path: &str| {
        let mut out = Vec::new();
        redact_path(path, &shapes(), &mut out);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(path("/v1/orders/7"), "/v1/orders/7");
    assert_eq!(path("/cards/4111111111111111/x"), "/cards/***/x");
    assert_eq!(path("/cards/4111%201111%201111%201111"), "/cards/***");
    assert_eq!(path(&format!("/reset/{JWT}")), "/reset/***");
}

/// Ways to wrap a text so that a service reads it again.
#[derive(Debug, Clone, Copy)]
enum Wrap {
    Member,
    List,
    /// A text that holds JSON.
    Embedded,
    /// Each character as an escape.
    Escaped,
    Percent,
    Words,
}

fn wrap(value: &serde_json::Value, wrap: Wrap) -> serde_json::Value {
    match (wrap, value) {
        (Wrap::Member, value) => serde_json::json!({"a": 1, "b": value}),
        (Wrap::List, value) => serde_json::json!([null, value, "x"]),
        (Wrap::Embedded, value) => serde_json::Value::String(value.to_string()),
        (Wrap::Percent, serde_json::Value::String(text)) => text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>().into(),
        (Wrap::Words, serde_json::Value::String(text)) => format!("said: {text} .").into(),
        (Wrap::Escaped, serde_json::Value::String(text)) => {
            text.chars().map(|c| format!("\\u{:04x}", u32::from(c))).collect::<String>().into()
        }
        (_, value) => value.clone(),
    }
}

/// Takes off all escapes, so that a secret below some of them is found too.
fn laid_open(text: &str) -> Vec<String> {
    let mut layers = vec![text.to_owned()];
    while let Some(below) = escapes::unescape(layers.last().unwrap()) {
        layers.push(below);
    }
    layers
}

fn secrets() -> Vec<String> {
    vec![
        CARD.into(),
        "5555555555554444".into(),
        "378282246310005".into(),
        JWT.into(),
        "hlive_c4n4ryc4n4ryc4n4ry".into(),
        "Bearer c4n4ry-c4n4ry-c4n4ry".into(),
    ]
}

proptest! {
    #[test]
    fn a_planted_secret_never_appears(
        secret in prop::sample::select(secrets()),
        wraps in prop::collection::vec(
            prop::sample::select(vec![Wrap::Member, Wrap::List, Wrap::Embedded, Wrap::Escaped, Wrap::Percent, Wrap::Words]),
            0..7,
        ),
    ) {
        let canary = secret.strip_prefix("Bearer ").unwrap_or(&secret);
        let body = wraps.iter().fold(serde_json::Value::from(secret.as_str()), |value, how| wrap(&value, *how));
        let body = body.to_string();
        // Each escape of an escape makes it six times as long.
        prop_assume!(body.len() < 20_000);
        for (content_type, body) in [
            ("application/json", body.clone()),
            ("text/plain", body.clone()),
            ("application/x-www-form-urlencoded", format!("a=1&b={}", body.bytes().map(|b| format!("%{b:02x}")).collect::<String>())),
        ] {
            let masked = masked(content_type, &body);
            for layer in laid_open(&masked) {
                prop_assert!(!layer.contains(canary), "{} in {}: {}", canary, content_type, body);
            }
        }
    }

    #[test]
    fn the_value_of_a_secret_name_never_appears(
        name in prop::sample::select(vec!["password", "newPassword", "api_key", "cvv", "SSN", "x-portal-session"]),
        value in prop::sample::select(vec![
            serde_json::json!("c4n4ry"), serde_json::json!({"a": ["c4n4ry"]}), serde_json::json!(["c4n4ry", 1]), serde_json::json!("a \"c4n4ry\" } ] b"),
        ]),
        wraps in prop::collection::vec(prop::sample::select(vec![Wrap::Member, Wrap::List, Wrap::Embedded]), 0..6),
    ) {
        let body = wraps.iter().fold(serde_json::json!({"x": 1, name: value}), |value, how| wrap(&value, *how));
        let masked = json(&body.to_string());
        prop_assert!(!masked.contains("c4n4ry"), "{} gave {}", body, masked);
    }

    #[test]
    fn masking_takes_any_input(body: Vec<u8>, content_type in "[ -~]{0,40}", text: String) {
        for known in ["application/json", "application/x-www-form-urlencoded", "text/plain", "application/x-ndjson", &content_type] {
            let _ = mask_body(known, &body, &capture(&["a.*"]), &shapes());
            let _ = mask_body(known, text.as_bytes(), &capture(&["a.*"]), &shapes());
        }
        let mut out = Vec::new();
        redact_query(&text, &AuditedUrl::Full, &shapes(), &mut out);
        redact_path(&text, &shapes(), &mut out);
        prop_assert!(std::str::from_utf8(&out).is_ok());
    }

    #[test]
    fn other_json_keeps_its_meaning(body in "[ -~]{0,60}", number in -1e9..1e9_f64, integer: i32) {
        let value = serde_json::json!({"a": [integer, {"b": number, "c": null}], "d": {"e": [[]], "f": {}}});
        let masked = json(&value.to_string());
        prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&masked).unwrap(), serde_json::from_str::<serde_json::Value>(&value.to_string()).unwrap());
        // What is JSON to us is JSON to others.
        if let Ok(masked) = mask_body("application/json", body.as_bytes(), &capture(&[]), &shapes())
            && !masked.is_empty()
        {
            prop_assert!(serde_json::from_str::<serde_json::Value>(&masked).is_ok() || body.contains("\\u") || body.contains('e') || body.contains('E'));
        }
    }
}

#[test]
fn what_stands_before_a_secret_does_not_hide_it() {
    let key = GeneratedKey::mint("other_product_").unwrap();
    let key = key.expose();
    let frame = ["-----BEGIN EC PRIVATE KEY-----", "-----END EC PRIVATE KEY-----"];
    for (body, secret) in [
        ("Bearer Basic dXNlcjpjNG40cnk=".to_owned(), "dXNlcjpjNG40cnk"),
        ("basic bearer c4n4ry-c4n4ry".to_owned(), "c4n4ry"),
        ("Basic x Bearer c4n4ry-c4n4ry".to_owned(), "c4n4ry"),
        ("password:\ntoken: c4n4ry\n".to_owned(), "c4n4ry"),
        ("password=\ntoken = c4n4ry".to_owned(), "c4n4ry"),
        (format!("{key}.eyJhIjoxfQ.c2ln"), key),
        (format!("{key}.eyJhIjoxfQ"), key),
        (format!("ends with {0}\n{1}\nc4n4ry\n{0}\nafter", frame[1], frame[0]), "c4n4ry"),
        (format!("{0}\n{0}\nc4n4ry\n{1}\nafter", frame[0], frame[1]), "c4n4ry"),
    ] {
        assert!(!text(&body).contains(secret), "{body} gave {}", text(&body));
    }
    // What follows the end of a private key stays.
    let two = format!("a {0}\nx\n{1} b {0}\ny\n{1} c", frame[0], frame[1]);
    assert_eq!(text(&two), format!("a {0}*** b {0}*** c", frame[0]));
}

#[test]
fn a_long_segment_is_found_wherever_it_stands_and_a_short_one_is_none() {
    let (short, long) = ("transactions", "transactions1");
    for around in ["", "/", "//", "/v1/", "/v1/transactions/", "/a/b/c/d/e/f/g/h"] {
        for after in ["", "/", "/transactions", "/a/b/c/d/e/f/g/h/"] {
            assert!(!has_long_segment(&format!("{around}/{short}{after}")), "{around} {after}");
            assert!(has_long_segment(&format!("{around}/{long}{after}")), "{around} {after}");
        }
    }
    assert!(!has_long_segment(""));
}

proptest! {
    #[test]
    fn a_long_segment_is_what_a_split_says(path in "[a/]{0,60}") {
        prop_assert_eq!(has_long_segment(&path), path.split('/').any(|segment| segment.len() >= SHORTEST_SEGMENT));
    }
}

#[test]
fn the_time_is_linear() {
    let shapes = shapes();
    for unit in [
        "4",
        "4 ",
        "e",
        "eyJ",
        "a.",
        "o",
        "hlive_",
        "password=",
        "bearer ",
        "%25",
        "\\\\",
        "\"",
        "{",
        "[\"",
        "<",
        "-",
        "&=",
        "password:{",
    ] {
        let body = unit.repeat((64 << 10) / unit.len());
        for content_type in ["application/json", "text/plain", "application/x-www-form-urlencoded"] {
            // The square of this length is 4,000 million steps, which a debug build does not do in a test's time.
            let _ = mask_body(content_type, body.as_bytes(), &capture(&["a.b"]), &shapes);
        }
    }
}
