//! SPDY/3.1 as Kubernetes' streams use it: frames ([`frame`]), compressed headers ([`header`]), and sessions of many
//! streams over one connection ([`session`]).
//!
//! Left out on purpose: flow control (the peers neither send nor obey window updates), priorities, settings, push.

mod dictionary;
mod frame;
mod header;
mod reading;
mod session;
#[cfg(test)]
mod tests;

pub(crate) use session::{Event, Opened, Role, Session, Stream, StreamReader, StreamWriter};

/// Headers of a stream: names and values, in their order.
pub(crate) type Headers = Vec<(String, String)>;

/// The value of a header. Names are compared without regard to case.
pub(crate) fn value<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}
