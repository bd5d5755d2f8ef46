//! How many sockets are open, in all and per network, and who may open one more.
//!
//! Rule: a slot is taken before anything else is done for a socket and comes back when the socket goes, whatever ended it. What a
//! refused peer is told is left to the accept loop.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use super::ServerLimits;
use crate::telemetry::CONNECTIONS_OPEN;

/// How many sockets are open, in all and per network.
#[derive(Debug, Default)]
pub(super) struct OpenConnections(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    in_all: usize,
    /// An entry goes when it reaches zero, so the map is never larger than the number of open sockets.
    by_network: HashMap<IpAddr, usize>,
}

impl OpenConnections {
    /// One slot for a socket from `address`, or the name of the limit that is reached.
    pub(super) fn take_slot(self: &Arc<Self>, address: IpAddr, limits: &ServerLimits) -> Result<Slot, &'static str> {
        let network = counted_network(address);
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.in_all >= limits.connections_max {
            return Err("connections_max");
        }
        if let Some(network) = network {
            let of_network = counts.by_network.entry(network).or_insert(0);
            if *of_network >= limits.connections_per_ip_max {
                // A limit of zero would leave an entry behind that nobody removes.
                if *of_network == 0 {
                    counts.by_network.remove(&network);
                }
                return Err("connections_per_ip_max");
            }
            *of_network += 1;
        }
        counts.in_all += 1;
        metrics::gauge!(CONNECTIONS_OPEN).increment(1);
        Ok(Slot { open: Arc::clone(self), network })
    }
}

/// The network whose sockets are counted together, or none if the peer is exempt. An IPv6 subscriber is given a /64 at least,
/// so single IPv6 addresses are free to an attacker.
fn counted_network(address: IpAddr) -> Option<IpAddr> {
    let address = address.to_canonical();
    if address.is_loopback() {
        return None;
    }
    Some(match address {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    })
}

/// The right to keep one socket open; given back on drop.
#[derive(Debug)]
pub(super) struct Slot {
    open: Arc<OpenConnections>,
    network: Option<IpAddr>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counts = self.open.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.in_all = counts.in_all.saturating_sub(1);
        if let Some(network) = self.network
            && let Some(of_network) = counts.by_network.get_mut(&network)
        {
            *of_network = of_network.saturating_sub(1);
            if *of_network == 0 {
                counts.by_network.remove(&network);
            }
        }
        metrics::gauge!(CONNECTIONS_OPEN).decrement(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_counted_per_network_and_loopback_is_exempt() {
        let limits = ServerLimits { connections_max: 5, connections_per_ip_max: 2, ..ServerLimits::default() };
        let open = Arc::new(OpenConnections::default());
        let take = |address: &str| open.take_slot(address.parse().expect("an address"), &limits);

        let first = take("203.0.113.1").expect("a slot");
        let mapped = take("::ffff:203.0.113.1").expect("a slot");
        assert_eq!(take("203.0.113.1").expect_err("two are open"), "connections_per_ip_max");
        let neighbour = take("203.0.113.2").expect("another address");
        drop(first);
        let again = take("203.0.113.1").expect("one has closed");
        drop((mapped, neighbour, again));
        assert!(open.0.lock().expect("not poisoned").by_network.is_empty());

        let subscriber = [take("2001:db8:0:1::1").expect("a slot"), take("2001:db8:0:1:ffff::2").expect("a slot")];
        assert_eq!(take("2001:db8:0:1::3").expect_err("the same /64"), "connections_per_ip_max");
        let local = ["127.0.0.1", "127.8.9.1", "::1"].map(|address| take(address).expect("exempt"));
        assert_eq!(take("127.0.0.1").expect_err("five are open"), "connections_max");
        drop((subscriber, local));
        assert_eq!(open.0.lock().expect("not poisoned").in_all, 0);
    }
}
