//! A proxy between this server and one that it calls, as a kubeconfig file names it (`proxy-url`).
//!
//! An HTTP proxy is asked for a tunnel (`CONNECT`), a SOCKS5 proxy for a connection; what goes through is the same as
//! without one. A proxy that is itself spoken to over TLS is refused.

use http::{HeaderValue, Uri};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use tokio::net::TcpStream;
use tower::ServiceExt as _;

use super::credential::{basic, secret_header};

/// The proxy.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Proxy {
    url: Uri,
    /// A name and a password.
    user: Option<(String, String)>,
    socks: bool,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").field("host", &self.url.host()).finish_non_exhaustive()
    }
}

impl Proxy {
    /// Reads a URL: `http`, `socks5` or `socks5h`, with a host, perhaps with a name and a password before it.
    ///
    /// # Errors
    ///
    /// When it is another one.
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        let parsed: Uri = url.parse().map_err(|_| "could not be parsed".to_owned())?;
        let scheme = parsed.scheme_str().unwrap_or_default();
        let (socks, port) = match scheme {
            "http" => (false, 80),
            "socks5" | "socks5h" => (true, 1080),
            _ => return Err(format!("unsupported scheme {scheme:?}, must be http or socks5")),
        };
        let authority = parsed.authority().ok_or("it has no host")?;
        let user = authority.as_str().rsplit_once('@').map(|(user, _)| user);
        let user = user.map(|user| user.split_once(':').unwrap_or((user, "")));
        let user = user.map(|(name, password)| (decoded(name), decoded(password)));
        let (host, port) = (authority.host(), authority.port_u16().unwrap_or(port));
        let url: Uri = format!("http://{host}:{port}").parse().map_err(|_| "it has no host".to_owned())?;
        Ok(Self { url, user, socks })
    }

    /// A connection through it to that host and port.
    ///
    /// # Errors
    ///
    /// When the proxy cannot be reached, or does not make one.
    pub(super) async fn open(&self, host: &str, port: u16) -> Result<TcpStream, String> {
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let to: Uri = format!("https://{host}:{port}").parse().map_err(|_| "no host".to_owned())?;
        let failed =
            |why: &dyn std::error::Error| format!("proxyconnect tcp: {}", super::failure::of_layers(why));
        let connected = match (self.socks, &self.user) {
            (false, user) => {
                let mut tunnel = Tunnel::new(self.url.clone(), HttpConnector::new());
                if let Some((name, password)) = user {
                    tunnel = tunnel.with_auth(authorization(name, password)?);
                }
                tunnel.oneshot(to).await.map_err(|error| failed(&error))
            }
            (true, user) => {
                let mut socks = SocksV5::new(self.url.clone(), HttpConnector::new());
                if let Some((name, password)) = user {
                    socks = socks.with_auth(name.clone(), password.clone());
                }
                socks.oneshot(to).await.map_err(|error| failed(&error))
            }
        };
        connected.map(hyper_util::rt::TokioIo::into_inner)
    }
}

fn authorization(name: &str, password: &str) -> Result<HeaderValue, String> {
    secret_header(basic(name, password)).map_err(|why| format!("the proxy's user: {why}"))
}

/// A part of a URL without its `%XX`.
fn decoded(part: &str) -> String {
    let pair = format!("x={}", part.replace('+', "%2B"));
    form_urlencoded::parse(pair.as_bytes()).next().map(|(_, value)| value.into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use parking_lot::Mutex;
    use serde_json::json;
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
    use tokio::net::TcpListener;

    use super::super::Fixed;
    use super::super::testing::Server;
    use super::*;

    #[test]
    fn proxy_is_one_that_can_be_asked() {
        let proxy = Proxy::parse("http://a%40b:c+d@p.example").unwrap();
        assert_eq!(proxy.url, "http://p.example:80");
        assert_eq!(proxy.user, Some(("a@b".into(), "c+d".into())));
        assert!(!format!("{proxy:?}").contains("c+d"));
        assert_eq!(Proxy::parse("socks5://[::1]").unwrap().url, "http://[::1]:1080");
        assert_eq!(
            Proxy::parse("https://p").unwrap_err(),
            "unsupported scheme \"https\", must be http or socks5"
        );
        assert!(Proxy::parse("/p").is_err() && Proxy::parse("").is_err());
    }

    /// A proxy that notes what it is asked, and makes the connection unless it is told not to.
    async fn proxy(answer: &'static str) -> (u16, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, asked) = (listener.local_addr().unwrap().port(), Arc::<Mutex<Vec<String>>>::default());
        let noted = asked.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let noted = noted.clone();
                tokio::spawn(async move {
                    let mut stream = BufReader::new(stream);
                    let mut head = String::new();
                    while !head.ends_with("\r\n\r\n") {
                        stream.read_line(&mut head).await.unwrap();
                    }
                    let to = head.split(' ').nth(1).unwrap().to_owned();
                    noted.lock().push(head);
                    stream.write_all(format!("HTTP/1.1 {answer}\r\n\r\n").as_bytes()).await.unwrap();
                    let mut other = TcpStream::connect(to).await.unwrap();
                    tokio::io::copy_bidirectional(&mut stream, &mut other).await.ok();
                });
            }
        });
        (port, asked)
    }

    fn through(server: &Server, port: u16) -> Fixed {
        let path = server.directory.path().join("through");
        let cluster = format!(
            "server: '{}', certificate-authority: ca.crt, proxy-url: 'http://me:secret@127.0.0.1:{port}'",
            server.url("/hook")
        );
        let text = format!(
            "clusters: [{{name: c, cluster: {{{cluster}}}}}]\n\
             contexts: [{{name: x, context: {{cluster: c}}}}]\ncurrent-context: x\n"
        );
        std::fs::write(&path, text).unwrap();
        Fixed::from_kubeconfig(&path).unwrap()
    }

    #[tokio::test]
    async fn server_behind_a_proxy_is_reached_through_it_and_verified_all_the_same() {
        let server = Server::start(|_, _| Some((200, "{}".into()))).await;
        let (port, asked) = proxy("200 OK").await;
        through(&server, port).ask(&json!({}), Duration::from_secs(20)).await.unwrap();
        let asked = asked.lock().join("");
        assert!(asked.starts_with(&format!("CONNECT {} HTTP/1.1\r\n", server.address)), "{asked}");
        assert!(asked.to_lowercase().contains("proxy-authorization: basic bwu6c2vjcmv0"), "{asked}");
        assert_eq!(server.calls(), 1);
    }

    #[tokio::test]
    async fn proxy_that_refuses_is_named() {
        let server = Server::start(|_, _| Some((200, "{}".into()))).await;
        let (port, _) = proxy("403 Forbidden").await;
        let failed = through(&server, port).post("{}".into(), Duration::from_secs(20)).await.unwrap_err();
        assert!(failed.to_string().contains("proxyconnect tcp: "), "{failed}");
        assert_eq!(server.calls(), 0);
    }
}
