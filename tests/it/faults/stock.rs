//! Keys by the thousand, written into the store as gateways do, and keys that nobody made.

use std::sync::Arc;
use std::time::Duration;

use durward::base::clock::{SystemClock, UnixMillis};
use durward::base::fingerprint::{CredentialPart, Pepper, PepperChecks};
use durward::base::ids::{CredentialId, SurfaceName, TenantId};
use durward::base::key::GeneratedKey;
use durward::base::principal::{CredentialRecord, CredentialState};
use durward::base::scope::{Mode, Scope};
use durward::store::redis::{RedisSettings, RedisStore, RedisUrl, WaitReplicas};
use durward::store::{NewRecords, RecordStore as _};
use futures_util::{StreamExt as _, stream};

use crate::support::redis::RedisServer;

use super::scene::{Caller, PEPPER, TENANT};

/// Credentials of one change: the most there may be.
const TOGETHER: usize = 8;

/// Changes on their way at a time.
const AT_ONCE: usize = 64;

/// Whether a key has a MAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Age {
    /// As they are made now.
    Marked,
    /// As older versions made them.
    Unmarked,
}

fn pepper() -> Pepper {
    Pepper::new(PEPPER.as_bytes()).unwrap()
}

/// Makes so many keys of the scene's tenant, in the time that the store needs.
pub(super) fn make_keys(redis: &RedisServer, count: usize, age: Age) -> Vec<Caller> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let settings = RedisSettings {
        access: RedisUrl::parse(&redis.url().into()).unwrap().into_access(None),
        key_prefix: "durward".into(),
        wait_replicas: WaitReplicas::Count(0),
        lookup_timeout: Duration::from_secs(5),
        max_age: Duration::from_secs(30),
        peppers: PepperChecks::one(pepper().check()),
        registered: None,
    };
    let handle = runtime.handle().clone();
    runtime.block_on(async {
        let store = RedisStore::open(settings, Arc::new(SystemClock), handle).await.unwrap();
        let made: Vec<_> = (0..count).map(|number| make_key(number, age)).collect();
        let written = made.chunks(TOGETHER).map(|part| {
            let new = NewRecords {
                credentials: part.iter().map(|(record, _)| record.clone()).collect(),
                ..NewRecords::default()
            };
            store.create(new, UnixMillis(1))
        });
        let written: Vec<_> = stream::iter(written).buffer_unordered(AT_ONCE).collect().await;
        assert!(written.iter().all(Result::is_ok), "{:?}", written.iter().find(|one| one.is_err()));
        made.into_iter().map(|(_, caller)| caller).collect()
    })
}

fn make_key(number: usize, age: Age) -> (CredentialRecord, Caller) {
    let pepper = pepper();
    let key = match age {
        Age::Marked => GeneratedKey::mint_marked("tlive_", 43, &pepper),
        Age::Unmarked => GeneratedKey::mint("tlive_"),
    };
    let (key, surface) = (key.unwrap(), SurfaceName::parse("api").unwrap());
    let id = format!("key_{age:?}_{number}").to_lowercase();
    let record = CredentialRecord {
        id: CredentialId::parse(&id).unwrap(),
        tenant: TenantId::parse(TENANT).unwrap(),
        subject: None,
        mode: Some(Mode::Live),
        scopes: [Scope::parse("orders:read").unwrap()].into_iter().collect(),
        state: CredentialState::Active,
        fingerprint: pepper.fingerprint(&surface, CredentialPart::Key, key.expose().as_bytes()),
        surface,
        secret_fingerprint: None,
        prefix: key.prefix().to_owned(),
        last4: key.last4().to_owned(),
        name: None,
        created_at: UnixMillis(1),
        not_before: None,
        expires_at: None,
        valid_after: None,
        epoch: 0,
        pepper: None,
        extras: None,
    };
    let caller = Caller {
        id,
        bearer: key.expose().to_owned(),
        ..Caller::nobody()
    };
    (
        record,
        Caller {
            tenant: TENANT.to_owned(),
            ..caller
        },
    )
}

/// A key in the form that keys have now, with a right checksum and a MAC of somebody else's pepper.
pub(super) fn forge() -> Caller {
    let other = Pepper::new(&[9; 32]).unwrap();
    Caller {
        bearer: GeneratedKey::mint_marked("tlive_", 43, &other).unwrap().expose().to_owned(),
        ..Caller::nobody()
    }
}
