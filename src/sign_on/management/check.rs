//! The test of an identity provider: asks it what a sign-on would ask, and says everything that is wrong.

use std::fmt::Display;
use std::time::Duration;

use crate::base::clock::UnixMillis;
use crate::base::ids::TenantId;
use crate::base::principal::{CredentialRecord, CredentialState};
use crate::sign_on::client::{oidc_client, open_sealed};
use crate::sign_on::directory::list_providers;
use crate::sign_on::http::ProviderAccess;
use crate::sign_on::probe::{FindingLevel, probe_oidc};
use crate::sign_on::provider::{OidcSettings, ProviderProtocol, ProviderSettings, SamlSettings};
use crate::sign_on::saml::metadata::read_certificate;
use crate::snapshot::Snapshot;
use crate::snapshot::sign_on_route::SignOnStep;

use super::authority::ProviderAuthority;
use super::error::ManagementError;
use super::forms::{ProviderCheck, ProviderTest};
use super::view::write_time;
use super::{ProviderManagement, StoredProvider};

/// How long before its end a certificate is warned of. Whoever renews it needs some working days.
const ENDS_SOON: Duration = Duration::from_secs(30 * 24 * 3_600);

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

impl ProviderManagement<'_> {
    /// Asks an identity provider what a sign-on would ask, as the gateway would. Nothing is changed, and nobody is signed on.
    ///
    /// # Errors
    /// An error of the store. What is wrong with the provider is no error.
    pub async fn test(&self, found: &StoredProvider) -> Result<ProviderTest, ManagementError> {
        let (provider, record) = (&found.provider, &found.settings);
        let settings = ProviderSettings::of_record(record)?;
        let mut report = TestReport::default();
        check_states(provider, record, self.authority, &mut report);
        self.check_domains(provider, &settings, &mut report).await?;
        check_configuration(&settings, self.snapshot, &mut report);
        match &settings.protocol {
            ProviderProtocol::Oidc(oidc) => self.check_oidc(provider, oidc, &mut report).await,
            ProviderProtocol::Saml(saml) => self.check_saml(provider, saml, &mut report).await,
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
    ) -> Result<(), ManagementError> {
        for other in list_providers(self.store, None).await? {
            if other.tenant == provider.tenant || other.state != CredentialState::Active {
                continue;
            }
            for domain in settings.domains.iter().filter(|domain| other.domains.contains(domain)) {
                let whose = match self.authority {
                    ProviderAuthority::Operator => format!("provider {} of tenant {}", other.id, other.tenant),
                    // Who else is a customer here is nobody's business.
                    ProviderAuthority::Administrator(_) => "somebody else".to_owned(),
                };
                report.failed(
                    "domains",
                    format!("{whose} has `{domain}` too, so nobody of it is sent to either: one of them must give it up"),
                );
            }
        }
        Ok(())
    }

    async fn check_oidc(&self, provider: &CredentialRecord, oidc: &OidcSettings, report: &mut TestReport) {
        let client = match oidc_client(&provider.id, oidc, self.peppers) {
            Ok(client) => Some(client),
            Err(fault) => {
                report.failed("secrets", fault);
                None
            }
        };
        let Some(settings) = &self.snapshot.sign_on else { return };
        let access = ProviderAccess::over_https(settings.tls.clone(), settings.addresses);
        let Some(client) = client else { return };
        let Some(redirect_uri) = callback(self.snapshot, &provider.tenant) else {
            return report.failed(
                "routes",
                "no route has `serve = \"sso_finish\"`, so the provider could send nobody back",
            );
        };
        let words = |fault: &_| self.words_of(fault);
        let found = probe_oidc(self.client, &client, &redirect_uri, &access, self.clock.now(), &words).await;
        for finding in found {
            let outcome = match finding.level {
                FindingLevel::Good => "ok",
                FindingLevel::Warning => "warning",
                FindingLevel::Mistake => "failed",
            };
            report.note(finding.label, outcome, finding.words);
        }
    }

    async fn check_saml(&self, provider: &CredentialRecord, saml: &SamlSettings, report: &mut TestReport) {
        if saml.own_key_sealed.is_some()
            && let Err(fault) = open_sealed(&provider.id, "own_key", saml.own_key_sealed.as_deref(), self.peppers)
        {
            report.failed("secrets", fault);
        }
        check_certificates(saml, self.clock.now().wall, report);
        // It reads what the provider sends; on a kernel that cannot confine it, nobody signs on.
        match self.verifier.prove_confinement(Vec::new()).await {
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

fn check_states(provider: &CredentialRecord, settings: &CredentialRecord, authority: &ProviderAuthority, report: &mut TestReport) {
    let (enable, update) = match authority {
        ProviderAuthority::Operator => (
            format!(": `durward providers enable {}`", provider.id),
            format!("`durward providers update {}`", provider.id),
        ),
        ProviderAuthority::Administrator(_) => (String::new(), "an update".to_owned()),
    };
    match provider.state {
        CredentialState::Active => {}
        CredentialState::Disabled => report.failed("state", format!("it is disabled{enable}")),
        CredentialState::Revoked { .. } => report.failed("state", "it is deleted"),
    }
    if settings.state == CredentialState::Disabled {
        report.failed(
            "state",
            format!("the store has lost newer settings: check these, then {update} confirms them"),
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
                format!("certificate {} expired at {}: what it signs is refused", i + 1, write_time(ends)),
            );
        } else if begins > now {
            report.warn(
                "certificates",
                format!("certificate {} is not in force before {}", i + 1, write_time(begins)),
            );
        } else {
            usable += 1;
            if ends <= now.plus(ENDS_SOON) {
                report.warn("certificates", format!("certificate {} expires at {}", i + 1, write_time(ends)));
            }
        }
    }
    if usable == 0 {
        report.failed(
            "certificates",
            "none is in force: get the provider's new metadata, and update the certificates",
        );
    } else {
        report.ok("certificates", format!("{usable} in force"));
    }
}
