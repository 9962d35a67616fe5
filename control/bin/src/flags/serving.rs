//! The flags of serving: how long requests last, how many at once, how the server ends, and TLS; under upstream's names.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use clap::{ArgAction, Args};
use skep_server::browsers::{self, AllowedOrigin, Browsers};
use skep_server::pki::{Leaf, read_text};
use skep_server::tls::{self, Limits, NamedFiles, TlsKeys, TlsOptions};
use skep_server::{Concurrency, Lasting, ServerConfig, duration};

/// So long after the last watch was told to end its connection may still be there.
const PARTING: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(crate) struct ServingArguments {
    /// How long a request may last that is not meant to.
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = duration::parse)]
    pub(crate) request_timeout: Duration,
    /// How many seconds a watch lasts at least, unless it says; at most it is twice as many.
    #[arg(long, value_name = "SECONDS", default_value_t = 1800)]
    pub(crate) min_request_timeout: u64,
    /// Whether requests share seats by priority and fairness; or else the next two flags limit those that read and those
    /// that write, each by itself, and who is one too many is sent away.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true,
        default_missing_value = "true", action = ArgAction::Set)]
    pub(crate) enable_priority_and_fairness: bool,
    /// Together with the next flag: seats for requests, shared out by priority and fairness. Without that: how many
    /// requests may read at the same time; any number if it is 0.
    #[arg(long, value_name = "NUMBER", default_value_t = 400)]
    pub(crate) max_requests_inflight: u32,
    /// See the flag before; here: may write.
    #[arg(long, value_name = "NUMBER", default_value_t = 200)]
    pub(crate) max_mutating_requests_inflight: u32,
    /// So long the server goes on as ever when it is told to end, but for /readyz, which says no.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration::parse)]
    pub(crate) shutdown_delay_duration: Duration,
    /// After that, send new requests away (429, Retry-After) until the last of those before is done.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = false,
        default_missing_value = "true", action = ArgAction::Set)]
    pub(crate) shutdown_send_retry_after: bool,
    /// Over how long a time watches end after that, one after another, so that their clients do not come to another server
    /// all at once; together at once if it is zero.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration::parse)]
    pub(crate) shutdown_watch_termination_grace_period: Duration,
    /// So long after the start /livez takes it that what has not begun yet will.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration::parse)]
    pub(crate) livez_grace_period: Duration,
    /// From where pages may ask this server (CORS): regular expressions that are fixed to both ends of the host, such as
    /// `//example\.com(:|$)`.
    #[arg(long, value_name = "REGEXP", value_delimiter = ',', value_parser = AllowedOrigin::parse)]
    pub(crate) cors_allowed_origins: Vec<AllowedOrigin>,
    /// What answers say about asking over TLS only (HSTS): max-age=SECONDS, includeSubDomains, preload.
    #[arg(long, value_name = "DIRECTIVE", value_delimiter = ',', value_parser = browsers::directive)]
    pub(crate) strict_transport_security_directives: Vec<String>,
    /// Requests at the same time on one HTTP/2 connection; 0 means the server's own choice.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub(crate) http2_max_streams_per_connection: u32,
    /// How probably an HTTP/2 client is asked at a request to connect again (GOAWAY), so that servers behind one address
    /// share the clients again after one was away: from 0 to 0.02. Not for a server that stands alone.
    #[arg(long, value_name = "PROBABILITY", default_value_t = 0.0, value_parser = chance)]
    pub(crate) goaway_chance: f64,
    #[command(flatten)]
    pub(crate) tls: TlsArguments,
}

fn chance(text: &str) -> Result<f64, String> {
    let chance = text.parse().ok().filter(|chance| (0.0..=0.02).contains(chance));
    chance.ok_or_else(|| "--goaway-chance can not be less than 0 or greater than 0.02".to_owned())
}

