//! Operations on peppers: show which credentials depend on each, move accounts to the first pepper, drop an old pepper.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::clock::UnixMillis;
use crate::base::fingerprint::PepperMark;
use crate::base::key::{IdKind, mint_id};
use crate::base::login::login_fingerprint;
use crate::base::principal::{CredentialRecord, CredentialState};
use crate::sign_on::provider::ProviderSettings;
use crate::sign_on::seal::mark_of;
use crate::store::{ChangeError, CredentialFilter, ListedPepper, MAX_LIST, PepperList, UnderPepper, pepper_of};

use super::Operations;
use super::error::OperationError;
use super::keys::{KeyList, KeyView};
use super::text::{PAGE, parse_id, parse_surface, parse_tenant, printable, write};

/// How long one call moves accounts before it answers where the next call must begin. It is well within the time of an
/// operation, also with a disk that needs milliseconds for each account.
const MOVING: Duration = Duration::from_secs(10);

/// What depends on each pepper.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PepperUses {
    /// The oldest one stands first.
    pub peppers: Vec<PepperView>,
    /// Credentials in force under a pepper that the store does not list: no look-up finds them.
    pub unlisted: u64,
}

/// One pepper of the store, and the credentials in force (neither revoked nor expired) that are found
/// only with it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PepperView {
    /// The beginning of its check value.
    pub mark: String,
    /// Whether this gateway makes new credentials under it.
    pub first: bool,
    /// Whether it is being dropped.
    pub leaving: bool,
    pub credentials: u64,
    /// Accounts, which move by themselves (`durward peppers move`).
    pub accounts: u64,
    /// Identity providers with a secret that is sealed under it. `durward peppers move` seals them anew.
    #[serde(default)]
    pub providers: u64,
    /// How many of both do not expire.
    pub lasting: u64,
    /// When the last of the others expires, RFC 3339.
    pub latest_expiry: Option<String>,
    /// When it can be dropped: `now`, or a time (RFC 3339). None while something under it does not
    /// expire, and of the first one.
    pub droppable: Option<String>,
}

/// The answer to a move of accounts.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct MovedAccounts {
    /// Accounts that moved to the first pepper.
    pub moved: u64,
    /// Identity providers whose secrets were sealed anew under the first pepper.
    #[serde(default)]
    pub resealed: u64,
    /// Ids of accounts that could not be moved, since another account has their address already.
    pub taken: Vec<String>,
    /// Where the next call begins (`after`); none when all accounts were looked at.
    pub next: Option<String>,
}

/// Credentials in force that depend on one pepper.
#[derive(Debug, Clone, Copy, Default)]
struct PepperUse {
    credentials: u64,
    accounts: u64,
    providers: u64,
    lasting: u64,
    latest: Option<i64>,
}

impl PepperUse {
    const fn all(&self) -> u64 {
        self.credentials + self.accounts + self.providers
    }

    /// Notes a provider with secrets that are sealed under the pepper.
    const fn note_provider(&mut self) {
        self.providers += 1;
        self.lasting += 1;
    }

    fn note(&mut self, record: &CredentialRecord) {
        match record.login() {
            Some(_) if !record.is_person_of_provider() => self.accounts += 1,
            _ => self.credentials += 1,
        }
        match record.expires_at {
            Some(end) => self.latest = self.latest.max(Some(end.0)),
            None => self.lasting += 1,
        }
    }
}

impl Operations {
    /// What depends on each pepper. Reads every credential, page by page.
    ///
    /// # Errors
    /// An error of the store.
    pub async fn list_peppers(&self) -> Result<PepperUses, OperationError> {
        let list = self.store.peppers().await?;
        self.uses_of(&list).await
    }

    async fn uses_of(&self, list: &PepperList) -> Result<PepperUses, OperationError> {
        let mut uses = vec![PepperUse::default(); list.listed().len()];
        let mut unlisted = PepperUse::default();
        let (now, oldest) = (self.clock.now().wall, list.oldest());
        let mut after = None;
        loop {
            let page = self.page_of(after).await?;
            let in_force = |record: &&CredentialRecord| {
                !matches!(record.state, CredentialState::Revoked { .. }) && record.expires_at.is_none_or(|end| now < end)
            };
            for record in page.iter().filter(in_force) {
                for mark in seals_of(record) {
                    let place = list.listed().iter().position(|listed| listed.check.mark() == mark);
                    let uses = place.and_then(|place| uses.get_mut(place));
                    uses.unwrap_or(&mut unlisted).note_provider();
                }
                let Some(mark) = pepper_of(record, oldest) else { continue };
                let place = list.listed().iter().position(|listed| listed.check.mark() == mark);
                let uses = place.and_then(|place| uses.get_mut(place));
                uses.unwrap_or(&mut unlisted).note(record);
            }
            after = page.last().map(|record| record.id.clone());
            if page.len() < MAX_LIST {
                break;
            }
        }
        let own = self.peppers.first().check();
        let views = list.listed().iter().zip(&uses);
        Ok(PepperUses {
            peppers: views.map(|(listed, uses)| view(listed, *uses, listed.check == own)).collect(),
            unlisted: unlisted.all(),
        })
    }

