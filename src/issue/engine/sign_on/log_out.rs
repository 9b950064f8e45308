//! The log-out of a session by sign-on: it ends here first, and then the browser is sent to the provider, which ends its own.

use serde_json::json;

use crate::decide::accept::AnswerForm;
use crate::issue::call::{IssueError, Issued, ServedCall};
use crate::issue::engine::Engine;
use crate::sign_on::client::oidc_client;
use crate::sign_on::fault::SignOnFault;
use crate::snapshot::served_route::Extent;
use crate::snapshot::sign_on_route::SignOnRoute;

use super::{access, browser, refused_early};

impl Engine {
    pub(super) async fn log_out_of_sign_on(&self, call: &ServedCall, route: &SignOnRoute, extent: Extent) -> Result<Issued, IssueError> {
        let form = browser(call)?.form;
        let rules = &route.settings.return_to;
        let return_to = match call.body.text("return_to") {
            None => rules.first(),
            Some(address) if rules.admit(address) => address.to_owned(),
            Some(_) => return Err(refused_early(&SignOnFault::ReturnTo)),
        };
        let ended = self.log_out(call, extent).await?;
        // Who logs out does not come back by this sign-on.
        let above = call.caller.iter().flat_map(|caller| &caller.principal.facts.ancestors);
        self.drop_refresh_tokens(above.filter(|record| record.is_sign_on()).map(|record| &record.id))
            .await;
        let there = self.log_out_at_provider(call, route, &return_to).await;
        let location = there.unwrap_or(return_to);
        let mut fields = ended.fields;
        let (status, body) = match form {
            AnswerForm::Html => {
                fields.push(("Location".to_owned(), location));
                (303, None)
            }
            // A page that logs out by a script goes there itself: a script cannot follow a redirect to another site.
            AnswerForm::Json => (200, Some(json!({ "location": location }).to_string().into_bytes())),
        };
        Ok(Issued {
            status,
            fields,
            body,
            ..ended
        })
    }

    /// Where the provider ends its session; `None` if it has no such address, or if it is not known now. The session here has
    /// ended in any case.
    async fn log_out_at_provider(&self, call: &ServedCall, route: &SignOnRoute, return_to: &str) -> Option<String> {
        let facts = &call.caller.as_ref()?.principal.facts;
        let provider = facts.ancestors.iter().find(|record| record.is_provider())?;
        let found = self.find_provider(&provider.id, self.clock.now().wall).await.ok()?;
        let oidc = found.settings.oidc()?;
        let known = match oidc_client(&provider.id, oidc, &self.peppers) {
            Ok(client) => self.oidc.log_out_url(&client, Some(return_to), &access(&route.settings)).await,
            Err(fault) => Err(fault),
        };
        known.unwrap_or_else(|fault| {
            tracing::warn!(
                request_id = call.request_id,
                provider = %provider.id,
                cause = fault.label(),
                "a session was ended here and not at its provider: {fault}"
            );
            None
        })
    }
}
