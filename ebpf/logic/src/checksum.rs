//! How checksums change when addresses, ports and hop counts do (RFC 1624), and sums over whole headers (RFC 1071).
//! Pure arithmetic over words as they lie in memory: the one's complement sum does not depend on byte order.

use skep_abi::Be16;
use skep_abi::flow::Flow;

use crate::family::Family;

/// A change of a one's complement sum, kept wide and folded at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delta(pub u64);

impl Delta {
    /// No change.
    pub const NONE: Self = Self(0);

    /// Words that sum up to `old` are replaced by words that sum up to `new`, `words` 32-bit words each.
    #[inline(always)]
    pub const fn words(self, old: u64, new: u64, words: u64) -> Self {
        // The complement of each old word, summed: `words * (2^32 - 1) - old`.
        Self(self.0 + words * 0xffff_ffff - old + new)
    }

    /// A packet of `flow` gets its new addresses.
    #[inline(always)]
    pub fn addresses<F: Family>(flow: &Flow<F::Address>) -> Self {
        let old = F::sum(&flow.source) + F::sum(&flow.destination);
        let new = F::sum(&flow.new_source) + F::sum(&flow.new_destination);
        Self::NONE.words(old, new, if F::IS_V4 { 2 } else { 8 })
    }

    /// A packet of `flow` gets its new ports.
    #[inline(always)]
    pub const fn ports<A>(self, flow: &Flow<A>) -> Self {
        self.port(flow.source_port, flow.new_source_port)
            .port(flow.destination_port, flow.new_destination_port)
    }

    /// One 16-bit word is replaced.
    #[inline(always)]
    pub const fn port(self, old: Be16, new: Be16) -> Self {
        Self(self.0 + (!old.raw()) as u64 + new.raw() as u64)
    }

    /// As a 32-bit partial sum, which kernel helpers take.
    #[inline(always)]
    pub const fn fold32(self) -> u32 {
        let once = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        ((once & 0xffff_ffff) + (once >> 32)) as u32
    }

    /// The checksum that `old` becomes (RFC 1624, equation 3).
    #[inline(always)]
    pub const fn apply(self, old: u16) -> u16 {
        !fold16((!old) as u64 + self.0)
    }

    /// As [`Delta::apply`] for UDP, where 0 means "none" (RFC 768) and stays so.
    #[inline(always)]
    pub const fn apply_udp(self, old: u16) -> u16 {
        if old == 0 {
            return 0;
        }
        match self.apply(old) {
            0 => 0xffff,
            new => new,
        }
    }
}

/// Folds a sum to 16 bits.
#[inline(always)]
pub const fn fold16(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}
