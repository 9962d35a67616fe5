//! Direct access to a packet's bytes, every access held against the packet's end, which is also what the kernel's
//! verifier wants to see.
//!
//! Headers lie at addresses that are multiples of 2, and their words are read as they stand: the target's machine has no
//! alignment to trap on, the kernel's compiler emits plain loads, and "unaligned" reads would be compiled byte by byte.
//! (bpf-linker's `allows-misaligned-mem-access` would have them whole, but then also misaligns the stack, which the
//! verifier refuses: "misaligned stack access off 0+0+-142 size 8", Linux 6.18.)
//!
//! The packet's two ends are fields of 32 bits that the kernel makes pointers of. They are loaded by an instruction that
//! the compiler cannot look into: seen as 32-bit numbers they are moved as such, and are pointers no longer ("R7 invalid
//! mem access 'scalar'", Linux 6.18).

use core::arch::asm;

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use aya_ebpf::programs::{TcContext, XdpContext};
use skep_abi::Plain;
use skep_logic::bytes::Bytes;

const _: () = {
    assert!(core::mem::offset_of!(xdp_md, data) == 0 && core::mem::offset_of!(xdp_md, data_end) == 4);
    assert!(core::mem::offset_of!(__sk_buff, data) == 76 && core::mem::offset_of!(__sk_buff, data_end) == 80);
};

/// The linear part of a packet. Must not be used after a helper that may move the packet.
#[derive(Clone, Copy)]
pub struct Direct {
    start: usize,
    end: usize,
}

impl Direct {
    /// The bytes of an XDP packet.
    #[inline(always)]
    pub fn xdp(context: &XdpContext) -> Self {
        let (start, end): (usize, usize);
        // SAFETY: `data` and `data_end` are the first two fields of the context.
        unsafe {
            asm!(
                "{0} = *(u32 *)({2} + 0)", "{1} = *(u32 *)({2} + 4)",
                out(reg) start, lateout(reg) end, in(reg) context.ctx,
            );
        }
        Self { start, end }
    }

    /// The linear bytes of a packet in the stack.
    #[inline(always)]
    pub fn skb(context: &TcContext) -> Self {
        let (start, end): (usize, usize);
        // SAFETY: `data` and `data_end` of the context lie at these offsets (asserted below).
        unsafe {
            asm!(
                "{0} = *(u32 *)({2} + 76)", "{1} = *(u32 *)({2} + 80)",
                out(reg) start, lateout(reg) end, in(reg) context.skb.skb,
            );
        }
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

    #[inline(always)]
    fn copy<const N: usize>(&self, offset: usize, target: &mut [u16]) -> Option<()> {
        let window = self.window(offset, N * 2)?;
        if target.len() < N {
            return None;
        }
        for (at, word) in target.iter_mut().take(N).enumerate() {
            // SAFETY: the window holds `N` words. Volatile keeps each load beside its store: gathered, they would have to
            // wait on the stack, which has no room for them.
            *word = unsafe { window.load_in_order(at * 2) };
        }
        Some(())
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

    /// Reads a word at `offset` of the window, in its place among other such accesses.
    ///
    /// # Safety
    ///
    /// `offset + 2` is within the window.
    #[inline(always)]
    pub unsafe fn load_in_order(self, offset: usize) -> u16 {
        // SAFETY: within the packet by the caller's promise.
        unsafe { ((self.start + offset) as *const u16).read_volatile() }
    }

    /// Writes a word at `offset` of the window, in its place among other such accesses.
    ///
    /// # Safety
    ///
    /// `offset + 2` is within the window, and the packet may be written.
    #[inline(always)]
    pub unsafe fn store_in_order(self, offset: usize, word: u16) {
        // SAFETY: within the packet by the caller's promise.
        unsafe { ((self.start + offset) as *mut u16).write_volatile(word) }
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
