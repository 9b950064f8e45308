//! The steps of single sign-on. What providers and browsers prove is judged by `sign_on`; what follows from it is made here.

use aws_lc_rs::digest::{Context, SHA256};

use crate::base::clock::UnixMillis;
use crate::base::denial::Denial;
use crate::base::fingerprint::Fingerprint;
use crate::base::ids::{CredentialId, TenantId};
use crate::issue::call::{BrowserRequest, IssueError, Issued, RefusalCause, ServedCall};
use crate::sign_on::fault::{FaultSide, SignOnFault};
use crate::sign_on::http::ProviderAccess;
use crate::sign_on::log_in_record::{LogInRecord, cookie_name};
use crate::sign_on::saml::SamlFault;
use crate::snapshot::sign_on_route::{SignOnRoute, SignOnSettings, SignOnStep};

use super::{Engine, refused_change};
use log_out::LogOutOrder;
use provider::FoundProvider;
use saml::SamlAddresses;

mod back_channel;
mod finish;
mod log_out;
pub(super) mod provider;
mod saml;
mod saml_log_out;
pub(super) mod session;
mod start;

/// A log-in record that was opened in its browser, and is used up.
struct OpenedLogIn {
    record: LogInRecord,
    cookie: String,
}

impl Engine {
    /// Takes a step of single sign-on. Why it is refused is logged here, in words that an administrator can act on.
    pub(super) async fn take_sign_on_step(&self, call: &ServedCall, route: &SignOnRoute) -> Result<Issued, IssueError> {
        let taken = match &route.step {
            SignOnStep::Start(step) => self.start_sign_on(call, route, step).await,
            SignOnStep::FinishOidc(step) => self.finish_oidc(call, route, step).await,
            SignOnStep::FinishSaml(step) => self.finish_saml(call, route, step).await,
            SignOnStep::SamlLogOut(step) => self.log_out_by_redirect(call, step).await,
            SignOnStep::SamlMetadata {
                tenant,
                finish,
                log_out,
                own,
            } => {
                let log_out = log_out.as_ref();
                self.saml_metadata(call, tenant, &SamlAddresses { finish, log_out, own }).await
            }
            SignOnStep::LogOut { extent, saml } => {
                let (extent, saml) = (*extent, saml.as_ref());
                self.log_out_of_sign_on(call, route, LogOutOrder { extent, saml }).await
            }
            SignOnStep::BackChannel { tenant } => self.end_by_back_channel(call, route, tenant).await,
        };
        if let Err(IssueError { cause: Some(cause), .. }) = &taken {
            let RefusalCause { label, words, provider } = &**cause;
            let provider = provider.as_ref().map(CredentialId::as_str);
            tracing::warn!(
                request_id = call.request_id,
                cause = label,
                provider,
                "a sign-on was refused: {words}"
            );
        }
        taken
    }

    /// Opens the log-in record of a state in the browser that sent it, and uses it up: a second answer to the same sign-on finds
    /// nothing, at whichever gateway it arrives.
    async fn take_log_in(&self, call: &ServedCall, state: &str) -> Result<OpenedLogIn, IssueError> {
        let browser = browser(call)?;
        let cookie = cookie_name(state).ok_or_else(|| refused_early(&SignOnFault::WrongState))?;
        let mut kept = browser.log_in_records.iter().filter(|(name, _)| *name == cookie);
        let sealed = match (kept.next(), kept.next()) {
            (Some((_, sealed)), None) => sealed,
            _ => return Err(refused_early(&SignOnFault::NoLogIn)),
        };
        let now = self.clock.now().wall;
        let record = LogInRecord::open(&cookie, sealed, &self.peppers, now).ok_or_else(|| refused_early(&SignOnFault::NoLogIn))?;
        if !record.state.is(state) {
            return Err(refused_by(&SignOnFault::WrongState, &record.provider));
        }
        if !self.take_once("log-in", &record.id, record.expires_at).await? {
            return Err(refused_by(&SignOnFault::LogInUsed, &record.provider));
        }
        Ok(OpenedLogIn { record, cookie })
    }

    /// Whether this is the first use of something that may be used once, over all gateways.
    async fn take_once(&self, what: &str, id: &[u8], until: UnixMillis) -> Result<bool, IssueError> {
        self.store.take_once(mark(what, id), until).await.map_err(refused_change)
    }
}

/// The mark of something that may be used once.
fn mark(what: &str, id: &[u8]) -> Fingerprint {
    let mut context = Context::new(&SHA256);
    for part in [b"durward once\0".as_slice(), what.as_bytes(), b"\0", id] {
        context.update(part);
    }
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    Fingerprint::from_bytes(bytes)
}

fn browser(call: &ServedCall) -> Result<&BrowserRequest, Denial> {
    call.browser.as_deref().ok_or(Denial::Internal)
}

/// How providers are reached.
fn access(settings: &SignOnSettings) -> ProviderAccess {
    ProviderAccess::over_https(settings.tls.clone(), settings.addresses)
}

/// The tenant in the path, where the route has one there.
fn path_tenant(call: &ServedCall, parameter: &str) -> Result<TenantId, Denial> {
    let text = call.path.find(parameter).ok_or(Denial::Internal)?;
    TenantId::parse(text).map_err(|_| Denial::NotFound)
}

/// The refusal of a sign-on of this provider.
fn refused(fault: &SignOnFault, provider: &FoundProvider) -> IssueError {
    refused_by(fault, &provider.record().id)
}

fn refused_by(fault: &SignOnFault, provider: &CredentialId) -> IssueError {
    because(denial_of(fault), fault, Some(provider))
}

/// The refusal of a sign-on before it is known at which provider.
fn refused_early(fault: &SignOnFault) -> IssueError {
    because(denial_of(fault), fault, None)
}

fn because(denial: Denial, fault: &SignOnFault, provider: Option<&CredentialId>) -> IssueError {
    IssueError {
        cause: Some(Box::new(RefusalCause {
            label: fault.label(),
            words: fault.to_string(),
            provider: provider.cloned(),
        })),
        ..denial.into()
    }
}

/// What the caller is told. Which fault it was stands in the log and in the audit trail.
const fn denial_of(fault: &SignOnFault) -> Denial {
    match (fault, fault.side()) {
        (SignOnFault::Saml(SamlFault::VerifierBusy), _) => Denial::Overloaded,
        (SignOnFault::NoRole, _) => Denial::NoRole,
        (SignOnFault::Busy, _) => Denial::Overloaded,
        (SignOnFault::NoRandomness, _) => Denial::Internal,
        (_, FaultSide::Browser) => Denial::SignOnInvalid,
        (_, FaultSide::Unavailable) => Denial::ProviderFailed,
        (_, FaultSide::Provider | FaultSide::Settings | FaultSide::Person) => Denial::SignOnRefused,
    }
}
