//! docs/sign-on.md names every reason for which a sign-on is refused, and no option that the command does not have.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use durward::sign_on::SignOnFault;
use durward::sign_on::saml::SamlFault;

fn page() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/sign-on.md")).unwrap()
}

#[test]
fn every_reason_is_in_the_document() {
    let page = page();
    let labels = SignOnFault::LABELS.iter().chain(SamlFault::LABELS);
    let missing: Vec<&&str> = labels.filter(|label| !page.contains(&format!("`{label}`"))).collect();
    assert!(missing.is_empty(), "docs/sign-on.md does not say what to do about {missing:?}");
}

#[test]
fn every_option_in_the_document_is_one_of_the_command() {
    let help = |command: &[&str]| {
        let run = Command::new(env!("CARGO_BIN_EXE_durward"))
            .args(command)
            .arg("--help")
            .output()
            .unwrap();
        String::from_utf8(run.stdout).unwrap()
    };
    let known = help(&["providers", "create"]) + &help(&["providers", "update"]);
    let is_of_an_option = |c: char| c.is_ascii_lowercase() || c == '-';
    let named: BTreeSet<String> = page()
        .split("--")
        .skip(1)
        .map(|rest| rest.chars().take_while(|c| is_of_an_option(*c)).collect())
        .filter(|name: &String| name.starts_with(|c: char| c.is_ascii_lowercase()))
        .collect();
    // Of `durward audit query`.
    let elsewhere = ["request"];
    let unknown: Vec<&String> = named
        .iter()
        .filter(|name| !known.contains(&format!("--{name}")) && !elsewhere.contains(&name.as_str()))
        .collect();
    assert!(named.len() > 10, "{named:?}");
    assert!(unknown.is_empty(), "docs/sign-on.md names options that do not exist: {unknown:?}");
}
