//! Array maps mapped into memory: written without a system call per entry.
//!
//! Owns the mapping and the atomicity of its words. The kernel's programs read the same memory at any time, so that
//! every access is a whole aligned word, and [`publish`] orders what was written before against what follows.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use memmap2::{MmapOptions, MmapRaw};

/// An array map of values of `stride` bytes, a multiple of 8.
#[derive(Debug)]
pub(crate) struct MappedArray {
    mapping: MmapRaw,
    stride: usize,
    entries: usize,
}

impl MappedArray {
    /// Maps `entries` values of the array behind `fd`.
    pub(crate) fn new(fd: &OwnedFd, value_size: usize, entries: u32) -> io::Result<Self> {
        let stride = value_size.next_multiple_of(8);
        let entries = entries as usize;
        let mapping = MmapOptions::new().len(stride * entries).map_raw(fd)?;
        Ok(Self { mapping, stride, entries })
    }

    /// Number of values.
    pub(crate) fn len(&self) -> usize {
        self.entries
    }

    /// The 32-bit words of the mapping from entry `index` on, for `count` entries; `None` beyond the end.
    fn words(&self, index: usize, count: usize) -> Option<&[AtomicU32]> {
        let end = index.checked_add(count).filter(|end| *end <= self.entries)?;
        let start = index * self.stride;
        let length = (end * self.stride - start) / size_of::<AtomicU32>();
        // SAFETY: the range lies in the mapping (checked above), which lives as long as `self`, is page-aligned and
        // starts the range at a multiple of 8; the memory is only ever accessed atomically from here.
        Some(unsafe {
            std::slice::from_raw_parts(self.mapping.as_ptr().add(start).cast::<AtomicU32>(), length)
        })
    }

    fn word(&self, index: usize) -> Option<&AtomicU64> {
        if index >= self.entries || self.stride != size_of::<AtomicU64>() {
            return None;
        }
        // SAFETY: entry `index` is in the mapping, which lives as long as `self`, and is 8 bytes at a multiple of 8;
        // the memory is only ever accessed atomically from here.
        Some(unsafe { &*self.mapping.as_ptr().cast::<AtomicU64>().add(index) })
    }

    /// Writes the bytes of values from entry `index` on. They must not be in use: a reader could see half of them.
    pub(crate) fn write(&self, index: usize, bytes: &[u8]) -> io::Result<()> {
        if !bytes.len().is_multiple_of(self.stride) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let words = self.words(index, bytes.len() / self.stride).ok_or(io::ErrorKind::InvalidInput)?;
        for (word, bytes) in words.iter().zip(bytes.chunks_exact(4)) {
            word.store(u32::from_ne_bytes(bytes.try_into().expect("chunks of 4")), Ordering::Relaxed);
        }
        Ok(())
    }

    /// The bytes of `count` values from entry `index` on, cut at the end of the array.
    pub(crate) fn read(&self, index: usize, count: usize) -> Vec<u8> {
        let count = count.min(self.entries.saturating_sub(index));
        let words = self.words(index, count).unwrap_or_default();
        words.iter().flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes()).collect()
    }

    /// Stores the 8-byte value `index` in one step.
    pub(crate) fn store(&self, index: usize, value: u64) -> io::Result<()> {
        self.word(index).ok_or(io::ErrorKind::InvalidInput)?.store(value, Ordering::Release);
        Ok(())
    }

    /// Reads the 8-byte value `index`.
    pub(crate) fn load(&self, index: usize) -> Option<u64> {
        Some(self.word(index)?.load(Ordering::Acquire))
    }

    /// A 64-bit word of value `index`.
    fn word_of(&self, index: usize, word: usize) -> Option<&AtomicU64> {
        let at = word.checked_mul(size_of::<AtomicU64>()).filter(|at| *at < self.stride)?;
        if index >= self.entries {
            return None;
        }
        // SAFETY: value `index` is in the mapping, which lives as long as `self`, and the word is within the value, at a
        // multiple of 8; the memory is only ever accessed atomically from here.
        Some(unsafe { &*self.mapping.as_ptr().add(index * self.stride + at).cast::<AtomicU64>() })
    }

    /// Reads a 64-bit word of value `index`.
    pub(crate) fn load_word(&self, index: usize, word: usize) -> Option<u64> {
        Some(self.word_of(index, word)?.load(Ordering::Acquire))
    }

    /// Stores `new` in a 64-bit word of value `index` if it is `old`. Says whether it was.
    pub(crate) fn exchange_word(&self, index: usize, word: usize, old: u64, new: u64) -> bool {
        self.word_of(index, word)
            .is_some_and(|word| word.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire).is_ok())
    }

    /// Sets bits of the 8-byte value `index` in one step.
    pub(crate) fn set_bits(&self, index: usize, mask: u64) -> io::Result<()> {
        self.word(index).ok_or(io::ErrorKind::InvalidInput)?.fetch_or(mask, Ordering::Release);
        Ok(())
    }
}

/// Makes everything written so far visible before everything that follows.
pub(crate) fn publish() {
    fence(Ordering::SeqCst);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::OwnedFd;

    fn array(value_size: usize, entries: u32) -> MappedArray {
        let path = std::env::temp_dir().join(format!("skep-memory-{}-{value_size}", std::process::id()));
        let file =
            std::fs::File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        file.set_len((value_size.next_multiple_of(8) * entries as usize) as u64).unwrap();
        std::fs::remove_file(path).unwrap();
        MappedArray::new(&OwnedFd::from(file), value_size, entries).unwrap()
    }

    #[test]
    fn mapped_array_write_and_read_stay_in_bounds() {
        let array = array(24, 4);
        let value: Vec<u8> = (0..24).collect();
        array.write(3, &value).unwrap();
        assert_eq!(array.read(3, 9), value);
        assert_eq!(array.read(4, 1), Vec::<u8>::new());
        assert!(array.write(4, &value).is_err());
        assert!(array.write(3, &value[1..]).is_err());
        assert!(array.store(0, 1).is_err(), "words of another size");
    }

    #[test]
    fn mapped_array_words_of_a_longer_value_are_exchanged_within_it() {
        let array = array(64, 2);
        assert!(array.exchange_word(1, 7, 0, 5) && !array.exchange_word(1, 7, 0, 6));
        assert_eq!(
            [array.load_word(1, 7), array.load_word(0, 7), array.load_word(1, 8)],
            [Some(5), Some(0), None]
        );
        assert!(!array.exchange_word(2, 0, 0, 1) && array.load_word(2, 0).is_none());
    }

    #[test]
    fn mapped_array_words_are_stored_and_bits_added() {
        let array = array(8, 2);
        array.store(1, 0b100).unwrap();
        array.set_bits(1, 0b001).unwrap();
        assert_eq!((array.load(0), array.load(1), array.load(2)), (Some(0), Some(0b101), None));
        assert!(array.store(2, 0).is_err());
    }
}
