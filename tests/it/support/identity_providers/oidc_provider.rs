//! `oidc-provider`: a certified OpenID provider, with back-channel logout, log-out begun by the client, and three kinds of keys.

use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::authority::authority;
use super::front::Front;
use super::people;
use super::program::{Program, installed, source};

/// One that runs.
pub(crate) struct OidcProvider {
    front: Front,
    folder: TempDir,
    _program: Program,
}

impl OidcProvider {
    /// Starts one for these clients (their metadata, as RFC 7591 names it).
    pub(crate) fn start(clients: &Value) -> Self {
        Self::start_with(clients, &json!({}), &[])
    }

    /// Starts one with more settings, as `oidc-provider` names them. It sends logout tokens to servers that have certificates under
    /// the test authority or these (PEM).
    pub(crate) fn start_with(clients: &Value, settings: &Value, roots: &[&str]) -> Self {
        let front = Front::of(&["localhost"]);
        let folder = tempfile::tempdir().unwrap();
        let known = authority().certificate();
        let roots: Vec<&str> = std::iter::once(&*known).chain(roots.iter().copied()).collect();
        let plan = json!({ "issuer": front.url("localhost"), "clients": clients, "settings": settings, "roots": roots });
        std::fs::write(folder.path().join("plan.json"), plan.to_string()).unwrap();
        let log = folder.path().join("log");
        std::fs::write(folder.path().join("people.json"), people().to_string()).unwrap();
        let mut node = Command::new(installed("node"));
        node.arg(source("oidc-provider.mjs")).arg(folder.path()).arg(installed(""));
        let program = Program::start(node, &log);
        front.lead_to(program.port);
        Self {
            front,
            folder,
            _program: program,
        }
    }

    /// Its issuer identifier, which is its URL.
    pub(crate) fn issuer(&self) -> String {
        self.front.url("localhost")
    }

    /// Where it listens.
    pub(crate) const fn front(&self) -> &Front {
        &self.front
    }

    /// Who can log in from now on, and what the provider says about them: from login name to claims.
    pub(crate) fn set_people(&self, people: &Value) {
        std::fs::write(self.folder.path().join("people.json"), people.to_string()).unwrap();
    }
}
