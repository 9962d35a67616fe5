//! How a value that cannot be opened is shown to the cache: bytes that no JSON begins with, and the reason.

use bytes::Bytes;

const MARK: &[u8] = b"\0cannot be opened: ";

/// In the place of a value.
pub(super) fn unreadable(reason: &str) -> Bytes {
    [MARK, reason.as_bytes()].concat().into()
}

/// Why a value could not be opened, if this is in its place.
pub(crate) fn reason_of(value: &[u8]) -> Option<&str> {
    value.strip_prefix(MARK).and_then(|reason| std::str::from_utf8(reason).ok())
}
