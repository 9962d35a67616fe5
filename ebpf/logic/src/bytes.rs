//! Reading a packet. Owns the bounds rule: a load that does not lie wholly within the packet yields nothing.

use skep_abi::Plain;

/// Bytes of a packet, from the Ethernet header on.
pub trait Bytes {
    /// The `T` at `offset`, or nothing when the packet ends before it does.
    fn load<T: Plain>(&self, offset: usize) -> Option<T>;

    /// Copies the `N` 16-bit words at `offset` to the start of `target`, or nothing when the packet ends before they do or
    /// `target` is shorter.
    fn copy<const N: usize>(&self, offset: usize, target: &mut [u16]) -> Option<()>;
}

impl Bytes for [u8] {
    fn load<T: Plain>(&self, offset: usize) -> Option<T> {
        let end = offset.checked_add(size_of::<T>())?;
        let bytes = self.get(offset..end)?;
        // SAFETY: `bytes` holds `size_of::<T>()` bytes, and every bit pattern is a valid `Plain`.
        Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
    }

    fn copy<const N: usize>(&self, offset: usize, target: &mut [u16]) -> Option<()> {
        let target = target.get_mut(..N)?;
        let source = self.get(offset..offset.checked_add(N * 2)?)?;
        for (word, bytes) in target.iter_mut().zip(source.chunks_exact(2)) {
            *word = u16::from_ne_bytes([bytes[0], bytes[1]]);
        }
        Some(())
    }
}
