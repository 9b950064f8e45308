//! Tests a provider before anybody signs on: asks everything that a log-in needs, and says all that is wrong at once.

use crate::base::clock::Now;
use crate::base::credential::TokenFault;
use crate::decide::external::{KeyMiss, KeySet};

use super::fault::{Ago, Ahead, SignOnFault};
use super::http::{ProviderAccess, ProviderClient};
use super::oidc::{AuthorizationCode, LogInValue, OidcClient, ProviderMetadata};

/// Largest difference of clocks that is not worth a word, in milliseconds: answers take their time, and dates are in whole seconds.
const CLOCKS: i64 = 30_000;

/// One thing that a test found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderFinding {
    pub level: FindingLevel,
    /// The word for programs: that of a fault, or of the warning. It stays the same between versions.
    pub label: &'static str,
    /// For people.
    pub words: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FindingLevel {
    /// It is as it must be.
    Good,
    /// People can sign on, and something does not work or will not for long.
    Warning,
    /// Nobody can sign on.
    Mistake,
}

/// What a fault is told as, to whoever asked for the test.
pub type FaultWords<'w> = &'w (dyn Fn(&SignOnFault) -> String + Sync);

/// What a test found so far.
struct Findings<'w> {
    all: Vec<ProviderFinding>,
    words: FaultWords<'w>,
}

impl Findings<'_> {
    fn good(&mut self, label: &'static str, words: impl Into<String>) {
        self.push(FindingLevel::Good, label, words.into());
    }

    fn warn(&mut self, label: &'static str, words: impl Into<String>) {
        self.push(FindingLevel::Warning, label, words.into());
    }

    fn mistake(&mut self, fault: &SignOnFault) {
        self.push(FindingLevel::Mistake, fault.label(), (self.words)(fault));
    }

    fn push(&mut self, level: FindingLevel, label: &'static str, words: String) {
        self.all.push(ProviderFinding { level, label, words });
    }
}

/// Tests an OpenID Connect provider: its configuration, clock and keys, and whether it takes the client's secret or key. For the
/// last, a code that nobody was given is sent, which proves and uses up nothing.
pub async fn probe_oidc(
    provider: &ProviderClient,
    client: &OidcClient,
    redirect_uri: &str,
    access: &ProviderAccess,
    now: Now,
    words: FaultWords<'_>,
) -> Vec<ProviderFinding> {
    let mut findings = Findings { all: Vec::new(), words };
    let metadata = match provider.dated_metadata(&client.issuer, access).await {
        Ok(dated) => {
            findings.good("configuration", format!("the configuration is that of `{}`", client.issuer));
            if let Some(date) = dated.date {
                compare_clocks(date.0 - now.wall.0, &mut findings);
            }
            dated.metadata
        }
        Err(fault) => {
            findings.mistake(&fault);
            return findings.all;
        }
    };
    judge_metadata(&metadata, client, &mut findings);
    match provider.keys(&metadata, client.unnamed_rsa(), access).await {
        Ok(keys) => judge_keys(&keys, client, &mut findings),
        Err(fault) => findings.mistake(&fault),
    }
    if let Err(fault) = try_client(provider, client, redirect_uri, &metadata, access, now, &mut findings).await {
        findings.mistake(&fault);
    }
    findings.all
}

fn compare_clocks(ahead: i64, findings: &mut Findings<'_>) {
    if ahead > CLOCKS {
        findings.warn(
            "clock",
            format!(
                "the provider's clock is {} of this gateway's; tokens from the future are refused",
                Ahead(ahead)
            ),
        );
    } else if ahead < -CLOCKS {
        findings.warn(
            "clock",
            format!(
                "by the provider's clock it is {} by this gateway's; tokens that have expired are refused",
                Ago(-ahead)
            ),
        );
    }
}

fn judge_metadata(metadata: &ProviderMetadata, client: &OidcClient, findings: &mut Findings<'_>) {
    let method = client.authentication.as_str();
    if !metadata.authentication_methods.iter().any(|own| own == method) {
        findings.warn(
            "authentication_method",
            format!(
                "the provider does not announce `{method}` for its token endpoint; it announces {}",
                metadata.authentication_methods.join(", ").escape_debug()
            ),
        );
    }
    if client.userinfo && metadata.userinfo_endpoint.is_none() {
        findings.mistake(&SignOnFault::MetadataMember("userinfo_endpoint"));
    }
    if client.refresh_tokens {
        judge_refresh_tokens(metadata, client, findings);
    }
    if !metadata.back_channel_log_out {
        findings.warn(
            "no_back_channel_log_out",
            "the provider does not announce back-channel logout: a session that ends there goes on here until its own end",
        );
    }
    if metadata.end_session_endpoint.is_none() {
        findings.warn(
            "no_end_session",
            "the provider has no `end_session_endpoint`: who logs out here stays logged in there",
        );
    }
}

/// Without refresh tokens people sign on all the same, and their roles stay those of the sign-on.
fn judge_refresh_tokens(metadata: &ProviderMetadata, client: &OidcClient, findings: &mut Findings<'_>) {
    if metadata.names_refresh_tokens == Some(false) {
        findings.warn(
            "no_refresh_tokens",
            "the provider does not name `refresh_token` among its `grant_types_supported`: roles will stay those of the sign-on",
        );
    }
    match (client.asks_for_offline_access(), metadata.names_offline_access) {
        (true, Some(false)) => findings.warn(
            "unknown_scope",
            "the scope `offline_access` is asked for, and the provider does not name it among its `scopes_supported`: it may refuse the \
             log-in, or give no refresh token",
        ),
        (false, Some(true)) => findings.warn(
            "scope_not_asked_for",
            "the provider has the scope `offline_access`, which is not asked for: it may give no refresh token without it \
             (`--oidc-scope offline_access`, beside the others)",
        ),
        _ => {}
    }
}

fn judge_keys(keys: &KeySet, client: &OidcClient, findings: &mut Findings<'_>) {
    if let Some(ignored) = keys.warning() {
        findings.warn("keys_left_out", format!("keys of the provider are left out: {ignored}"));
    }
    if keys.is_empty() {
        return findings.mistake(&SignOnFault::Token(TokenFault::NoKeys));
    }
    let has_key = |name: &String| !matches!(keys.find(None, name).err(), Some(KeyMiss::UnknownKid | KeyMiss::Unfit));
    if client.algorithms.is_empty() || client.algorithms.iter().any(has_key) {
        findings.good("keys", format!("{} keys can verify ID tokens", keys.len()));
    } else {
        findings.mistake(&SignOnFault::NoKeyOfAlgorithms);
    }
}

async fn try_client(
    provider: &ProviderClient,
    client: &OidcClient,
    redirect_uri: &str,
    metadata: &ProviderMetadata,
    access: &ProviderAccess,
    now: Now,
    findings: &mut Findings<'_>,
) -> Result<(), SignOnFault> {
    let (code, verifier) = (AuthorizationCode::of_nobody()?, LogInValue::random()?);
    let request = client.token_request(metadata, redirect_uri, &code, &verifier, now.wall)?;
    match provider.tokens(metadata, request, access).await {
        // The client is judged before the code.
        Err(SignOnFault::CodeRefused(_)) => findings.good("client", "the provider takes the client's secret or key"),
        Err(fault @ SignOnFault::TokensRefused(..)) => {
            findings.warn(
                "client_unknown",
                format!(
                    "whether the client's secret or key is right is not known: {}",
                    (findings.words)(&fault)
                ),
            );
        }
        Err(fault) => return Err(fault),
        Ok(_) => return Err(SignOnFault::TokensForNobody),
    }
    Ok(())
}
