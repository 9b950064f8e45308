//! Secrets that are broken in the ways in which people break them: no output shows any part of one, in any encoding.

use std::path::Path;

use aws_lc_rs::encoding::AsDer as _;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use durward::config::{InMemory, Purpose, RenderStyle, load_from};

use crate::support::gateway::{Gateway, run};
use crate::support::leaks::Secret;
use crate::support::raw::Client;
use crate::support::site::{Plan, Site};

/// Texts that are no secret: the fixed parts of PEM, and what our own messages say about it.
const PUBLIC: [&str; 8] = [
    "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n",
    "-----BEGIN RSA PRIVATE KEY-----\n-----END RSA PRIVATE KEY-----\n",
    "-----BEGIN EC PRIVATE KEY-----\n-----END EC PRIVATE KEY-----\n",
    "-----BEGIN ENCRYPTED PRIVATE KEY-----\n-----END ENCRYPTED PRIVATE KEY-----\n",
    "-----BEGIN CERTIFICATE-----",
    "redis://127.0.0.1:6379/0",
    "{\"keys\":[{\"kty\":\"RSA\",\"kid\":\"one\",\"alg\":\"RS256\",\"use\":\"sig\",\"e\":\"AQAB\",",
    "\"kty\":\"oct\",\"crv\":\"P-256\",",
];

/// One secret of the configuration, whole.
struct Kind {
    name: &'static str,
    whole: Vec<u8>,
    secret: Secret,
}

