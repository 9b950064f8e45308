//! `durward providers test`: asks an identity provider what a sign-on would ask, and says everything that is wrong.

use std::fmt::Display;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::clock::UnixMillis;
use crate::base::ids::{CredentialId, TenantId};
use crate::base::principal::{CredentialRecord, CredentialState};
use crate::sign_on::client::{oidc_client, open_sealed};
use crate::sign_on::directory::list_providers;
use crate::sign_on::http::{ProviderAccess, ProviderClient};
use crate::sign_on::probe::{FindingLevel, probe_oidc};
use crate::sign_on::provider::{OidcSettings, ProviderProtocol, ProviderSettings, SamlSettings};
use crate::sign_on::saml::SamlVerifier;
use crate::sign_on::saml::metadata::read_certificate;
use crate::snapshot::Snapshot;
use crate::snapshot::sign_on_route::SignOnStep;

use super::Operations;
use super::error::OperationError;
use super::text::write;

/// How long before its end a certificate is warned of. Whoever renews it needs some working days.
const ENDS_SOON: Duration = Duration::from_secs(30 * 24 * 3_600);

/// What a test of a provider found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderTest {
    pub id: String,
    /// Whether people can sign on, as far as can be told without one.
    pub passed: bool,
    pub checks: Vec<ProviderCheck>,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderCheck {
    /// `discovery`, `keys`, …
    pub name: String,
    /// `ok`, `warning` or `failed`.
    pub outcome: String,
    /// What was found, or what is wrong and what to do.
    pub why: String,
}

#[derive(Default)]
struct TestReport(Vec<ProviderCheck>);

impl TestReport {
    fn note(&mut self, name: &str, outcome: &str, why: impl Display) {
        self.0.push(ProviderCheck {
            name: name.to_owned(),
            outcome: outcome.to_owned(),
            why: why.to_string(),
        });
    }

    fn failed(&mut self, name: &str, why: impl Display) {
        self.note(name, "failed", why);
    }

    fn ok(&mut self, name: &str, why: impl Display) {
        self.note(name, "ok", why);
    }

    fn warn(&mut self, name: &str, why: impl Display) {
        self.note(name, "warning", why);
    }
}

impl Operations {
    /// Asks an identity provider what a sign-on would ask, as the gateway would. Nothing is changed, and nobody is signed on.
    ///
    /// # Errors
    /// [`OperationError::NotFound`], or an error of the store. What is wrong with the provider is no error.
    pub async fn test_provider(&self, id: &str) -> Result<ProviderTest, OperationError> {
        let (provider, record) = self.read_provider(id).await?;
        let snapshot = self.snapshot.load();
        let settings = ProviderSettings::of_record(&record)?;
        let mut report = TestReport::default();
        check_states(&provider, &record, &mut report);
        self.check_domains(&provider, &settings, &mut report).await?;
        check_configuration(&settings, &snapshot, &mut report);
        match &settings.protocol {
            ProviderProtocol::Oidc(oidc) => self.check_oidc(&provider, oidc, &snapshot, &mut report).await,
            ProviderProtocol::Saml(saml) => self.check_saml(&provider.id, saml, &mut report).await,
        }
        Ok(ProviderTest {
            id: provider.id.as_str().into(),
            passed: report.0.iter().all(|check| check.outcome != "failed"),
            checks: report.0,
        })
    }

    async fn check_domains(
        &self,
        provider: &CredentialRecord,
        settings: &ProviderSettings,
        report: &mut TestReport,
    ) -> Result<(), OperationError> {
        for other in list_providers(&*self.store, None).await? {
            if other.tenant == provider.tenant || other.state != CredentialState::Active {
                continue;
            }
            for domain in settings.domains.iter().filter(|domain| other.domains.contains(domain)) {
                report.failed(
                    "domains",
                    format!(
                        "provider {} of tenant {} has `{domain}` too, so nobody of it is sent to either: one of them must give it up",
                        other.id, other.tenant
                    ),
                );
            }
        }
        Ok(())
    }

