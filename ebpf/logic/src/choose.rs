//! Which slot of a slice a new connection gets. Pure: randomness and the tuple are passed in.

use skep_abi::service::{FLAG_HASHED, ServiceValue};

/// What a choice may depend on.
#[derive(Clone, Copy, Debug)]
pub struct Inputs {
    /// Fresh random bits.
    pub random: u32,
    /// Hash of the whole tuple.
    pub tuple: u32,
}

/// Position within the slice, less than `service.count`; nothing when that is 0. By the hash where the service wants it or
/// it is to be `repeatable`.
#[inline(always)]
pub fn position(service: &ServiceValue, inputs: Inputs, repeatable: bool) -> Option<u32> {
    if service.count == 0 {
        return None;
    }
    let number =
        if repeatable || service.flags & FLAG_HASHED != 0 { scramble(inputs.tuple) } else { inputs.random };
    Some(scale(number, service.count))
}

/// Maps a uniform 32-bit number to `0..count` by multiplication, which needs no division.
#[inline(always)]
pub const fn scale(number: u32, count: u32) -> u32 {
    ((number as u64 * count as u64) >> 32) as u32
}

/// Spreads the bits of a weak hash over the whole word, the high ones above all, since [`scale`] uses those.
#[inline(always)]
pub const fn scramble(hash: u32) -> u32 {
    let mut hash = hash;
    hash ^= hash >> 16;
    hash = hash.wrapping_mul(0x7feb_352d);
    hash ^= hash >> 15;
    hash = hash.wrapping_mul(0x846c_a68b);
    hash ^ (hash >> 16)
}