#[derive(Clone, Debug, Args)]
pub(crate) struct TlsArguments {
    /// The serving certificate and its chain, instead of the one in the data directory; followed while the server runs.
    #[arg(long, value_name = "FILE", requires = "tls_private_key_file")]
    pub(crate) tls_cert_file: Option<PathBuf>,
    /// The key of that certificate.
    #[arg(long, value_name = "FILE", requires = "tls_cert_file")]
    pub(crate) tls_private_key_file: Option<PathBuf>,
    /// A further certificate for names of its own: `CERTIFICATE,KEY` or `CERTIFICATE,KEY:NAME,NAME`; may be given several
    /// times, followed while the server runs.
    #[arg(long, value_name = "FILES", value_parser = NamedFiles::parse)]
    pub(crate) tls_sni_cert_key: Vec<NamedFiles>,
    /// The least version of TLS: VersionTLS12 or VersionTLS13.
    #[arg(long = "tls-min-version", value_name = "VERSION", default_value = "VersionTLS12", value_parser = tls::only_newest,
        action = clap::ArgAction::Set)]
    pub(crate) only_newest: bool,
    /// The ciphers of TLS 1.2; all that are good where none is named.
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = tls::cipher)]
    pub(crate) tls_cipher_suites: Vec<String>,
}

impl ServingArguments {
    /// How long requests may last.
    pub(crate) fn lasting(&self) -> Lasting {
        Lasting { request: self.request_timeout, watch: Duration::from_secs(self.min_request_timeout) }
    }

    /// What clients may take. What is under way when the server ends has as long as it would have had.
    pub(crate) fn limits(&self) -> Limits {
        let shutdown =
            self.request_timeout.max(self.shutdown_watch_termination_grace_period.saturating_add(PARTING));
        let goaway_chance = self.goaway_chance;
        let limits = Limits { shutdown, goaway_chance, ..Limits::default() };
        match self.http2_max_streams_per_connection {
            0 => limits,
            streams => Limits { streams, ..limits },
        }
    }

    /// Says so in the configuration of a server.
    ///
    /// # Errors
    ///
    /// When there would be no seat for anybody.
    pub(crate) fn apply(&self, config: &mut ServerConfig) -> anyhow::Result<()> {
        config.concurrency = self.concurrency()?;
        config.lasting = self.lasting();
        config.shutdown_sends_away = self.shutdown_send_retry_after;
        config.watch_grace = self.shutdown_watch_termination_grace_period;
        config.livez_grace = self.livez_grace_period;
        let directives = &self.strict_transport_security_directives;
        config.browsers = Browsers::new(self.cors_allowed_origins.clone(), directives);
        Ok(())
    }

    /// How many requests at the same time.
    fn concurrency(&self) -> anyhow::Result<Concurrency> {
        let (reading, writing) = (self.max_requests_inflight, self.max_mutating_requests_inflight);
        if !self.enable_priority_and_fairness {
            return Ok(Concurrency::Limited { reading, writing });
        }
        match reading.saturating_add(writing) {
            0 => bail!(
                "invalid configuration: MaxRequestsInFlight={reading} and MaxMutatingRequestsInFlight={writing}; they must \
                 add up to something positive"
            ),
            seats => Ok(Concurrency::Fair(seats)),
        }
    }
}

impl TlsArguments {
    /// Versions and ciphers.
    pub(crate) fn options(&self) -> TlsOptions {
        TlsOptions { only_newest: self.only_newest, ciphers: self.tls_cipher_suites.clone() }
    }

    /// The serving certificate: that of the files, or else `own`.
    ///
    /// # Errors
    ///
    /// When a file cannot be read.
    pub(crate) fn serving(&self, own: Leaf) -> anyhow::Result<Leaf> {
        match (&self.tls_cert_file, &self.tls_private_key_file) {
            (Some(certificate), Some(key)) => {
                Ok(Leaf { certificate_pem: read_text(certificate)?, key_pem: read_text(key)? })
            }
            _ => Ok(own),
        }
    }

