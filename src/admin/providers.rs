//! Identity providers: what operators do with them. The checks, and the JSON, are those of administrators' routes too.

use serde_json::{Map, Value};

use crate::base::principal::CredentialRecord;
use crate::decide::surface::{SessionRecord, SurfaceKind};
use crate::sign_on::http::ProviderClient;
use crate::sign_on::management::authority::ProviderAuthority;
use crate::sign_on::management::error::ManagementError;
use crate::sign_on::management::forms::{CreateProvider, ProviderList, ProviderTest, ProviderView, UpdateProvider};
use crate::sign_on::management::trail::settings_lines;
use crate::sign_on::management::view::MAX_PAGE;
use crate::sign_on::management::{PlannedChange, ProviderManagement};
use crate::sign_on::provider::ProviderSettings;
use crate::sign_on::records::settings_id;
use crate::sign_on::saml::SamlVerifier;
use crate::snapshot::Snapshot;

use super::Operations;
use super::error::OperationError;
use super::receipts::Doubtful;
use super::surfaces::find_surface_of;
use super::text::{parse_id, parse_tenant};

impl Doubtful for ProviderView {}

impl From<ManagementError> for OperationError {
    fn from(error: ManagementError) -> Self {
        let words = error.to_string();
        match error {
            ManagementError::Settings(_) | ManagementError::Request(_) => Self::Usage(words),
            ManagementError::UnknownRole { tenant, .. } => Self::NotFound(format!(
                "{words}; `durward roles list --tenant {tenant}` shows the roles that it can use"
            )),
            ManagementError::NotFound(_) => Self::NotFound(words),
            ManagementError::Forbidden(_)
            | ManagementError::Deleted(_)
            | ManagementError::Sealed(..)
            | ManagementError::PepperLeaving(_)
            | ManagementError::DomainTaken(_)
            | ManagementError::Full(_) => Self::Conflict(words),
            ManagementError::Unavailable(_) => Self::Unavailable(words),
            ManagementError::Store(error) => error.into(),
        }
    }
}

/// What an operator manages providers with, for one operation.
struct OperatorTools {
    client: ProviderClient,
    verifier: SamlVerifier,
}

impl OperatorTools {
    fn new() -> Self {
        Self {
            client: ProviderClient::default(),
            verifier: SamlVerifier::of_this_program(),
        }
    }

    fn management<'a>(&'a self, operations: &'a Operations, snapshot: &'a Snapshot) -> ProviderManagement<'a> {
        ProviderManagement {
            store: &*operations.store,
            peppers: &operations.peppers,
            clock: &*operations.clock,
            snapshot,
            client: &self.client,
            verifier: &self.verifier,
            authority: &ProviderAuthority::Operator,
        }
    }
}

impl Operations {
    /// Makes an identity provider.
    ///
    /// # Errors
    /// [`OperationError::Usage`] with everything that is wrong, [`OperationError::NotFound`] without the tenant or a role,
    /// [`OperationError::Conflict`] for a domain of another tenant or too many providers, or an error of the store.
    pub async fn create_provider(&self, request: &CreateProvider) -> Result<ProviderView, OperationError> {
        let (snapshot, tools) = (self.snapshot.load(), OperatorTools::new());
        let tenant = parse_tenant(&request.tenant)?;
        if self.store.find_tenant(tenant.clone()).await?.is_none() {
            return Err(OperationError::NotFound(format!(
                "there is no tenant `{tenant}`; `durward tenants create {tenant}` makes it"
            )));
        }
        let mut request = request.clone();
        name_surfaces(&snapshot, &mut request.settings)?;
        let planned = tools.management(self, &snapshot).plan_creation(&tenant, &request).await?;
        let kind = planned.view.kind.clone();
        let view = self.make(planned).await?;
        tracing::info!(provider = view.id, %tenant, kind, "identity provider created");
        Ok(view)
    }

    /// Lists the identity providers, of one tenant if it is given.
    ///
    /// # Errors
    /// [`OperationError::Usage`], or an error of the store.
    pub async fn list_providers(
        &self,
        tenant: Option<&str>,
        after: Option<&str>,
        limit: Option<usize>,
    ) -> Result<ProviderList, OperationError> {
        let (snapshot, tools) = (self.snapshot.load(), OperatorTools::new());
        let limit = limit.unwrap_or(MAX_PAGE).clamp(1, MAX_PAGE);
        let tenant = tenant.map(parse_tenant).transpose()?;
        let after = after.map(parse_id).transpose()?;
        let management = tools.management(self, &snapshot);
        Ok(management.list(tenant.as_ref(), after.as_ref(), limit).await?)
    }

    /// Shows one identity provider.
    ///
    /// # Errors
    /// [`OperationError::NotFound`], or an error of the store.
    pub async fn show_provider(&self, id: &str) -> Result<ProviderView, OperationError> {
        let (snapshot, tools) = (self.snapshot.load(), OperatorTools::new());
        let management = tools.management(self, &snapshot);
        Ok(management.view(&management.find(parse_id(id)?.as_str()).await?)?)
    }

