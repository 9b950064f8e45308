//! The log-out of a session by sign-on: it ends here first, and then the browser is sent to the provider, which ends its own.

use serde_json::json;

use crate::decide::accept::AnswerForm;
use crate::issue::call::{IssueError, Issued, ServedCall};
use crate::issue::engine::Engine;
use crate::sign_on::client::oidc_client;
use crate::sign_on::fault::SignOnFault;
use crate::snapshot::served_route::Extent;
use crate::snapshot::sign_on_route::{SamlUrls, SignOnRoute};

use super::provider::FoundProvider;
use super::saml::Departure;
use super::saml_log_out::{LeavingBySaml, log_out_page};
use super::{access, browser, refused_early};

/// A log-out as it was asked for.
pub(super) struct LogOutOrder<'r> {
    pub(super) extent: Extent,
    /// The routes by which SAML providers know us, if there are any.
    pub(super) saml: Option<&'r SamlUrls>,
}

/// Where the browser goes after its session ended here.
struct Leaving {
    way: Departure,
    cookie: Option<String>,
}

impl Engine {
    pub(super) async fn log_out_of_sign_on(
        &self,
        call: &ServedCall,
        route: &SignOnRoute,
        order: LogOutOrder<'_>,
    ) -> Result<Issued, IssueError> {
        let form = browser(call)?.form;
        let rules = &route.settings.return_to;
        let return_to = match call.body.text("return_to") {
            None => rules.first(),
            Some(address) if rules.admit(address) => address.to_owned(),
            Some(_) => return Err(refused_early(&SignOnFault::ReturnTo)),
        };
        let ended = self.log_out(call, order.extent).await?;
        let there = self.log_out_at_provider(call, route, order.saml, &return_to).await;
        let Leaving { way, cookie } = there.unwrap_or_else(|| Leaving {
            way: Departure::Redirect(return_to.clone()),
            cookie: None,
        });
        let mut fields = ended.fields;
        fields.extend(cookie.map(|cookie| ("Set-Cookie".to_owned(), cookie)));
        let (status, body) = match (form, way) {
            (AnswerForm::Html, Departure::Redirect(location)) => {
                fields.push(("Location".to_owned(), location));
                (303, None)
            }
            (AnswerForm::Html, Departure::Post(form)) => {
                let page = log_out_page(form)?;
                fields.extend(page.fields);
                (200, Some(page.body.to_vec()))
            }
            // A page that logs out by a script goes there itself: a script cannot follow a redirect to another site.
            (AnswerForm::Json, Departure::Redirect(location)) => (200, Some(json!({ "location": location }).to_string().into_bytes())),
            // One that does not know of the form leaves the session at the provider.
            (AnswerForm::Json, Departure::Post(form)) => {
                let posted = form.fields.into_iter().map(|(name, value)| (name, value.into()));
                let posted: serde_json::Map<String, serde_json::Value> = posted.collect();
                let body = json!({ "location": return_to, "form": { "action": form.action, "fields": posted } });
                (200, Some(body.to_string().into_bytes()))
            }
        };
        Ok(Issued {
            status,
            fields,
            body,
            ..ended
        })
    }

    /// How the browser gets to where the provider ends its session; `None` if there is no such address, or if it is not known now.
    /// The session here has ended in any case.
    async fn log_out_at_provider(
        &self,
        call: &ServedCall,
        route: &SignOnRoute,
        saml: Option<&SamlUrls>,
        return_to: &str,
    ) -> Option<Leaving> {
        let facts = &call.caller.as_ref()?.principal.facts;
        let provider = facts.ancestors.iter().find(|record| record.is_provider())?;
        let found = self.find_provider(&provider.id, self.clock.now().wall).await.ok()?;
        let known = match (found.settings.oidc(), saml) {
            (Some(_), _) => self.leave_by_oidc(&found, route, return_to).await,
            (None, Some(urls)) => {
                let sign_on = facts.ancestors.iter().find(|record| record.is_sign_on())?;
                let leaving = self.leave_by_saml(&found, urls, sign_on, return_to);
                leaving.map(|leaving| leaving.map(|LeavingBySaml { way, cookie }| Leaving { way, cookie: Some(cookie) }))
            }
            (None, None) => Ok(None),
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

    async fn leave_by_oidc(&self, found: &FoundProvider, route: &SignOnRoute, return_to: &str) -> Result<Option<Leaving>, SignOnFault> {
        let Some(oidc) = found.settings.oidc() else { return Ok(None) };
        let client = oidc_client(&found.record().id, oidc, &self.peppers)?;
        let location = self.oidc.log_out_url(&client, Some(return_to), &access(&route.settings)).await?;
        Ok(location.map(|location| Leaving {
            way: Departure::Redirect(location),
            cookie: None,
        }))
    }
}
