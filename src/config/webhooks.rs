//! The settings of webhooks: places and name servers, when an endpoint is left alone or given up, and whom the sender
//! trusts besides the machine's own authorities.
//!
//! The rule: limits that contradict each other, and a file that holds no certificates, are refused at start by their key.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::{Config, ConfigError};
use crate::domain::endpoint_health::HealthLimits;

/// Most failures before a pause: more, and a dead receiver is hammered for hours.
const PAUSE_AFTER_FAILURES_MAX: u32 = 1_000;

/// Longest pause, in seconds: six hours, a quarter of the longest wait between two attempts.
const PAUSE_SECONDS_MAX: u32 = 21_600;

/// Most days without a success. Deliveries are given up after three.
const DISABLE_AFTER_DAYS_MAX: u32 = 30;

/// Most failures that can be asked for before an endpoint is disabled.
const DISABLE_AFTER_FAILURES_MAX: u32 = 10_000;

/// Most certificates in the file: a few authorities, not the world's.
const AUTHORITIES_MAX: usize = 64;

/// Most name servers: each that does not answer costs two seconds of an attempt.
const NAME_SERVERS_MAX: usize = 2;

/// Where name servers listen.
const DNS_PORT: u16 = 53;

/// A name server's address, with the usual port where none is written.
fn name_server(text: &str) -> Option<SocketAddr> {
    text.parse().ok().or_else(|| text.parse().ok().map(|ip| SocketAddr::new(ip, DNS_PORT)))
}

fn bad<T>(key: &'static str, problem: String) -> Result<T, ConfigError> {
    Err(ConfigError::OutOfBounds { key, problem })
}

impl Config {
    /// Judges all that is set of webhooks, and keeps the name servers' addresses.
    pub(super) fn check_webhooks(&mut self) -> Result<(), ConfigError> {
        if self.webhook_concurrency_total == 0 || self.webhook_concurrency_per_endpoint == 0 {
            let problem = "and `webhook_concurrency_per_endpoint` must be at least 1";
            return bad("webhook_concurrency_total", problem.to_owned());
        }
        let named = self.webhook_name_servers.iter().map(|text| text.trim()).filter(|text| !text.is_empty());
        match named.map(name_server).collect::<Option<Vec<_>>>() {
            Some(servers) if servers.len() <= NAME_SERVERS_MAX => self.name_servers = servers.into(),
            _ => {
                let problem =
                    format!("must hold at most {NAME_SERVERS_MAX} addresses such as 9.9.9.9 or 127.0.0.1:5353");
                return bad("webhook_name_servers", problem);
            }
        }
        self.endpoint_health()?;
        self.webhook_authorities()?;
        Ok(())
    }

    /// When endpoints are paused and given up.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn endpoint_health(&self) -> Result<HealthLimits, ConfigError> {
        let (failures, first, longest) =
            (self.webhook_pause_after_failures, self.webhook_pause_seconds_first, self.webhook_pause_seconds_max);
        if failures > PAUSE_AFTER_FAILURES_MAX {
            return bad("webhook_pause_after_failures", format!("must be 0 to {PAUSE_AFTER_FAILURES_MAX}"));
        }
        if !(1..=PAUSE_SECONDS_MAX).contains(&longest) {
            return bad("webhook_pause_seconds_max", format!("must be 1 to {PAUSE_SECONDS_MAX}"));
        }
        if !(1..=longest).contains(&first) {
            let problem = format!("must be 1 to `webhook_pause_seconds_max`, which is {longest}");
            return bad("webhook_pause_seconds_first", problem);
        }
        if self.webhook_disable_after_days > DISABLE_AFTER_DAYS_MAX {
            return bad("webhook_disable_after_days", format!("must be 0 to {DISABLE_AFTER_DAYS_MAX}"));
        }
        if !(1..=DISABLE_AFTER_FAILURES_MAX).contains(&self.webhook_disable_after_failures) {
            return bad("webhook_disable_after_failures", format!("must be 1 to {DISABLE_AFTER_FAILURES_MAX}"));
        }
        let limits = HealthLimits {
            pause_after_failures: failures.cast_signed(),
            pause_seconds_first: i64::from(first),
            pause_seconds_max: i64::from(longest),
            disable_after_days: i64::from(self.webhook_disable_after_days),
            disable_after_failures: self.webhook_disable_after_failures.cast_signed(),
        };
        if !limits.can_give_up() {
            let problem = "cannot be reached: with the longest pause too few tries fall into \
                           `webhook_disable_after_days`; it must be half of them at most";
            return bad("webhook_disable_after_failures", problem.to_owned());
        }
        Ok(limits)
    }

    /// The authorities of `webhook_ca_file`.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn webhook_authorities(&self) -> Result<Arc<[CertificateDer<'static>]>, ConfigError> {
        let key = "webhook_ca_file";
        if self.webhook_ca_file.is_empty() {
            return Ok(Arc::default());
        }
        let pem = match std::fs::read(&self.webhook_ca_file) {
            Ok(pem) => pem,
            Err(error) => return bad(key, format!("cannot be read: {error}")),
        };
        match CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>() {
            Ok(found) if (1..=AUTHORITIES_MAX).contains(&found.len()) => Ok(found.into()),
            Ok(_) => bad(key, format!("must hold 1 to {AUTHORITIES_MAX} certificates in PEM")),
            Err(error) => bad(key, format!("is no PEM: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Config, String> {
        let variables =
            variables.iter().map(|(name, value)| (format!("CHECKSTAND_WEBHOOK_{name}"), (*value).to_owned()));
        Config::read(None, variables).map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_within_their_own_bounds_and_can_be_switched_off() {
        let limits = read(&[]).expect("fine").endpoint_health().expect("fine");
        assert_eq!(
            (limits.pause_after_failures, limits.pause_seconds_first, limits.pause_seconds_max),
            (20, 30, 3_600)
        );
        assert_eq!((limits.disable_after_days, limits.disable_after_failures), (5, 50));
        let off = read(&[("PAUSE_AFTER_FAILURES", "0"), ("DISABLE_AFTER_DAYS", "0")]).expect("fine");
        assert_eq!(off.endpoint_health().expect("fine").pause_after(true, i32::MAX, 0), None);
    }

    #[test]
    fn what_is_out_of_bounds_or_contradicts_itself_is_refused_by_its_key() {
        for (variables, key) in [
            (&[("PAUSE_AFTER_FAILURES", "1001")][..], "webhook_pause_after_failures"),
            (&[("PAUSE_SECONDS_MAX", "0")], "webhook_pause_seconds_max"),
            (&[("PAUSE_SECONDS_MAX", "21601")], "webhook_pause_seconds_max"),
            (&[("PAUSE_SECONDS_FIRST", "0")], "webhook_pause_seconds_first"),
            (&[("PAUSE_SECONDS_FIRST", "61"), ("PAUSE_SECONDS_MAX", "60")], "webhook_pause_seconds_first"),
            (&[("DISABLE_AFTER_DAYS", "31")], "webhook_disable_after_days"),
            (&[("DISABLE_AFTER_FAILURES", "0")], "webhook_disable_after_failures"),
            (&[("DISABLE_AFTER_DAYS", "2")], "webhook_disable_after_failures"),
            (&[("CA_FILE", "/nowhere/ca.pem")], "webhook_ca_file"),
            (&[("CA_FILE", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))], "webhook_ca_file"),
        ] {
            let error = read(variables).expect_err(key);
            assert!(error.contains(&format!("`{key}`")), "{error}");
        }
    }
}
