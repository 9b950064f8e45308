//! `pysaml2` as a SAML identity provider, and as a service provider that shows that an identity provider works.

use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::authority::SigningPair;
use super::front::Front;
use super::people;
use super::program::{Program, installed, source};

/// What both are: a program behind a front, with a key pair and the metadata of the other side in its folder.
struct Party {
    front: Front,
    folder: TempDir,
    pair: SigningPair,
    host: &'static str,
    _program: Program,
}

impl Party {
    fn start(name: &str, host: &'static str, plan: &Value) -> Self {
        let front = Front::of(&[host]);
        let folder = tempfile::tempdir().unwrap();
        let pair = SigningPair::new(host);
        let base = front.url(host);
        let mut plan = plan.clone();
        plan["base"] = json!(base);
        plan["entity_id"] = json!(format!("{base}/metadata"));
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("plan.json", &plan.to_string());
        write("people.json", &attributes().to_string());
        write("key.pem", &pair.key);
        write("cert.pem", &pair.certificate);
        let mut python = Command::new(installed("python/bin/python"));
        python.arg("-B").arg(source(name)).arg(folder.path());
        let program = Program::start(python, &folder.path().join("log"));
        front.lead_to(program.port);
        Self {
            front,
            folder,
            pair,
            host,
            _program: program,
        }
    }

    fn base(&self) -> String {
        self.front.url(self.host)
    }

    fn set_other(&self, metadata: &str) {
        std::fs::write(self.folder.path().join("other.xml"), metadata).unwrap();
    }
}

/// The people as SAML attributes.
fn attributes() -> Value {
    let mut people = people();
    for person in people.as_object_mut().unwrap().values_mut() {
        let groups = person["groups"].as_array().cloned();
        *person = json!({ "displayName": person["name"], "mail": person["email"] });
        if let Some(groups) = groups {
            person["groups"] = json!(groups);
        }
    }
    people
}

/// An identity provider. `ann` and `bob` can log in.
pub(crate) struct SamlProvider(Party);

impl SamlProvider {
    /// Starts one by a plan, whose members the head of `saml_idp.py` has. Without any it signs assertions.
    pub(crate) fn start_with(plan: &Value) -> Self {
        Self(Party::start("saml_idp.py", "idp.partner.example", plan))
    }

    /// Where it listens.
    pub(crate) const fn front(&self) -> &Front {
        &self.0.front
    }

    /// Its URL: `/metadata`, `/sso`, `/slo`, `/unsolicited?sp=…` (begins here), `/log-out?binding=post` (ends here), `/session` (who is
    /// logged in).
    pub(crate) fn base(&self) -> String {
        self.0.base()
    }

    /// Its host name, which only a test's browser finds.
    pub(crate) const fn host(&self) -> &'static str {
        self.0.host
    }

    /// The key pair it signs with.
    pub(crate) const fn pair(&self) -> &SigningPair {
        &self.0.pair
    }

    /// Knows this service provider from now on, and no other.
    pub(crate) fn set_service_provider(&self, metadata: &str) {
        self.0.set_other(metadata);
    }
}

/// A service provider.
pub(crate) struct SamlServiceProvider(Party);

impl SamlServiceProvider {
    /// Starts one by a plan, whose members the head of `saml_sp.py` has.
    pub(crate) fn start_with(plan: &Value) -> Self {
        Self(Party::start("saml_sp.py", "sp.example", plan))
    }

    /// Where it listens.
    pub(crate) const fn front(&self) -> &Front {
        &self.0.front
    }

    /// Its URL: `/metadata`, `/log-in?binding=post`, `/acs`, `/slo`, `/log-out`, `/came` (the messages that came).
    pub(crate) fn base(&self) -> String {
        self.0.base()
    }

    /// Its host name, which only a test's browser finds.
    pub(crate) const fn host(&self) -> &'static str {
        self.0.host
    }

    /// The key pair it signs with, and decrypts.
    pub(crate) const fn pair(&self) -> &SigningPair {
        &self.0.pair
    }

    /// Signs people on at this identity provider.
    pub(crate) fn set_identity_provider(&self, metadata: &str) {
        self.0.set_other(metadata);
    }
}