    /// Changes the settings, the secrets or the ceiling of a provider. All secrets are sealed anew under the first pepper.
    ///
    /// # Errors
    /// [`OperationError::Usage`] with everything that is wrong, [`OperationError::NotFound`], [`OperationError::Conflict`] for a
    /// deleted provider, a domain of another tenant, or a provider that somebody else changed at the same time; or an error of
    /// the store.
    pub async fn update_provider(&self, id: &str, request: &UpdateProvider) -> Result<ProviderView, OperationError> {
        let (snapshot, tools) = (self.snapshot.load(), OperatorTools::new());
        let planned = tools
            .management(self, &snapshot)
            .plan_update(parse_id(id)?.as_str(), request)
            .await?;
        let view = self.make(planned).await?;
        tracing::info!(provider = view.id, "identity provider changed");
        Ok(view)
    }

    /// Disables a provider, and with it everybody who signed on through it.
    ///
    /// # Errors
    /// [`OperationError::NotFound`], [`OperationError::Conflict`] for a deleted one, or an error of the store.
    pub async fn disable_provider(&self, id: &str) -> Result<ProviderView, OperationError> {
        let (snapshot, tools) = (self.snapshot.load(), OperatorTools::new());
        let planned = tools.management(self, &snapshot).plan_disabling(parse_id(id)?.as_str()).await?;
        let view = self.make(planned).await?;
        tracing::info!(provider = view.id, "identity provider disabled");
        Ok(view)
    }

    /// Enables a provider again.
    ///
    /// # Errors
    /// As [`disable_provider`](Self::disable_provider).
    pub async fn enable_provider(&self, id: &str) -> Result<ProviderView, OperationError> {
        let (snapshot, tools) = (self.snapshot.load(), OperatorTools::new());
        let planned = tools.management(self, &snapshot).plan_enabling(parse_id(id)?.as_str()).await?;
        let view = self.make(planned).await?;
        tracing::info!(provider = view.id, "identity provider enabled");
        Ok(view)
    }

    /// Deletes a provider for ever, and its secrets with it. Whoever signed on through it is logged out.
    ///
    /// # Errors
    /// [`OperationError::NotFound`], or an error of the store.
    pub async fn delete_provider(&self, id: &str) -> Result<ProviderView, OperationError> {
        let (snapshot, tools) = (self.snapshot.load(), OperatorTools::new());
        let planned = tools.management(self, &snapshot).plan_deletion(parse_id(id)?.as_str()).await?;
        if planned.new.changes.is_empty() {
            return Ok(planned.view);
        }
        let view = self.make(planned).await?;
        tracing::info!(provider = view.id, "identity provider deleted");
        Ok(view)
    }

    /// Asks an identity provider what a sign-on would ask, as the gateway would. Nothing is changed, and nobody is signed on.
    ///
    /// # Errors
    /// [`OperationError::NotFound`], or an error of the store. What is wrong with the provider is no error.
    pub async fn test_provider(&self, id: &str) -> Result<ProviderTest, OperationError> {
        let (snapshot, tools) = (self.snapshot.load(), OperatorTools::new());
        let management = tools.management(self, &snapshot);
        let found = management.find(parse_id(id)?.as_str()).await?;
        Ok(management.test(&found).await?)
    }

    async fn make(&self, planned: Box<PlannedChange>) -> Result<ProviderView, OperationError> {
        self.store.create(planned.new, self.clock.now().wall).await?;
        Ok(planned.view)
    }

    /// Seals the secrets of a provider anew if they are under another pepper than the first. Answers whether they were.
    pub(super) async fn reseal_provider(&self, settings: &CredentialRecord) -> Result<bool, OperationError> {
        let (snapshot, tools) = (self.snapshot.load(), OperatorTools::new());
        let Some(new) = tools.management(self, &snapshot).plan_resealing(settings).await? else {
            return Ok(false);
        };
        self.store.create(new, self.clock.now().wall).await?;
        Ok(true)
    }

    /// The settings of a provider as an entry of the audit trail tells them: each as a text, without secrets.
    pub(super) async fn settings_for_trail(&self, provider: &CredentialRecord) -> Option<Vec<Value>> {
        let record = self.store.find_credential(settings_id(&provider.id)?).await.ok()??;
        Some(settings_lines(&ProviderSettings::of_record(&record).ok()?))
    }
}

/// Names the surfaces of sessions and of accounts, where the operator does not and there is one alone.
fn name_surfaces(snapshot: &Snapshot, settings: &mut Map<String, Value>) -> Result<(), OperationError> {
    let is_session = |kind: &SurfaceKind| {
        let session = kind.session();
        session.is_some_and(|session| session.record == SessionRecord::Own && session.minting.is_some())
    };
    let is_account = |kind: &SurfaceKind| matches!(kind, SurfaceKind::Account(_));
    for (member, what, fits) in [
        ("session", "sessions", is_session as fn(&SurfaceKind) -> bool),
        ("account", "accounts", is_account),
    ] {
        if !settings.contains_key(member) {
            let surface = find_surface_of(snapshot, what, fits, None)?;
            settings.insert(member.into(), surface.name.as_str().into());
        }
    }
    Ok(())
}