    async fn page_of(&self, after: Option<crate::base::ids::CredentialId>) -> Result<Vec<CredentialRecord>, OperationError> {
        let filter = CredentialFilter {
            after,
            limit: MAX_LIST,
            ..CredentialFilter::default()
        };
        Ok(self.store.list_credentials(filter).await?)
    }

    /// Lists the credentials in force that depend on the pepper of this mark.
    ///
    /// # Errors
    /// [`OperationError::NotFound`] when the store does not list it, or an error of the store.
    pub async fn list_keys_under(
        &self,
        mark: &str,
        tenant: Option<&str>,
        surface: Option<&str>,
        after: Option<&str>,
        limit: Option<usize>,
    ) -> Result<KeyList, OperationError> {
        let limit = limit.unwrap_or(PAGE).clamp(1, PAGE);
        let list = self.store.peppers().await?;
        let mark = find_listed(&list, mark)?.check.mark();
        let filter = CredentialFilter {
            tenant: tenant.map(parse_tenant).transpose()?,
            surface: surface.map(parse_surface).transpose()?,
            pepper: Some(UnderPepper {
                mark,
                oldest: list.oldest(),
            }),
            live_at: Some(self.clock.now().wall),
            after: after.map(parse_id).transpose()?,
            limit,
            ..CredentialFilter::default()
        };
        let found = self.store.list_credentials(filter).await?;
        let next = (found.len() == limit).then(|| found.last().map(|r| r.id.as_str().to_owned()));
        Ok(KeyList {
            keys: found.iter().map(KeyView::from).collect(),
            next: next.flatten(),
        })
    }

    /// Moves the accounts after `after` to the first pepper. Their log-in names are stored, so their owners need to do
    /// nothing. Revoked accounts are moved too, so that nobody else can take their addresses. Each account is moved in a
    /// step of its own.
    ///
    /// # Errors
    /// An error of the store. Accounts that were moved before it stay moved.
    pub async fn move_accounts(&self, after: Option<&str>) -> Result<MovedAccounts, OperationError> {
        let mut result = MovedAccounts::default();
        let mut after = after.map(parse_id).transpose()?;
        let began = self.clock.now().boot;
        loop {
            let page = self.page_of(after.clone()).await?;
            for record in &page {
                after = Some(record.id.clone());
                self.move_account(record, &mut result).await?;
                if self.clock.now().boot.since(began) >= MOVING {
                    result.next = after.map(|id| id.as_str().to_owned());
                    return Ok(result);
                }
            }
            if page.len() < MAX_LIST {
                return Ok(result);
            }
        }
    }

