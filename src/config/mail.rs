//! The settings of mail: the operator's server, and in whose name mail is sent.
//!
//! The rule: whatever cannot work, or would send a password or a payer's code in the clear to another
//! machine, is refused at start by its key.

use secrecy::ExposeSecret as _;

use super::{Config, ConfigError};
use crate::app::{IdentityLimits, MailRoad};
use crate::smtp::{SmtpSettings, Tls, is_loopback};

/// Where mail is submitted with STARTTLS (RFC 6409).
const PORT_STARTTLS: u16 = 587;
/// Where mail is submitted over TLS from the first byte (RFC 8314).
const PORT_IMPLICIT: u16 = 465;
/// Where a mail server on the same machine listens.
const PORT_NONE: u16 = 25;

fn bad<T>(key: &'static str, problem: &str) -> Result<T, ConfigError> {
    Err(ConfigError::OutOfBounds { key, problem: problem.to_owned() })
}

impl Config {
    /// The operator's mail server; `None` where none is named.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn smtp(&self) -> Result<Option<SmtpSettings>, ConfigError> {
        let host = self.smtp_host.trim();
        let password = self.smtp_password.expose_secret();
        if host.is_empty() {
            return if password.is_empty() && self.smtp_user.is_empty() {
                Ok(None)
            } else {
                bad("smtp_host", "must name the mail server that `smtp_user` and `smtp_password` are for")
            };
        }
        if self.smtp_tls == Tls::None && !is_loopback(host) {
            return bad(
                "smtp_tls",
                "can be \"none\" only for a mail server on this machine (localhost, 127.0.0.1 or ::1)",
            );
        }
        if self.smtp_user.is_empty() != password.is_empty() {
            return bad("smtp_user", "and `smtp_password` must be set both or not at all");
        }
        let Ok(from) = self.mail_from.parse() else {
            return bad("mail_from", "must be an address such as pay@shop.example or Corner Pay <pay@shop.example>");
        };
        let authority_pem = match self.smtp_ca_file.as_str() {
            "" => None,
            path => match std::fs::read(path) {
                Ok(pem) => Some(pem),
                Err(error) => return bad("smtp_ca_file", &format!("cannot be read: {error}")),
            },
        };
        let port = match (self.smtp_port, self.smtp_tls) {
            (0, Tls::Starttls) => PORT_STARTTLS,
            (0, Tls::Implicit) => PORT_IMPLICIT,
            (0, Tls::None) => PORT_NONE,
            (port, _) => port,
        };
        Ok(Some(SmtpSettings {
            host: host.to_owned(),
            port,
            tls: self.smtp_tls,
            login: (!password.is_empty()).then(|| (self.smtp_user.clone(), self.smtp_password.clone())),
            authority_pem,
            from,
        }))
    }

    /// Which way mail goes.
    pub fn mail_road(&self) -> MailRoad {
        if !self.smtp_host.trim().is_empty() {
            MailRoad::Smtp
        } else if self.capture_mail {
            MailRoad::Captured
        } else {
            MailRoad::Off
        }
    }

    /// How many codes may be asked for.
    pub fn identity_limits(&self) -> IdentityLimits {
        IdentityLimits {
            codes_per_address_hour: self.identity_codes_per_address_hour,
            codes_per_merchant_hour: self.identity_codes_per_merchant_hour,
            codes_per_network_hour: self.identity_codes_per_network_hour,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<SmtpSettings>, ConfigError> {
        let variables = variables.iter().map(|(name, value)| (format!("CHECKSTAND_{name}"), (*value).to_owned()));
        Config::read(None, variables)?.smtp()
    }

    #[test]
    fn a_server_gets_the_port_of_its_protection() {
        for (tls, port) in [("starttls", 587), ("implicit", 465)] {
            let smtp = read(&[("SMTP_HOST", "mail.example"), ("SMTP_TLS", tls), ("MAIL_FROM", "a@b.example")]);
            assert_eq!(smtp.expect(tls).expect("a server").port, port);
        }
        let local = read(&[("SMTP_HOST", "localhost"), ("SMTP_TLS", "none"), ("MAIL_FROM", "a@b.example")]);
        assert_eq!(local.expect("fine").expect("a server").port, 25);
        assert!(read(&[]).expect("fine").is_none());
    }

    #[test]
    fn what_cannot_work_or_be_kept_secret_is_refused_by_its_key() {
        let named = |variables: &[(&str, &str)]| read(variables).expect_err("refused").to_string();
        let host = ("SMTP_HOST", "mail.example");
        let from = ("MAIL_FROM", "a@b.example");
        assert!(named(&[host, from, ("SMTP_TLS", "none")]).contains("smtp_tls"));
        assert!(named(&[host]).contains("mail_from"));
        assert!(named(&[host, ("MAIL_FROM", "a@b.example\r\nBcc: x@y.example")]).contains("mail_from"));
        assert!(named(&[host, from, ("SMTP_USER", "u")]).contains("smtp_user"));
        assert!(named(&[("SMTP_USER", "u"), ("SMTP_PASSWORD", "p")]).contains("smtp_host"));
        assert!(named(&[host, from, ("SMTP_CA_FILE", "/nowhere/ca.pem")]).contains("smtp_ca_file"));
    }

    #[test]
    fn a_password_of_digits_stays_what_it_is_and_does_not_print() {
        let variables =
            [("SMTP_HOST", "m.example"), ("MAIL_FROM", "a@b.example"), ("SMTP_USER", "007"), ("SMTP_PASSWORD", "0071")];
        let smtp = read(&variables).expect("fine").expect("a server");
        let (user, password) = smtp.login.clone().expect("a login");
        assert_eq!((user.as_str(), password.expose_secret()), ("007", "0071"));
        assert!(!format!("{smtp:?}").contains("0071"));
    }
}
