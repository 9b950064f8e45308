//! Refuses to start a gateway that serves SAML where the process that reads its messages cannot be confined.

use std::io;

use crate::config::Loaded;
use crate::sign_on::saml::SamlVerifier;
use crate::snapshot::sign_on_route::SignOnStep;
use crate::snapshot::{Snapshot, StoreKind};

/// Proves by trying that the process reaches nothing, if the configuration has a route for responses of SAML providers. A route
/// that a reload brings is not checked here: a process that cannot be confined refuses every message.
pub(super) async fn check(loaded: &Loaded) -> io::Result<()> {
    if !takes_saml(&loaded.snapshot) {
        return Ok(());
    }
    let mut files = vec!["/proc/self/environ".to_owned()];
    if let StoreKind::Embedded { path } = &loaded.settings.store.kind {
        files.push(path.to_string_lossy().into_owned());
    }
    let proven = SamlVerifier::of_this_program().prove_confinement(files).await;
    proven.map_err(|fault| io::Error::other(format!("{fault}; without it, leave out routes with `serve = \"saml_finish\"`")))
}

fn takes_saml(snapshot: &Snapshot) -> bool {
    let mut steps = snapshot.served_routes.iter().filter_map(|route| route.action.sign_on());
    steps.any(|route| matches!(route.step, SignOnStep::FinishSaml(_)))
}
