//! Which credentials were in use lately: what a gateway that starts reads ahead.

use super::super::dial::Wire;
use super::super::fault::Fault;
use super::{Scripts, run};
use crate::base::fingerprint::Fingerprint;

/// Hashes over which the list is spread, so that no call holds the server up with all of it.
pub(in super::super) const PARTS: usize = 64;

/// Most entries of one hash: 128,000 in all, some 12 MiB.
const MOST: usize = 2_000;

/// How long an entry is good, in seconds: gateways say every five minutes what is still in use.
const GOOD_FOR: u32 = 900;

/// KEYS meta busy; ARGV pepper most, then fingerprints. A hash that is full loses its oldest quarter.
pub(super) const NOTE: &str = "
local now, most = redis.call('TIME')[1], tonumber(ARGV[2])
for i = 3, #ARGV do redis.call('HSET', KEYS[2], ARGV[i], now) end
if redis.call('HLEN', KEYS[2]) > most then
  local all, entries = redis.call('HGETALL', KEYS[2]), {}
  for i = 1, #all, 2 do entries[#entries + 1] = {tonumber(all[i + 1]) or 0, all[i]} end
  table.sort(entries, function(a, b) return a[1] < b[1] end)
  for i = 1, #entries - math.floor(most * 3 / 4) do redis.call('HDEL', KEYS[2], entries[i][2]) end
end
return 1
";

/// KEYS busy; ARGV seconds. Answers the fingerprints that are still good, with their ages in seconds. Does not ask whether the
/// store has data: it has none before the first tenant, and then the list is empty.
pub(super) const READ: &str = "
local now, reply = tonumber(redis.call('TIME')[1]), {}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local age = now - (tonumber(all[i + 1]) or 0)
  if age <= tonumber(ARGV[1]) then
    reply[#reply + 1] = all[i]
    reply[#reply + 1] = tostring(math.max(age, 0))
  end
end
return reply
";

/// The hash that a fingerprint is listed in.
pub(in super::super) fn part_of(fingerprint: &Fingerprint) -> usize {
    usize::from(fingerprint.as_bytes().first().copied().unwrap_or_default()) % PARTS
}

impl Scripts {
    /// Notes that these, all of one part, are in use.
    pub(in super::super) async fn note_busy(&self, wire: &Wire, part: usize, busy: &[Fingerprint]) -> Result<(), Fault> {
        let mut call = self.note_busy.key(&self.keys.meta);
        call.key(self.keys.busy(part)).arg(&self.peppers).arg(MOST);
        for fingerprint in busy {
            call.arg(fingerprint.as_bytes());
        }
        run::<u64>(wire, &call).await.map(drop)
    }

    /// Those of one part that were in use lately, each with how many seconds ago that was noted.
    pub(in super::super) async fn read_busy(&self, wire: &Wire, part: usize) -> Result<Vec<(u64, Fingerprint)>, Fault> {
        let mut call = self.read_busy.key(self.keys.busy(part));
        call.arg(GOOD_FOR);
        let reply: Vec<Vec<u8>> = run(wire, &call).await?;
        // What is no fingerprint is nobody's: it is left out.
        let entry = |pair: &[Vec<u8>]| {
            let [fingerprint, age] = pair else { return None };
            let age = std::str::from_utf8(age).ok()?.parse().ok()?;
            Some((age, Fingerprint::from_bytes(fingerprint.as_slice().try_into().ok()?)))
        };
        Ok(reply.chunks(2).filter_map(entry).collect())
    }
}