    async fn check_oidc(&self, provider: &CredentialRecord, oidc: &OidcSettings, snapshot: &Snapshot, report: &mut TestReport) {
        let (id, tenant) = (&provider.id, &provider.tenant);
        let client = match oidc_client(id, oidc, &self.peppers) {
            Ok(client) => Some(client),
            Err(fault) => {
                report.failed("secrets", fault);
                None
            }
        };
        let Some(settings) = &snapshot.sign_on else { return };
        let access = ProviderAccess::over_https(settings.tls.clone(), settings.addresses);
        let Some(client) = client else { return };
        let Some(redirect_uri) = callback(snapshot, tenant) else {
            return report.failed(
                "routes",
                "no route has `serve = \"sso_finish\"`, so the provider could send nobody back",
            );
        };
        let found = probe_oidc(&ProviderClient::default(), &client, &redirect_uri, &access, self.clock.now()).await;
        for finding in found {
            let outcome = match finding.level {
                FindingLevel::Good => "ok",
                FindingLevel::Warning => "warning",
                FindingLevel::Mistake => "failed",
            };
            report.note(finding.label, outcome, finding.words);
        }
    }

    async fn check_saml(&self, id: &CredentialId, saml: &SamlSettings, report: &mut TestReport) {
        if saml.own_key_sealed.is_some()
            && let Err(fault) = open_sealed(id, "own_key", saml.own_key_sealed.as_deref(), &self.peppers)
        {
            report.failed("secrets", fault);
        }
        check_certificates(saml, self.clock.now().wall, report);
        // It reads what the provider sends; on a kernel that cannot confine it, nobody signs on.
        match SamlVerifier::of_this_program().prove_confinement(Vec::new()).await {
            Ok(()) => report.ok("verifier", "the process that reads the provider's messages is confined"),
            Err(fault) => report.failed("verifier", fault),
        }
    }
}

/// Where a provider of OpenID Connect sends browsers back to.
fn callback(snapshot: &Snapshot, tenant: &TenantId) -> Option<String> {
    let mut steps = snapshot.served_routes.iter().filter_map(|route| route.action.sign_on());
    steps.find_map(|route| match &route.step {
        SignOnStep::FinishOidc(finish) => Some(finish.url.of(tenant)),
        _ => None,
    })
}

fn check_states(provider: &CredentialRecord, settings: &CredentialRecord, report: &mut TestReport) {
    match provider.state {
        CredentialState::Active => {}
        CredentialState::Disabled => report.failed("state", format!("it is disabled: `durward providers enable {}`", provider.id)),
        CredentialState::Revoked { .. } => report.failed("state", "it is deleted"),
    }
    if settings.state == CredentialState::Disabled {
        report.failed(
            "state",
            format!(
                "the store has lost newer settings: check these, then `durward providers update {}` confirms them",
                provider.id
            ),
        );
    }
}

fn check_configuration(settings: &ProviderSettings, snapshot: &Snapshot, report: &mut TestReport) {
    let mistakes = settings.mistakes().into_iter().chain(settings.mistakes_under(snapshot));
    let before = report.0.len();
    for mistake in mistakes {
        report.failed("settings", mistake);
    }
    if snapshot.sign_on.is_none() {
        report.failed(
            "configuration",
            "the configuration has no `[sign_on]`, so no route signs anybody on",
        );
    }
    if report.0.len() == before {
        report.ok("settings", "they fit the configuration in force");
    }
}

fn check_certificates(saml: &SamlSettings, now: UnixMillis, report: &mut TestReport) {
    let mut usable = 0;
    for (i, certificate) in saml.certificates.iter().enumerate() {
        let read = match read_certificate(certificate) {
            Ok(read) => read,
            Err(fault) => {
                report.failed("certificates", format!("certificate {}: {fault}", i + 1));
                continue;
            }
        };
        let (begins, ends) = (UnixMillis(read.not_before), UnixMillis(read.not_after));
        if ends <= now {
            report.warn(
                "certificates",
                format!("certificate {} expired at {}: what it signs is refused", i + 1, write(ends)),
            );
        } else if begins > now {
            report.warn(
                "certificates",
                format!("certificate {} is not in force before {}", i + 1, write(begins)),
            );
        } else {
            usable += 1;
            if ends <= now.plus(ENDS_SOON) {
                report.warn("certificates", format!("certificate {} expires at {}", i + 1, write(ends)));
            }
        }
    }
    if usable == 0 {
        report.failed(
            "certificates",
            "none is in force: get the provider's new metadata, and `durward providers update` the certificates",
        );
    } else {
        report.ok("certificates", format!("{usable} in force"));
    }
}