    /// Uses the certificates with names of their own.
    ///
    /// # Errors
    ///
    /// When a file cannot be read or used.
    pub(crate) fn name(&self, keys: &TlsKeys) -> anyhow::Result<()> {
        let named = self.tls_sni_cert_key.iter().map(NamedFiles::read).collect::<Result<_, _>>()?;
        Ok(keys.name(named)?)
    }

    /// All that is in the files, to find out whether it changed.
    pub(crate) fn contents(&self) -> Vec<Option<Vec<u8>>> {
        let named = self.tls_sni_cert_key.iter().flat_map(|one| [&one.certificate, &one.key]);
        let files = self.tls_cert_file.iter().chain(&self.tls_private_key_file).chain(named);
        files.map(|path| std::fs::read(path).ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        serving: ServingArguments,
    }

    fn parse(line: &str) -> Result<ServingArguments, clap::Error> {
        let words = std::iter::once("x").chain(line.split_whitespace());
        Line::try_parse_from(words).map(|line| line.serving)
    }

    #[test]
    fn defaults_are_upstreams() {
        let serving = parse("").unwrap();
        assert_eq!(serving.lasting(), Lasting::default());
        assert_eq!(serving.concurrency().unwrap(), Concurrency::Fair(600));
        assert_eq!(serving.shutdown_delay_duration, Duration::ZERO);
        assert_eq!(serving.limits().shutdown, Duration::from_secs(60));
        assert_eq!(serving.tls.options(), TlsOptions::default());
    }

    #[test]
    fn flags_of_an_upstream_manifest_are_taken() {
        let line = "--request-timeout=5m --min-request-timeout=600 --max-requests-inflight=100 \
                    --max-mutating-requests-inflight=50 --shutdown-delay-duration=70s --tls-cert-file=a --tls-private-key-file=b \
                    --goaway-chance=0.001 --tls-sni-cert-key=c,d:e.example --tls-min-version=VersionTLS13 \
                    --tls-cipher-suites=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,TLS_AES_128_GCM_SHA256 \
                    --shutdown-watch-termination-grace-period=10m --livez-grace-period=30s --shutdown-send-retry-after \
                    --cors-allowed-origins=//a\\.example(:|$),^https://b$ \
                    --strict-transport-security-directives=max-age=31536000,includeSubDomains,preload";
        let serving = parse(line).unwrap();
        assert_eq!(serving.lasting().request, Duration::from_secs(300));
        assert_eq!(serving.concurrency().unwrap(), Concurrency::Fair(150));
        assert_eq!(serving.limits().shutdown, Duration::from_secs(602), "watches have their time, too");
        assert_eq!(serving.livez_grace_period, Duration::from_secs(30));
        assert_eq!(
            (serving.cors_allowed_origins.len(), serving.strict_transport_security_directives.len()),
            (2, 3)
        );
        assert!(serving.tls.only_newest);
        assert_eq!(serving.limits().goaway_chance, 0.001);
        assert_eq!(serving.tls.tls_sni_cert_key[0].names, ["e.example"]);
        let refused = |line: &str| parse(line).unwrap().concurrency().unwrap_err().to_string();
        let none = "--max-requests-inflight=0 --max-mutating-requests-inflight=0";
        assert!(refused(none).contains("they must add up to something positive"), "{}", refused(none));
        let off = parse(&format!("--enable-priority-and-fairness=false {none}")).unwrap();
        assert_eq!(off.concurrency().unwrap(), Concurrency::Limited { reading: 0, writing: 0 });
        for bad in [
            "--tls-cert-file=a",
            "--tls-min-version=VersionTLS10",
            "--tls-cipher-suites=x",
            "--request-timeout=5",
            "--goaway-chance=0.03",
            "--goaway-chance=-1",
            "--goaway-chance=NaN",
            "--max-requests-inflight=-1",
            "--livez-grace-period=-1s",
            "--shutdown-watch-termination-grace-period=-1s",
            "--cors-allowed-origins=example.com",
            "--strict-transport-security-directives=none",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
