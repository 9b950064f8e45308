//! Log-ins: who an account's name and password in a body prove to be.
//!
//! throttle -> a place to hash -> the account, asked of the store -> the hash. The order bounds what guesses
//! cost: whoever tried too often costs nothing, and the store is asked by those who have a place only.

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

use super::{Asked, Exchange, Refused};

/// Proves a password, with the same work whether the account exists or not. Cancel-safe: whoever leaves has
/// had the try, and gives back the place it waited for.
pub(super) async fn prove(
    asked: Asked<'_>,
    surface: &Surface,
    fields: &AccountFields,
    body: &CheckedBody,
    exchange: &Exchange,
) -> Result<Resolved, Refused> {
    let worker = asked.worker;
    let given = body.text(&fields.login.name).zip(body.secret(&fields.password.name));
    let (login, password) = given.ok_or(Denial::MissingCredential)?;
    let throttle = worker.engine.throttle();
    let account = worker.resolver.login_fingerprint(surface, login);
    let attempt = throttle.attempt(AttemptKind::LogIn, account, exchange.client(), exchange.now().boot);
    let attempt = attempt.map_err(IssueError::from)?;
    let side = if attempt.is_of_known_network() {
        Requester::Known
    } else {
        Requester::LogIn
    };
    let judged = judge(asked, surface, (login, password), (side, exchange.client())).await;
    // The hash took its time.
    let now = worker.clock.now();
    match judged {
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
            // Who could not be judged did not fail.
            throttle.withdraw(attempt, now.boot);
            Err(denial.into())
        }
    }
}

/// The account of this name, and whether the password is its. What is remembered of the account is not
/// asked: at another gateway the password may have been changed a moment ago.
async fn judge(
    asked: Asked<'_>,
    surface: &Surface,
    (login, password): (&str, Zeroizing<String>),
    (side, address): (Requester, IpAddr),
) -> Result<(Option<Arc<Facts>>, bool), Denial> {
    let worker = asked.worker;
    let place = worker.engine.passwords().place(side, address).await;
    let place = place.map_err(denial_of)?;
    let facts = worker
        .resolver
        .resolve_login(surface, (login, address), worker.clock.now().boot)
        .await?;
    let record = facts.as_deref().map(|facts| &facts.credential);
    let hash = record.and_then(|record| record.extras.as_ref()?.password.as_ref());
    let hash = hash.map(|hash| Zeroizing::new(hash.expose().to_owned()));
    let right = place.verify(hash, password).await.map_err(denial_of)?;
    Ok((facts, right))
}

const fn denial_of(error: PasswordError) -> Denial {
    match error {
        PasswordError::Busy => Denial::Overloaded,
        PasswordError::Hash => Denial::CorruptRecord,
        PasswordError::Length | PasswordError::System => Denial::Internal,
    }
}
