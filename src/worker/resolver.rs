//! Name resolution for outgoing webhooks: every address that a name has is judged, and one that is not
//! public refuses the whole name. The connection is then made to the addresses that were judged, so a
//! name that answers differently a moment later gains nothing. Addresses written in the URL itself
//! never come here; they are refused with the URL.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::dns::Name;
use tokio::sync::Semaphore;
use tower::{BoxError, Service};

use crate::domain::address::{is_loopback, is_public};
use crate::worker::name_servers;

/// Look-ups under way at once. The system's resolver blocks a thread until it gives up, long after
/// the attempt has; without a bound, dead name servers would use up the threads of the process.
const LOOKUPS_MAX: usize = 128;

/// Look-ups under way at once for one endpoint, so that one whose name servers are dead leaves some to others.
const LOOKUPS_OF_ENDPOINT_MAX: usize = 2;

/// The bound on look-ups that all endpoints share.
#[derive(Clone)]
pub struct LookUps(Arc<Semaphore>);

impl Default for LookUps {
    fn default() -> LookUps {
        LookUps(Arc::new(Semaphore::new(LOOKUPS_MAX)))
    }
}

/// Resolves names for one endpoint and vouches for what it returns.
#[derive(Clone)]
pub struct VettedResolver {
    allow_loopback: bool,
    /// Who is asked; the machine's own resolver where there are none.
    name_servers: Arc<[SocketAddr]>,
    of_endpoint: Arc<Semaphore>,
    of_all: LookUps,
}

impl VettedResolver {
    /// `allow_loopback` lets names of the machine itself through, for endpoints in test mode.
    pub fn new(allow_loopback: bool, name_servers: Arc<[SocketAddr]>, of_all: LookUps) -> VettedResolver {
        let of_endpoint = Arc::new(Semaphore::new(LOOKUPS_OF_ENDPOINT_MAX));
        VettedResolver { allow_loopback, name_servers, of_endpoint, of_all }
    }

    async fn resolve(self, host: String) -> Result<std::vec::IntoIter<SocketAddr>, BoxError> {
        let permits = (self.of_endpoint.acquire_owned().await?, self.of_all.0.acquire_owned().await?);
        // Port 0 stands for the port of the URL.
        let addresses: Vec<SocketAddr> = if self.name_servers.is_empty() {
            let host = host.clone();
            tokio::task::spawn_blocking(move || {
                // Held here and not by the future, which may be dropped while the thread still waits.
                let _permits = permits;
                (host.as_str(), 0).to_socket_addrs().map(Vec::from_iter)
            })
            .await??
        } else {
            let found = name_servers::look_up(&self.name_servers, &host).await?;
            drop(permits);
            found.into_iter().map(|ip| SocketAddr::new(ip, 0)).collect()
        };
        if addresses.is_empty() {
            return Err(io::Error::other("the host's name has no address").into());
        }
        if let Some(refused) = first_refused(&addresses, self.allow_loopback) {
            tracing::warn!(
                host,
                address = %refused,
                "a webhook was not sent because its host resolves to an address that is not public"
            );
            return Err(AddressRefused.into());
        }
        Ok(addresses.into_iter())
    }
}

/// A name was refused. The text is shown to merchants, so it does not tell the address: inside a
/// network, names could be asked for what they hide.
#[derive(Debug, thiserror::Error)]
#[error("the host's name leads to an address that is not on the public internet")]
pub struct AddressRefused;

impl Service<Name> for VettedResolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        Box::pin(self.clone().resolve(name.as_str().to_owned()))
    }
}

fn first_refused(addresses: &[SocketAddr], allow_loopback: bool) -> Option<IpAddr> {
    addresses.iter().map(SocketAddr::ip).find(|ip| !(is_public(*ip) || allow_loopback && is_loopback(*ip)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| SocketAddr::new(text.parse().expect(text), 0)).collect()
    }

    #[test]
    fn one_address_that_is_not_public_refuses_the_name() {
        for (found, refused, refused_on_loopback_too) in [
            (&["93.184.216.34", "2606:2800:220:1::1"][..], None, None),
            (&["93.184.216.34", "10.0.0.1"], Some("10.0.0.1"), Some("10.0.0.1")),
            (&["127.0.0.1", "::1"], Some("127.0.0.1"), None),
            (&["::1", "169.254.169.254"], Some("::1"), Some("169.254.169.254")),
            (&["93.184.216.34", "::ffff:192.168.0.1"], Some("::ffff:192.168.0.1"), Some("::ffff:192.168.0.1")),
        ] {
            for (allow_loopback, expected) in [(false, refused), (true, refused_on_loopback_too)] {
                let expected: Option<IpAddr> = expected.map(|text| text.parse().expect(text));
                assert_eq!(first_refused(&addresses(found), allow_loopback), expected, "{found:?}");
            }
        }
    }

    #[tokio::test]
    async fn the_machines_own_name_is_refused_unless_it_is_allowed() {
        let resolve = |allow_loopback| {
            VettedResolver::new(allow_loopback, Arc::default(), LookUps::default()).resolve("localhost".to_owned())
        };
        let error = resolve(false).await.expect_err("refused").to_string();
        assert!(error.contains("not on the public internet") && !error.contains("127"), "{error}");
        assert!(resolve(true).await.expect("allowed").all(|address| is_loopback(address.ip())));
    }
}