fn kinds() -> Vec<Kind> {
    let mut kinds: Vec<Kind> = Vec::new();
    let mut add = |name, whole: Vec<u8>, inner: Vec<u8>| {
        let secret = Secret::new([whole.as_slice(), &inner], &PUBLIC);
        kinds.push(Kind { name, whole, secret });
    };
    let rsa = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
    let rsa: aws_lc_rs::encoding::Pkcs8V1Der<'_> = rsa.as_der().unwrap();
    let ec = rcgen::KeyPair::generate().unwrap().serialize_der();
    for (name, label, der) in [
        ("key", "RSA PRIVATE KEY", &rsa.as_ref()[26..]),
        ("key", "EC PRIVATE KEY", &ec[29..]),
        ("key", "ENCRYPTED PRIVATE KEY", &ec),
        ("client_key", "PRIVATE KEY", &ec),
    ] {
        add(name, pem(label, der).into_bytes(), der.to_vec());
    }
    let d = "Zm9vYmFyLXByaXZhdGUtcGFydC1vZi1hLWtleS0wMTIzNDU2Nzg5";
    let part = URL_SAFE_NO_PAD.decode(d).unwrap();
    let set = |members: &str| {
        format!("{{\"keys\":[{{\"kty\":\"RSA\",\"kid\":\"one\",\"alg\":\"RS256\",\"use\":\"sig\",\"e\":\"AQAB\",{members}}}]}}")
    };
    add("jwks", set(&format!("\"d\":\"{d}\"")).into_bytes(), part.clone());
    add("jwks", set(&format!("\"p\":\"{d}\",\"q\":1")).into_bytes(), part.clone());
    add(
        "jwks",
        format!("{{\"keys\":[{{\"kty\":\"oct\",\"k\":\"{d}\"}}]}}").into_bytes(),
        part,
    );
    add("pepper", b"Vd3kTqk1Lw9pXnB7 fQ1o-Zr5uHc2YsE8gMa".to_vec(), Vec::new());
    add("hmac", b"Qp7sWx2LzN4vKe6b-aW0i-Tg8yRd3JmC5hUf".to_vec(), Vec::new());
    let url = "redis://jQ4mVu:Xk7pQ2wZr9Lm-tY8e@127.0.0.1:6379/0";
    add("url", url.as_bytes().to_vec(), b"jQ4mVu:Xk7pQ2wZr9Lm-tY8e".to_vec());
    add("password", b"Bn4tJv8Qd1Ks-rH5c-Wy6e".to_vec(), Vec::new());
    kinds
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// The ways in which people break a secret: cut off, quoted, joined lines, another encoding.
fn broken(whole: &[u8]) -> Vec<Vec<u8>> {
    let text = String::from_utf8_lossy(whole).into_owned();
    let half = text.len() / 2;
    let texts = [
        text.clone(),
        text.replace('\n', "\\n"),
        text.replace('\n', "\\\\n"),
        text.replace('\n', " "),
        text.replace('\n', ""),
        text[..half].to_owned(),
        text[half..].to_owned(),
        format!("{}!{}", &text[..half], &text[half..]),
        format!("{}\0{}", &text[..half], &text[half..]),
        format!("{}=={}", &text[..half], &text[half..]),
        format!("\u{feff}{text}"),
        format!("\"{text}\""),
        format!("{text}{text}"),
        STANDARD.encode(&text),
        text.to_uppercase(),
        text.replacen("-----", "----", 1),
        text.replace("-----", "").replace("BEGIN", "").replace("END", ""),
        text.replacen(
            "KEY-----",
            &text.chars().filter(|c| *c != '-').skip(20).take(40).collect::<String>(),
            1,
        ),
        text.replace("END ", "END X"),
        text.replace("redis:", "http:")
            .replace("\"d\"", "\"d\":1,\"d\"")
            .replace("{\"keys\"", "[{\"keys\""),
        text.replace("127.0.0.1:6379", "127.0.0.1:x").replace("\"d\":\"", "\"d\":[\""),
        text.chars().rev().collect(),
    ];
    let mut all: Vec<Vec<u8>> = texts.into_iter().map(String::into_bytes).collect();
    all.push(whole.iter().map(|b| b ^ 0x80).collect());
    all.push(text.encode_utf16().flat_map(u16::to_le_bytes).collect());
    all.push(
        STANDARD
            .decode(text.lines().filter(|line| !line.starts_with('-')).collect::<String>())
            .unwrap_or_default(),
    );
    all
}

const GATEWAY: &str = r#"
[[listeners]]
name = "public"
address = "127.0.0.1:0"
tls = { certificates = [{ cert = "cert.pem", key = KEY }] }
[store]
kind = "redis"
url = URL
password = PASSWORD
pepper = PEPPER
[surfaces.api]
kind = "api_key"
prefixes = { live = "hlive_" }
[surfaces.s]
kind = "session_jwt"
token_kind = "s"
secrets = HMAC
record_surface = "api"
[surfaces.x]
kind = "external_jwt"
[[surfaces.x.issuers]]
jwks = JWKS
tenants = ["acme"]
"#;

const UPSTREAM: &str = r#"
endpoints = ["https://127.0.0.1:1"]
tls = { ca = "cert.pem", client_cert = "cert.pem", client_key = CLIENT_KEY }
[[routes]]
path = "/**"
access = "public"
"#;

/// The configuration with one value of a kind written as `value`, all others whole references.
fn files((kinds, cert): (&[Kind], &[u8]), this: &Kind, value: &str) -> InMemory {
    let mut table = InMemory::default();
    let mut texts = [GATEWAY.to_owned(), UPSTREAM.to_owned()];
    for name in ["client_key", "key", "url", "password", "pepper", "hmac", "jwks"] {
        let whole = &kinds.iter().find(|kind| kind.name == name).unwrap().whole;
        let file = format!("{name}.secret");
        table.files.insert(Path::new("/c").join(&file), whole.clone());
        let usual = if name == "jwks" {
            format!("\"{file}\"")
        } else {
            format!("\"file:{file}\"")
        };
        let written = if this.name == name { value } else { &usual };
        for text in &mut texts {
            let upper = format!("= {}", name.to_uppercase());
            *text = text.replace(&upper, &format!("= {written}"));
        }
    }
    table.files.insert("/c/cert.pem".into(), cert.to_vec());
    let [gateway, upstream] = texts;
    table.files.insert("/c/gateway.toml".into(), gateway.into_bytes());
    table.files.insert("/c/upstreams/main.toml".into(), upstream.into_bytes());
    table
}

/// Everything that could be printed after loading this configuration.
fn told(table: &InMemory) -> String {
    match load_from(Path::new("/c/gateway.toml"), Purpose::Check, table) {
        Ok(loaded) => format!(
            "{loaded:?}{}{}",
            loaded.warnings.render(RenderStyle::Plain),
            loaded.warnings.to_json()
        ),
        Err(errors) => format!(
            "{errors}{errors:?}{}{}",
            errors.problems.to_json(),
            errors.problems.iter().map(|d| d.to_string()).collect::<String>()
        ),
    }
}

#[test]
fn no_message_about_a_broken_secret_has_any_part_of_it() {
    let kinds = kinds();
    let cert = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap().cert.pem();
    let all = (kinds.as_slice(), cert.as_bytes());
    let mut refused = 0;
    for kind in &kinds {
        let long = kind.whole.len() > 1_000;
        for (way, bytes) in broken(&kind.whole).into_iter().enumerate() {
            let lossy = String::from_utf8_lossy(&bytes).into_owned();
            let reference = |scheme: &str, name: &str| {
                if kind.name == "jwks" {
                    "\"it\"".to_owned()
                } else {
                    format!("\"{scheme}:{name}\"")
                }
            };
            let mut by_file = files(all, kind, &reference("file", "it"));
            by_file.files.insert("/c/it".into(), bytes.clone());
            let mut by_variable = files(all, kind, &reference("env", "IT"));
            by_variable.variables.insert("IT".into(), lossy.clone());
            let quoted = toml::Value::String(lossy.clone()).to_string();
            let mut tables = vec![by_file, by_variable];
            // A set of public keys is a path, which messages show.
            if kind.name != "jwks" && !long {
                tables.push(files(all, kind, &quoted));
                tables.push(files(all, kind, &lossy));
                tables.push(files(all, kind, &format!("\"{lossy}\"")));
                // Messages show what follows `file:`, since it is a path; but not where it looks like PEM.
                if lossy.contains("-----BEGIN ") {
                    tables.push(files(all, kind, &format!("\"file:{}", lossy.replace('"', ""))));
                }
            }
            // Each way is tried with a file, and every second one with each other place: messages do not depend on the place.
            let kept = tables.iter().enumerate().filter(|(how, _)| *how == 0 || way % 2 == how % 2);
            for (how, table) in kept {
                let output = told(table);
                refused += usize::from(output.contains("error"));
                let leak = kind.secret.found_in(output.as_bytes());
                assert_eq!(leak, None, "{} way {way} how {how}:\n{output}", kind.name);
            }
        }
    }
    assert!(refused > 250, "{refused}: the ways must break them");
}

fn tls_site() -> (Site, Kind) {
    let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
    let tables = "[[listeners]]\nname = \"second\"\naddress = \"127.0.0.1:0\"\n\
                  tls = { certificates = [{ cert = \"pasted.crt\", key = \"file:pasted.key\" }] }\n";
    let site = Site::of(
        &Plan {
            tables: tables.into(),
            ..Plan::usual()
        },
        "127.0.0.1:9".parse().unwrap(),
    );
    std::fs::write(site.folder().join("pasted.crt"), made.cert.pem()).unwrap();
    let whole = made.signing_key.serialize_pem().into_bytes();
    let secret = Secret::new([whole.as_slice(), &made.signing_key.serialize_der()], &PUBLIC);
    let kind = Kind {
        name: "key",
        whole,
        secret,
    };
    (site, kind)
}

#[test]
fn check_serve_and_the_log_of_a_reload_show_nothing_of_a_broken_key() {
    let (site, kind) = tls_site();
    let file = site.folder().join("pasted.key");
    std::fs::write(&file, &kind.whole).unwrap();
    let gateway = Gateway::start(&site);
    let mut refused = 0;
    for bytes in broken(&kind.whole) {
        std::fs::write(&file, &bytes).unwrap();
        let checked = run(&site.config(), &["check"], b"");
        for args in [&["check"][..], &["check", "--json"], &["reload"], &["reload", "--json"], &["serve"]] {
            if checked.code != 78 && args[0] == "serve" {
                continue;
            }
            let answer = run(&site.config(), args, b"");
            let all = format!("{}{}", answer.stdout, answer.stderr);
            assert_eq!(kind.secret.found_in(all.as_bytes()), None, "{args:?} {all}");
            refused += usize::from(answer.code == 78);
        }
    }
    assert!(refused > 75, "{refused}");
    let log = gateway.output();
    assert!(
        String::from_utf8_lossy(&log).contains("not reloaded"),
        "{}",
        String::from_utf8_lossy(&log)
    );
    assert_eq!(kind.secret.found_in(&log), None, "{}", String::from_utf8_lossy(&log));
}

#[test]
fn a_key_with_escaped_line_ends_in_a_variable_is_served_with() {
    let (site, kind) = tls_site();
    for text in [
        String::from_utf8(kind.whole.clone()).unwrap().replace('\n', "\\n"),
        String::from_utf8(kind.whole.clone()).unwrap().replace('\n', " "),
    ] {
        std::fs::write(site.folder().join("pasted.key"), text).unwrap();
        let gateway = Gateway::start(&site);
        let root = CertificateDer::from_pem_file(site.folder().join("pasted.crt")).unwrap();
        let connection = Client::connect_tls(gateway.address("second"), &root, "a.example", &["http/1.1"]);
        assert!(connection.is_ok(), "{:?}", connection.err());
    }
}
