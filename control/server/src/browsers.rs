//! What answers say to browsers: from where pages may ask this server (CORS), and that they ask it over TLS only (HSTS);
//! by upstream's flags `--cors-allowed-origins` and `--strict-transport-security-directives`, with their rules and words.
//!
//! Who is let in does not depend on it: a page of another origin is told nothing by its browser, but its request was
//! judged as any other. Only what a browser asks beforehand (`OPTIONS`) is answered without a look at who it is, as it
//! comes without credentials.

use std::sync::Arc;

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, HeaderMap, HeaderValue, ORIGIN,
    STRICT_TRANSPORT_SECURITY,
};
use regex::Regex;

const METHODS: &str = "POST, GET, OPTIONS, PUT, DELETE, PATCH";
const HEADERS: &str = "Content-Type, Content-Length, Accept-Encoding, X-CSRF-Token, Authorization, X-Requested-With, \
                       If-Modified-Since";
const EXPOSED: &str = "Date";

/// What upstream says whenever it does not take an origin.
const HELP: &str = "List of allowed origins for CORS, comma separated. An allowed origin can be a regular expression to \
                    support subdomain matching. If this list is empty CORS will not be enabled. Please ensure each \
                    expression matches the entire hostname by anchoring to the start with '^' or including the '//' \
                    prefix, and by anchoring to the end with '$' or including the ':' port separator suffix. Examples of \
                    valid expressions are '//example\\.com(:|$)' and '^https://example\\.com(:|$)'";

/// What browsers are told. By default nothing.
#[derive(Clone, Debug, Default)]
pub struct Browsers {
    origins: Vec<AllowedOrigin>,
    directives: Option<HeaderValue>,
}

/// Origins whose pages may ask this server: those that a regular expression finds something in.
#[derive(Clone, Debug)]
pub struct AllowedOrigin(Arc<Regex>);

impl AllowedOrigin {
    /// Takes an expression that is fixed to both ends of the host.
    ///
    /// # Errors
    ///
    /// Why it is none, in upstream's words.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err(format!("empty value in --cors-allowed-origins, help: {HELP}"));
        }
        let wrong = |why: String| {
            format!("--cors-allowed-origins has an invalid regular expression: {why}, help: {HELP}")
        };
        let expression = Regex::new(text).map_err(|error| wrong(error.to_string()))?;
        let has = |marks: [&str; 2]| marks.iter().any(|mark| text.contains(mark));
        // Or else `example.com` would let `https://example.com.evil.org` in (CVE-2022-1996).
        if !has(["^", "//"]) || !has(["$", ":"]) {
            return Err(wrong(
                "regular expression does not pin to start/end of host in the origin header".to_owned(),
            ));
        }
        Ok(Self(Arc::new(expression)))
    }
}

/// One directive of `Strict-Transport-Security` (RFC 6797, section 6.1).
///
/// # Errors
///
/// When it is none, in upstream's words.
pub fn directive(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("empty value in strict-transport-security-directives".to_owned());
    }
    let is_age = text.strip_prefix("max-age=").is_some_and(|age| !age.contains('='));
    let fits = is_age || matches!(text, "includeSubDomains" | "preload");
    if !fits || HeaderValue::from_str(text).is_err() {
        return Err("--strict-transport-security-directives invalid, allowed values: max-age=expireTime, \
                    includeSubDomains, preload. see https://tools.ietf.org/html/rfc6797#section-6.1 for more information"
            .to_owned());
    }
    Ok(text.to_owned())
}

impl Browsers {
    /// Pages of these origins may ask, and all over TLS only if there are directives about that.
    pub fn new(origins: Vec<AllowedOrigin>, directives: &[String]) -> Self {
        let directives = (!directives.is_empty()).then(|| directives.join("; "));
        Self { origins, directives: directives.and_then(|text| HeaderValue::from_str(&text).ok()) }
    }

    /// The origin that a request comes from, if its pages may ask.
    pub(crate) fn allowed(&self, request: &HeaderMap) -> Option<HeaderValue> {
        if self.origins.is_empty() {
            return None;
        }
        let origin = request.get(ORIGIN)?;
        let text = origin.to_str().ok().filter(|text| !text.is_empty())?;
        self.origins.iter().any(|one| one.0.is_match(text)).then(|| origin.clone())
    }

    /// Tells the browser, in the head of an answer.
    pub(crate) fn tell(&self, allowed: Option<HeaderValue>, answer: &mut HeaderMap) {
        if let Some(origin) = allowed {
            answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            answer.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
            answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(HEADERS));
            answer.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
            answer.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        if let Some(directives) = &self.directives {
            answer.entry(STRICT_TRANSPORT_SECURITY).or_insert_with(|| directives.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origin_is_taken_when_it_is_fixed_to_both_ends_of_the_host() {
        for good in [r"//example\.com(:|$)", r"^https://example\.com(:|$)", "^http://a$", "//a:"] {
            assert!(AllowedOrigin::parse(good).is_ok(), "{good}");
        }
        for (bad, why) in [
            ("", "empty value in --cors-allowed-origins, help: List of"),
            ("example.com", "regular expression does not pin to start/end of host"),
            ("//example.com", "does not pin"),
            ("example.com$", "does not pin"),
            ("//a($", "--cors-allowed-origins has an invalid regular expression: "),
        ] {
            let found = AllowedOrigin::parse(bad).unwrap_err();
            assert!(found.contains(why), "{bad}: {found}");
        }
    }

    #[test]
    fn origin_is_allowed_by_any_expression_and_no_other_is() {
        let origins = [r"//a\.example(:|$)", r"^https://.*\.b\.example$"]
            .map(|text| AllowedOrigin::parse(text).unwrap());
        let browsers = Browsers::new(origins.to_vec(), &[]);
        let allowed = |origin: &str| {
            let headers = HeaderMap::from_iter([(ORIGIN, HeaderValue::from_str(origin).unwrap())]);
            browsers.allowed(&headers).is_some()
        };
        for (origin, expected) in [
            ("http://a.example", true),
            ("https://a.example:8443", true),
            ("https://x.b.example", true),
            ("https://a.example.evil.org", false),
            ("http://x.b.example", false),
            ("null", false),
            ("", false),
        ] {
            assert_eq!(allowed(origin), expected, "{origin}");
        }
        assert_eq!(browsers.allowed(&HeaderMap::new()), None);
    }

    #[test]
    fn directives_are_those_of_the_standard() {
        for good in ["max-age=31536000", "includeSubDomains", "preload", "max-age="] {
            assert_eq!(directive(good).as_deref(), Ok(good));
        }
        assert_eq!(directive(" ").unwrap_err(), "empty value in strict-transport-security-directives");
        for bad in ["max-age", "max-age=1=2", "includesubdomains", "max-age=\n"] {
            assert!(
                directive(bad).unwrap_err().starts_with("--strict-transport-security-directives invalid"),
                "{bad}"
            );
        }
    }

    #[test]
    fn directive_of_a_server_behind_this_one_stays() {
        let browsers = Browsers::new(Vec::new(), &["max-age=5".to_owned(), "preload".to_owned()]);
        let mut answer = HeaderMap::new();
        browsers.tell(None, &mut answer);
        assert_eq!(answer[STRICT_TRANSPORT_SECURITY], "max-age=5; preload");
        answer.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=1"));
        browsers.tell(None, &mut answer);
        assert_eq!(answer[STRICT_TRANSPORT_SECURITY], "max-age=1");
    }
}
