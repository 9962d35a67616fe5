//! Why a call came to nothing, in the words that upstream's client has for it.

use http::Method;
use hyper_util::client::legacy;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// It did not come in time.
    Timeout,
    /// The server cannot be reached, or speaks nonsense.
    Send(String),
    /// Nothing is known that could be shown to the server, for this reason.
    Credentials(String),
    /// It is larger than so many bytes.
    TooLarge(usize),
    /// It has this code, which means a failure, and this text.
    Code(u16, String),
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Timeout => f.write_str("context deadline exceeded"),
            Self::Send(why) => f.write_str(why),
            Self::Credentials(why) => write!(f, "getting credentials: {why}"),
            Self::TooLarge(limit) => write!(f, "the response is larger than {limit} bytes"),
            Self::Code(404, _) => f.write_str("the server could not find the requested resource"),
            Self::Code(401, _) => f.write_str("the server has asked for the client to provide credentials"),
            Self::Code(503, _) => f.write_str("the server is currently unable to handle the request"),
            Self::Code(500.., text) => {
                write!(f, "an error on the server ({text:?}) has prevented the request from succeeding")
            }
            Self::Code(code, text) => {
                write!(f, "the server responded with the status code {code} ({text:?})")
            }
        }
    }
}

/// A call that came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) struct CallError {
    pub(crate) method: Method,
    pub(crate) url: String,
    pub(crate) why: Why,
}

impl std::fmt::Display for CallError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Why::Code(..) = self.why {
            return self.why.fmt(f);
        }
        let method = self.method.as_str();
        let (first, rest) = method.split_at(1);
        write!(f, "{first}{} {:?}: {}", rest.to_ascii_lowercase(), self.url, self.why)
    }
}

pub(super) fn of_client(error: &legacy::Error) -> Why {
    Why::Send(innermost(error))
}

/// A failure with those that it comes from, each once.
pub(super) fn of_layers(error: &dyn std::error::Error) -> String {
    let mut texts = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(one) = cause {
        if !texts.iter().any(|text| text.contains(&one.to_string())) {
            texts.push(one.to_string());
        }
        cause = one.source();
    }
    texts.join(": ")
}

/// The text of the failure at the bottom: those above only say which part of the client passed it on.
pub(super) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    match error.to_string() {
        // How that is said depends on the layer that noticed it.
        text if text.contains("close_notify") || text.contains("closed before message completed") => {
            "EOF".into()
        }
        text => text,
    }
}
