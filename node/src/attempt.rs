//! A connection asking to come in: what is known about it before anything is decided.

use picket_shared::policy::Origin;
use picket_shared::telemetry::Trace;
use std::net::IpAddr;
use std::sync::Arc;

use crate::identity::FoundToken;

/// what the client said about the page it comes from
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimedOrigin {
    Missing,
    Page(Origin),
    /// no origin that a browser would send for a page of a site: `null`, a list, a path
    Unusable(String),
}

#[derive(Clone, Debug)]
pub struct Attempt {
    /// random; the upstream sees it as `X-Picket-Connection`, audit as `socketId`
    pub id: Arc<str>,
    /// the verified client address in canonical form
    pub address: IpAddr,
    pub origin: ClaimedOrigin,
    /// the token of the upgrade request, if it carried one
    pub token: Option<FoundToken>,
    /// the route's path, for audit
    pub route: Arc<str>,
    /// `None` where traces go nowhere
    pub trace: Option<Trace>,
}
