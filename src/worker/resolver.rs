//! Name resolution for outgoing webhooks: every address that a name has is judged, and one that is not
//! public refuses the whole name. The connection is then made to the addresses that were judged, so a
//! name that answers differently a moment later gains nothing. Addresses written in the URL itself
//! never come here; they are refused with the URL.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Semaphore;

use crate::domain::address::{is_loopback, is_public};

/// Look-ups under way at once. The system's resolver blocks a thread until it gives up, long after
/// the attempt has; without a bound, dead name servers would use up the threads of the process.
const LOOKUPS_MAX: usize = 128;

/// Resolves a name and vouches for what it returns.
pub struct VettedResolver {
    allow_loopback: bool,
    lookups: Arc<Semaphore>,
}

impl VettedResolver {
    /// `allow_loopback` lets names of the machine itself through, for endpoints in test mode.
    pub fn new(allow_loopback: bool) -> VettedResolver {
        VettedResolver { allow_loopback, lookups: Arc::new(Semaphore::new(LOOKUPS_MAX)) }
    }
}

/// A name was refused. The text is shown to merchants, so it does not tell the address: inside a
/// network, names could be asked for what they hide.
#[derive(Debug, thiserror::Error)]
#[error("the host's name leads to an address that is not on the public internet")]
pub struct AddressRefused;

impl Resolve for VettedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let lookups = Arc::clone(&self.lookups);
        let allow_loopback = self.allow_loopback;
        Box::pin(async move {
            let permit = lookups.acquire_owned().await?;
            let host = name.as_str().to_owned();
            let addresses = tokio::task::spawn_blocking(move || {
                // Held here and not by the future, which may be dropped while the thread still waits.
                let _permit = permit;
                // Port 0 stands for the port of the URL.
                (host.as_str(), 0).to_socket_addrs().map(Vec::from_iter)
            })
            .await??;
            if addresses.is_empty() {
                return Err(io::Error::other("the host's name has no address").into());
            }
            if let Some(refused) = first_refused(&addresses, allow_loopback) {
                tracing::warn!(
                    host = name.as_str(),
                    address = %refused,
                    "a webhook was not sent because its host resolves to an address that is not public"
                );
                return Err(AddressRefused.into());
            }
            let addresses: Addrs = Box::new(addresses.into_iter());
            Ok(addresses)
        })
    }
}

fn first_refused(addresses: &[SocketAddr], allow_loopback: bool) -> Option<IpAddr> {
    addresses.iter().map(SocketAddr::ip).find(|ip| !(is_public(*ip) || allow_loopback && is_loopback(*ip)))
}
