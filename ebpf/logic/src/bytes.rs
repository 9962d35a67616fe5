//! Reading a packet. Owns the bounds rule: a load that does not lie wholly within the packet yields nothing.

use skep_abi::Plain;

/// Bytes of a packet, from the Ethernet header on.
pub trait Bytes {
    /// The `T` at `offset`, or nothing when the packet ends before it does.
    fn load<T: Plain>(&self, offset: usize) -> Option<T>;
}

impl Bytes for [u8] {
    fn load<T: Plain>(&self, offset: usize) -> Option<T> {
        let end = offset.checked_add(size_of::<T>())?;
        let bytes = self.get(offset..end)?;
        // SAFETY: `bytes` holds `size_of::<T>()` bytes, and every bit pattern is a valid `Plain`.
        Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
    }
}
