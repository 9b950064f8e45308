//! Credentials that are written into Redis as scripts leave them, but many in one command and without events: ten million would
//! take a quarter of an hour through the store's interface. No gateway may run meanwhile.

use std::io::Write;

use durward::base::fingerprint::{Fingerprint, Pepper};
use durward::base::ids::{CredentialId, SurfaceName};
use durward::base::key::GeneratedKey;
use durward::store::codec;

use crate::records::record;
use crate::{Fallible, OF_ONE_TENANT, tenant_id};

/// Credentials of one pipeline.
const BATCH: usize = 1_000;

/// Writes so many credentials, whose tenants are there; their fingerprints. The first `hot` ones have keys that can be presented:
/// `out` gets their lines.
///
/// # Errors
/// Redis refuses, or cannot be reached.
pub(crate) fn fill(url: &str, pepper: &Pepper, (count, hot): (usize, usize), out: &mut dyn Write) -> Fallible<Vec<Fingerprint>> {
    let mut connection = redis::Client::open(url)?.get_connection()?;
    let surface = SurfaceName::parse("api")?;
    // Nobody presents the other keys, so one is enough to make records of their size.
    let other = GeneratedKey::mint("hlive_")?;
    let mut fingerprints = Vec::with_capacity(count);
    for from in (0..count).step_by(BATCH) {
        let part = from..count.min(from + BATCH);
        let (mut records, mut index, mut ids) = (redis::cmd("HSET"), redis::cmd("HSET"), redis::cmd("ZADD"));
        records.arg("{durward}:c");
        index.arg("{durward}:f");
        ids.arg("{durward}:ids");
        let (mut pipe, size) = (redis::pipe(), part.len());
        for number in part {
            let (id, tenant) = (CredentialId::parse(&format!("key_{number}"))?, tenant_id(number / OF_ONE_TENANT)?);
            let made = if number < hot {
                let key = GeneratedKey::mint("hlive_")?;
                writeln!(out, "{} {tenant} {id}", key.expose())?;
                record(id.clone(), &surface, &tenant, (pepper, &key))?
            } else {
                let mut made = record(id.clone(), &surface, &tenant, (pepper, &other))?;
                made.fingerprint = Fingerprint::of_id(&surface, &id);
                made
            };
            let fingerprint = made.fingerprint;
            records.arg(id.as_str()).arg(codec::encode_credential(&made)?);
            index.arg(fingerprint.to_hex()).arg(format!("{id} {tenant}"));
            ids.arg(0).arg(id.as_str());
            pipe.cmd("ZADD")
                .arg(format!("{{durward}}:ids:{tenant}"))
                .arg(0)
                .arg(id.as_str())
                .ignore();
            fingerprints.push(fingerprint);
        }
        for command in [records, index, ids] {
            pipe.add_command(command).ignore();
        }
        for counted in ["credentials", "fingerprints"] {
            pipe.cmd("HINCRBY").arg("{durward}:meta").arg(counted).arg(size).ignore();
        }
        pipe.query::<()>(&mut connection)?;
    }
    Ok(fingerprints)
}
