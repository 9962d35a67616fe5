//! Values of the ABI as bytes and back.
//!
//! Owns the only two casts between them; sound because [`Plain`] promises that a type has no padding and that every
//! bit pattern is a value.

use skep_abi::Plain;

/// The bytes of `value`, as the kernel stores it.
pub(crate) fn bytes<T: Plain>(value: &T) -> &[u8] {
    // SAFETY: a `Plain` type is `repr(C)` without padding, so that all its bytes are initialised; the slice borrows
    // `value` for its whole size.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }
}

/// A copy of [`bytes`] to own.
pub(crate) fn owned<T: Plain>(value: &T) -> Box<[u8]> {
    bytes(value).into()
}

/// The value at the start of `bytes`; `None` when they are too few.
pub(crate) fn read<T: Plain>(bytes: &[u8]) -> Option<T> {
    if bytes.len() < size_of::<T>() {
        return None;
    }
    // SAFETY: there are enough bytes, any bytes are a value of a `Plain` type, and the read may be unaligned.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

/// The values of all CPUs in what the kernel gives for one entry of a per-CPU map: each rounded up to 8 bytes.
pub(crate) fn per_cpu<T: Plain>(bytes: &[u8]) -> impl Iterator<Item = T> {
    bytes.chunks(size_of::<T>().next_multiple_of(8)).filter_map(read)
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_abi::counters::Counter;

    #[test]
    fn read_bytes_written_gives_the_value() {
        let counter = Counter { packets: 1, bytes: u64::MAX };
        assert_eq!(read::<Counter>(bytes(&counter)), Some(counter));
        assert_eq!(read::<Counter>(&bytes(&counter)[1..]), None);
    }

    #[test]
    fn per_cpu_values_are_read_at_their_stride() {
        let values = [7u32.to_ne_bytes(), [0; 4], 9u32.to_ne_bytes(), [0; 4]].concat();
        assert_eq!(per_cpu::<u32>(&values).collect::<Vec<_>>(), [7, 9]);
    }
}
