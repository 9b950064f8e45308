//! The written form: what files say, checked key by key but not yet against each other.

pub mod dialect;
pub mod gateway;
pub mod limits;
pub mod store;
pub mod surface;
pub mod upstream;

pub use dialect::{WrittenDenial, WrittenDialect};
pub use gateway::{WrittenCertificate, WrittenGateway, WrittenListener};
pub use store::{WrittenStore, WrittenStoreKind};
pub use surface::{WrittenPrefixes, WrittenSurface, WrittenSurfaceKind};
pub use upstream::{WrittenAccess, WrittenRewrite, WrittenRoute, WrittenUpstream, WrittenUpstreamTls};
