//! HTTP/2 connections.

use std::rc::Rc;
use std::time::Instant;

use super::context::Context;
use super::service::Service;
use super::transport::ClientStream;
use crate::gateway::Connection;

pub(super) async fn serve<S: Service>(io: ClientStream, context: Rc<Context<S>>, connection: Connection, began_at: Instant) {
    let _ = (io, context, connection, began_at);
}
