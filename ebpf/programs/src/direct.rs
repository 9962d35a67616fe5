//! Direct access to a packet's bytes, every access held against the packet's end, which is also what the kernel's
//! verifier wants to see.
//!
//! Headers lie at addresses that are multiples of 2, and their words are read as they stand: the target's machine has no
//! alignment to trap on, the kernel's compiler emits plain loads, and "unaligned" reads would be compiled byte by byte.
//! (bpf-linker's `allows-misaligned-mem-access` would have them whole, but then also misaligns the stack, which the
//! verifier refuses: "misaligned stack access off 0+0+-142 size 8", Linux 6.18.)

use skep_abi::Plain;
use skep_logic::bytes::Bytes;

/// The linear part of a packet. Must not be used after a helper that may move the packet.
#[derive(Clone, Copy)]
pub struct Direct {
    start: usize,
    end: usize,
}

impl Direct {
    /// The bytes from `start` to `end`, as the kernel gave them to this program.
    #[inline(always)]
    pub const fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// Length in bytes.
    #[inline(always)]
    pub const fn len(self) -> usize {
        self.end - self.start
    }

    /// A window of `length` bytes at `offset`, if it lies within the packet.
    #[inline(always)]
    pub fn window(self, offset: usize, length: usize) -> Option<Window> {
        let start = self.start + offset;
        if start + length > self.end { None } else { Some(Window { start }) }
    }
}

impl Bytes for Direct {
    #[inline(always)]
    fn load<T: Plain>(&self, offset: usize) -> Option<T> {
        let window = self.window(offset, size_of::<T>())?;
        // SAFETY: the window holds `size_of::<T>()` bytes of the packet.
        Some(unsafe { window.load(0) })
    }
}

/// Part of a packet that was found to be within it.
#[derive(Clone, Copy)]
pub struct Window {
    start: usize,
}

impl Window {
    /// Reads at `offset` of the window.
    ///
    /// # Safety
    ///
    /// `offset + size_of::<T>()` is within the window.
    #[inline(always)]
    pub unsafe fn load<T: Plain>(self, offset: usize) -> T {
        // SAFETY: within the packet by the caller's promise; every bit pattern is a valid `Plain`; for alignment see the
        // module's documentation.
        unsafe { *((self.start + offset) as *const T) }
    }

    /// Writes at `offset` of the window.
    ///
    /// # Safety
    ///
    /// `offset + size_of::<T>()` is within the window, and the packet may be written.
    #[inline(always)]
    pub unsafe fn store<T: Copy>(self, offset: usize, value: T) {
        // SAFETY: within the packet by the caller's promise; for alignment see the module's documentation.
        unsafe { *((self.start + offset) as *mut T) = value }
    }
}
