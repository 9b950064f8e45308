//! The written form: what files say, checked key by key but not yet against each other.

pub mod carrier;
pub mod dialect;
pub mod gateway;
pub mod limits;
pub mod listener;
pub mod rate;
pub mod route;
pub mod store;
pub mod surface;
pub mod upstream;

pub use carrier::WrittenPrefixes;
pub use dialect::{WrittenDenial, WrittenDialect};
pub use gateway::WrittenGateway;
pub use listener::{WrittenCertificate, WrittenListener};
pub use rate::WrittenRateLimit;
pub use route::{WrittenAccess, WrittenRewrite, WrittenRoute};
pub use store::{WrittenStore, WrittenStoreKind};
pub use surface::{
    WrittenAccount, WrittenApiKey, WrittenCookie, WrittenHalves, WrittenKeyPair, WrittenRefresh, WrittenSession, WrittenSurface,
    WrittenSurfaceKind,
};
pub use upstream::{WrittenUpstream, WrittenUpstreamTls};