    async fn move_account(&self, record: &CredentialRecord, result: &mut MovedAccounts) -> Result<(), OperationError> {
        if record.is_provider_settings() && !matches!(record.state, CredentialState::Revoked { .. }) {
            result.resealed += u64::from(self.reseal_provider(record).await?);
            return Ok(());
        }
        // A person of an identity provider is not found by the address, and moves at the next sign-on.
        let by_login = record.needs_pepper() && !record.is_person_of_provider();
        let Some(login) = record.login().filter(|_| by_login) else {
            return Ok(());
        };
        let fingerprint = login_fingerprint(self.peppers.first(), &record.surface, login);
        if record.fingerprint == fingerprint {
            return Ok(());
        }
        match self.store.move_login(record.id.clone(), fingerprint).await {
            Ok(_) => result.moved += 1,
            Err(ChangeError::Taken(_)) => result.taken.push(record.id.as_str().to_owned()),
            // The store has forgotten the account meanwhile.
            Err(ChangeError::NotFound(_)) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Removes a pepper from the list of the store, if no credential in force depends on it. No credential is made under the
    /// pepper from the beginning of the count on, so a count of zero stays right.
    ///
    /// # Errors
    /// [`OperationError::NotFound`] when it is not on the list; [`OperationError::Conflict`] when
    /// something depends on it, or this gateway makes new credentials under it; or an error of the store:
    /// then it may be on its way out, and the command is to be repeated.
    pub async fn drop_pepper(&self, mark: &str) -> Result<PepperUses, OperationError> {
        let list = self.store.peppers().await?;
        let check = find_listed(&list, mark)?.check;
        if check == self.peppers.first().check() {
            return Err(OperationError::Conflict(format!(
                "this gateway makes new credentials under pepper {mark}: put another one first and start it again"
            )));
        }
        // A random word marks this call. When two operators drop the pepper at the same time, one of them fails.
        let word = mint_id(IdKind::Key, UnixMillis(0)).map_err(|error| OperationError::Unavailable(error.to_string()))?;
        let leaving = list.leaving(check, Some(word.as_str()));
        self.replace_peppers(&list, &leaving).await?;
        let stays = leaving.leaving(check, None);
        let uses = match self.uses_of(&leaving).await {
            Ok(uses) => uses,
            Err(error) => {
                // If this fails too, the pepper stays marked as leaving until the command is repeated.
                let _ = self.replace_peppers(&leaving, &stays).await;
                return Err(error);
            }
        };
        let used = uses.peppers.iter().find(|view| view.mark == mark);
        if let Some(view) = used.filter(|view| view.credentials + view.accounts + view.providers > 0) {
            self.replace_peppers(&leaving, &stays).await?;
            let providers = match view.providers {
                0 => String::new(),
                count => format!(", and secrets of {count} identity providers"),
            };
            return Err(OperationError::Conflict(format!(
                "{} keys and {} accounts in force{providers} depend on pepper {mark}: rotate or revoke the keys \
                 (`durward keys list --pepper {mark}`), move the rest (`durward peppers move`)",
                view.credentials, view.accounts
            )));
        }
        let after = leaving.without(check);
        self.replace_peppers(&leaving, &after).await?;
        tracing::info!(pepper = mark, "a pepper was dropped: gateways need it no more");
        let left = uses.peppers.into_iter().filter(|view| view.mark != mark);
        Ok(PepperUses {
            peppers: left.collect(),
            unlisted: uses.unlisted,
        })
    }

    async fn replace_peppers(&self, before: &PepperList, after: &PepperList) -> Result<(), OperationError> {
        if self.store.set_peppers(before.clone(), after.clone()).await? {
            return Ok(());
        }
        Err(OperationError::Conflict(
            "another gateway or operator changed the list of peppers at the same time; repeat the command".into(),
        ))
    }
}

fn find_listed<'l>(list: &'l PepperList, mark: &str) -> Result<&'l ListedPepper, OperationError> {
    let parsed = PepperMark::parse(mark).ok_or_else(|| {
        OperationError::Usage(format!(
            "`{}` is not a pepper's mark: eight characters of 0-9 a-f, as `durward peppers` shows them",
            printable(mark)
        ))
    })?;
    let listed = list.find(parsed);
    listed.ok_or_else(|| OperationError::NotFound(format!("the store has no pepper {mark}; `durward peppers` lists them")))
}

/// The peppers that the secrets in these settings are sealed under, each once. Settings that cannot be read count under none:
/// nobody can open what is in them.
fn seals_of(record: &CredentialRecord) -> Vec<PepperMark> {
    if !record.is_provider_settings() {
        return Vec::new();
    }
    let Ok(settings) = ProviderSettings::of_record(record) else {
        return Vec::new();
    };
    let mut marks: Vec<PepperMark> = settings.sealed().filter_map(|(_, text)| mark_of(text)).collect();
    marks.sort_unstable();
    marks.dedup();
    marks
}

fn view(listed: &ListedPepper, uses: PepperUse, first: bool) -> PepperView {
    let latest = uses.latest.map(|end| write(crate::base::clock::UnixMillis(end)));
    let droppable = match (first, uses.all(), uses.lasting) {
        (true, ..) => None,
        (false, 0, _) => Some("now".to_owned()),
        (false, _, 0) => latest.clone(),
        (false, ..) => None,
    };
    PepperView {
        mark: listed.check.mark().to_string(),
        first,
        leaving: listed.leaving.is_some(),
        credentials: uses.credentials,
        accounts: uses.accounts,
        providers: uses.providers,
        lasting: uses.lasting,
        latest_expiry: latest,
        droppable,
    }
}
