//! Log-ins: proves the account name and the password in a body.
//!
//! The order is: throttle, a slot to compute the hash, the account as the store has it, the hash. The order bounds what
//! guesses cost: a throttled attempt costs nothing, and only an attempt that has a slot reads from the store.

use std::net::IpAddr;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::base::denial::Denial;
use crate::base::principal::{Facts, Principal};
use crate::decide::authorize::Proof;
use crate::decide::surface::{AccountFields, Surface};
use crate::issue::call::IssueError;
use crate::issue::fields::CheckedBody;
use crate::issue::password::{PasswordError, Requester};
use crate::issue::throttle::AttemptKind;
use crate::resolver::Resolved;

use super::{AccessRecord, RequestContext, RequestRefusal};

/// Proves a password, with the same work whether the account exists or not. Cancel-safe: an attempt whose client leaves
/// stays counted, and gives back the slot for which it waited.
pub(super) async fn prove(
    context: RequestContext<'_>,
    surface: &Surface,
    fields: &AccountFields,
    body: &CheckedBody,
    access: &AccessRecord,
) -> Result<Resolved, RequestRefusal> {
    let worker = context.worker;
    let given = body.text(&fields.login.name).zip(body.secret(&fields.password.name));
    let (login, password) = given.ok_or(Denial::MissingCredential)?;
    let throttle = worker.engine.throttle();
    let account = worker.resolver.login_fingerprint(surface, login);
    let attempt = throttle.attempt(AttemptKind::LogIn, account, access.client(), access.now().boot);
    let attempt = attempt.map_err(IssueError::from)?;
    let requester = if attempt.is_of_known_network() {
        Requester::Known
    } else {
        Requester::LogIn
    };
    let checked = check_password(context, surface, login, password, requester, access.client()).await;
    // Computing the hash took time.
    let now = worker.clock.now();
    match checked {
        Ok((Some(facts), true)) => {
            throttle.succeed(attempt, now.boot);
            let proof = Proof::of_password(&facts.credential);
            Ok(Resolved {
                principal: Principal::new(facts, None),
                proof,
                now,
            })
        }
        Ok((Some(_), false)) => Err(Denial::WrongSecret.into()),
        Ok((None, _)) => Err(Denial::UnknownCredential.into()),
        Err(denial) => {
            // An attempt that could not be judged is not a failed one.
            throttle.withdraw(attempt, now.boot);
            Err(denial.into())
        }
    }
}

/// Reads the account of this name and checks the password. The cache is not used, since the password may have been
/// changed at another gateway a moment ago.
async fn check_password(
    context: RequestContext<'_>,
    surface: &Surface,
    login: &str,
    password: Zeroizing<String>,
    requester: Requester,
    address: IpAddr,
) -> Result<(Option<Arc<Facts>>, bool), Denial> {
    let worker = context.worker;
    let slot = worker.engine.passwords().acquire(requester, address).await;
    let slot = slot.map_err(denial_of)?;
    let facts = worker
        .resolver
        .resolve_login(surface, login, address, worker.clock.now().boot)
        .await?;
    let record = facts.as_deref().map(|facts| &facts.credential);
    let hash = record.and_then(|record| record.extras.as_ref()?.password.as_ref());
    let hash = hash.map(|hash| Zeroizing::new(hash.expose().to_owned()));
    let is_right = slot.verify(hash, password).await.map_err(denial_of)?;
    Ok((facts, is_right))
}

const fn denial_of(error: PasswordError) -> Denial {
    match error {
        PasswordError::Busy => Denial::Overloaded,
        PasswordError::Hash => Denial::CorruptRecord,
        PasswordError::Length | PasswordError::System => Denial::Internal,
    }
}
