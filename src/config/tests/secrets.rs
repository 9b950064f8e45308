//! No message, in whatever form, shows what may be a secret.

use super::*;

const CANARY: &str = "canary-9f3a1c";

fn never_shown(gateway: &str, upstream: &str) {
    let files = table(&[("gateway.toml", gateway), ("upstreams/orders.toml", upstream)]);
    let errors = check(&files).expect_err(gateway);
    for text in [
        errors.to_string(),
        errors.problems.render(RenderStyle::Coloured),
        errors.problems.to_json().to_string(),
        errors.problems.iter().map(|d| d.to_string()).collect(),
        format!("{errors:?}"),
    ] {
        assert!(!text.contains(CANARY), "{gateway}{upstream}{text}");
    }
}

#[test]
fn a_literal_secret_is_refused_and_never_repeated() {
    for line in [
        "[store]\npepper = \"CANARY\"\n",
        "[store]\npepper = [\"CANARY\"]\n",
        "[store]\npepper = { value = \"CANARY\" }\n",
        "[store]\nkind = \"redis\"\nurl = \"redis://user:CANARY@host\"\n",
        "[store]\nkind = \"redis\"\nurl = \"CANARY\"\n",
        "[surfaces.s]\nkind = \"session_jwt\"\nsecrets = [\"CANARY\"]\ntoken_kind = \"s\"\nrecord_surface = \"api\"\n",
        "[surfaces.s]\nkind = \"session_jwt\"\nsecret = \"CANARY\"\n",
        "[surfaces.s]\nsecrets = [\"CANARY\"]\n",
        "[surfaces.s]\nkind = \"api_key\"\nprefixes = [\"x_\"]\nsecrets = [\"CANARY\"]\n",
        "[surfaces]\ns = { kind = \"nothing\", secrets = \"CANARY\", oops = 1 }\n",
        "[[listeners]]\nname = \"t\"\naddress = \"127.0.0.1:1\"\ntls = { certificates = [{ cert = \"c\", key = \"CANARY\", oops = 1 }] }\n",
    ] {
        never_shown(&format!("{GATEWAY}{}", line.replace("CANARY", CANARY)), ORDERS);
    }
}

#[test]
fn a_secret_on_a_line_of_broken_syntax_is_not_repeated() {
    for line in [
        "secrets = \"CANARY\n",
        "secrets = [\"CANARY\" \"x\"]\n",
        "secrets = CANARY\n",
        "pepper = CANARY CANARY\n",
        "x = \"CANARY\" y\n",
        "s = { secrets = \"CANARY\", = }\n",
        "url = redis://u:CANARY@h\n",
    ] {
        never_shown(&format!("{}{GATEWAY}", line.replace("CANARY", CANARY)), ORDERS);
    }
}

#[test]
fn a_secret_read_from_its_reference_is_in_no_debug_output() {
    let gateway = format!(
        "{GATEWAY}[store]\nkind = \"redis\"\nurl = \"env:URL\"\npepper = \"env:P\"\n\
         [surfaces.s]\nkind = \"session_jwt\"\ntoken_kind = \"s\"\nsecrets = \"env:S\"\nrecord_surface = \"api\"\n"
    );
    let mut files = table(&[("gateway.toml", &gateway), ("upstreams/orders.toml", ORDERS)]);
    for (name, value) in [
        ("URL", format!("redis://u:{CANARY}@h")),
        ("P", format!("{CANARY}{}", "p".repeat(32))),
        ("S", format!("{CANARY}{}", "s".repeat(32))),
    ] {
        files.variables.insert(name.into(), value);
    }
    let loaded = check(&files).unwrap_or_else(|e| panic!("{e}"));
    assert!(!format!("{loaded:?}").contains(CANARY));
    assert!(!format!("{:?}", loaded.watch).contains(CANARY));
}

#[test]
fn a_url_without_a_password_may_be_written_down() {
    let gateway = format!("{GATEWAY}[store]\nkind = \"redis\"\nurl = \"redis://127.0.0.1:6379\"\npepper = \"env:P\"\n");
    let mut files = table(&[("gateway.toml", &gateway), ("upstreams/orders.toml", ORDERS)]);
    files.variables.insert("P".into(), "p".repeat(32));
    assert!(check(&files).is_ok());
}
