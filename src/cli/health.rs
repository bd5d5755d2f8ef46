//! `checkstand health`: asks a gateway whether it is ready, for supervisors and container images that
//! have no other way to ask.
//!
//! The rule: the answer comes within two seconds, and anything but a plain 200 is a no.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use clap::Args;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use url::Url;

use super::output::{self, Failure, cut};
use super::read_config;

/// How long the whole exchange may take: below the three seconds after which supervisors commonly
/// give up, so that the sentence gets out.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// How much of the answer is read. Ours is far shorter.
const ANSWER_BYTES_MAX: u64 = 4096;

/// How much of a refusal is repeated: a sentence of ours, not somebody's whole error page.
const LINE_CHARS_MAX: usize = 200;

/// Options of `checkstand health`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  checkstand health
  checkstand health --url http://10.0.0.5:4242/readyz")]
pub struct HealthOptions {
    /// Address to ask, over plain http
    ///
    /// Unless given, /readyz of the address in the settings; what `serve --listen` was given is not
    /// known here.
    #[arg(long, value_name = "URL", value_parser = plain_http)]
    url: Option<Url>,
}

fn plain_http(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    if url.scheme() == "http" && url.host_str().is_some() {
        return Ok(url);
    }
    Err("it must begin with http:// and name a host".to_owned())
}

/// Asks, and prints what the gateway said.
///
/// # Errors
/// When there is no answer in time, or it says that the gateway is not ready.
pub async fn ask(file: Option<&Path>, options: HealthOptions) -> Result<(), Failure> {
    let url = match options.url {
        Some(url) => url,
        None => {
            let config = read_config(file)?;
            // A worker has no other address.
            let apart = !config.operations_listen.is_empty();
            own_url(if apart { &config.operations_listen } else { &config.listen })?
        }
    };
    let said = ready(&url).await?;
    output::print(&format!("{said}\n"))
}

/// What a ready gateway says.
async fn ready(url: &Url) -> Result<String, Failure> {
    let answer = match tokio::time::timeout(ANSWER_TIMEOUT, get(url)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(format!("{url} cannot be asked: {error}").into()),
        Err(_) => return Err(format!("{url} did not answer within {} s", ANSWER_TIMEOUT.as_secs()).into()),
    };
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.strip_prefix("HTTP/1.1 ").or_else(|| head.strip_prefix("HTTP/1.0 "));
    match status.and_then(|status| status.get(..3)) {
        Some("200") => Ok(body.trim().to_owned()),
        Some(status) => {
            let line = cut(body.trim().lines().next().unwrap_or_default(), LINE_CHARS_MAX);
            Err(format!("{url} answered {status}: {line}").into())
        }
        None => Err(format!("{url} does not speak HTTP").into()),
    }
}

/// Where a gateway with this `listen` is reached from its own machine.
fn own_url(listen: &str) -> Result<Url, Failure> {
    let reached = match listen.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_unspecified() => {
            let loopback =
                if address.is_ipv4() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { IpAddr::V6(Ipv6Addr::LOCALHOST) };
            SocketAddr::new(loopback, address.port()).to_string()
        }
        _ => listen.to_owned(),
    };
    plain_http(&format!("http://{reached}/readyz"))
        .map_err(|error| format!("no address can be made of `listen` ({listen}): {error}").into())
}

async fn get(url: &Url) -> std::io::Result<String> {
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or(80);
    let mut socket = TcpStream::connect(format!("{host}:{port}")).await?;
    let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: {host}:{port}\r\nUser-Agent: checkstand-health\r\nConnection: close\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    socket.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn every_address_is_asked_from_this_machine() {
        for (listen, expected) in [
            ("127.0.0.1:4242", "http://127.0.0.1:4242/readyz"),
            ("0.0.0.0:4242", "http://127.0.0.1:4242/readyz"),
            ("[::]:80", "http://[::1]/readyz"),
            ("10.1.2.3:8080", "http://10.1.2.3:8080/readyz"),
            ("localhost:4242", "http://localhost:4242/readyz"),
        ] {
            assert_eq!(own_url(listen).expect(listen).as_str(), expected);
        }
        assert!(own_url("no address").is_err());
    }

    async fn verdict_on(answer: &'static str) -> Result<String, String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/readyz?x=1", listener.local_addr().expect("bound"));
        let server = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.expect("a caller");
            let mut request = [0; 1024];
            let length = socket.read(&mut request).await.expect("a request");
            socket.write_all(answer.as_bytes()).await.expect("read");
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        let verdict = ready(&plain_http(&url).expect("http")).await.map_err(|failure| failure.to_string());
        assert!(server.await.expect("ran").starts_with("GET /readyz?x=1 HTTP/1.1\r\nHost: 127.0.0.1:"));
        verdict
    }

    #[tokio::test]
    async fn only_a_plain_200_is_a_yes() {
        assert_eq!(verdict_on("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nready\n").await.as_deref(), Ok("ready"));
        let refused = verdict_on("HTTP/1.1 503 Service Unavailable\r\n\r\nthe database does not answer\n").await;
        assert!(refused.expect_err("503").ends_with("answered 503: the database does not answer"));
        for garbage in ["SSH-2.0-OpenSSH\r\n", ""] {
            assert!(verdict_on(garbage).await.expect_err("garbage").ends_with("does not speak HTTP"));
        }
    }
}
