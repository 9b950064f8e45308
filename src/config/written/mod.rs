//! The written form: what files say, checked key by key but not yet against each other.

pub mod access;
pub mod body;
pub mod carrier;
mod client_tls;
pub mod cors;
pub mod dialect;
pub mod gateway;
pub mod hook;
pub mod limits;
pub mod listener;
pub mod log_in;
pub mod mint;
pub mod rate;
pub mod role;
pub mod route;
pub mod serve;
pub mod source;
pub mod store;
pub mod surface;
pub mod upstream;

pub use access::WrittenAccess;
pub use body::WrittenField;
pub use carrier::WrittenPrefixes;
pub use client_tls::WrittenClientTls;
pub use cors::{WrittenCors, WrittenRouteCors};
pub use dialect::{WrittenDenial, WrittenDialect};
pub use gateway::WrittenGateway;
pub use hook::WrittenHook;
pub use listener::{WrittenCertificate, WrittenListener};
pub use log_in::{WrittenLogIn, WrittenTries};
pub use mint::{WrittenMint, WrittenMode, WrittenParent, WrittenScopes};
pub use rate::WrittenRateLimit;
pub use role::WrittenRole;
pub use route::{WrittenRewrite, WrittenRoute};
pub use serve::{WrittenAnswer, WrittenReach, WrittenServe};
pub use store::{WrittenRedis, WrittenRedisPlace, WrittenSentinels, WrittenStore, WrittenStoreKind};
pub use surface::{
    WrittenAccount, WrittenApiKey, WrittenCookie, WrittenHalves, WrittenKeyPair, WrittenRefresh, WrittenSession, WrittenSurface,
    WrittenSurfaceKind,
};
pub use upstream::WrittenUpstream;
