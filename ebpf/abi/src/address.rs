//! Addresses and ports in network byte order. Owns their conversions; knows nothing of maps.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A 16-bit value in network byte order, usually a port.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[repr(transparent)]
pub struct Be16(u16);

impl Be16 {
    /// From a value in the machine's order.
    #[inline(always)]
    pub const fn new(host: u16) -> Self {
        Self(host.to_be())
    }

    /// From the two bytes as they lie in a packet, loaded as one integer.
    #[inline(always)]
    pub const fn from_raw(raw: u16) -> Self {
        Self(raw)
    }

    /// As loaded from a packet.
    #[inline(always)]
    pub const fn raw(self) -> u16 {
        self.0
    }

    /// In the machine's order.
    #[inline(always)]
    pub const fn get(self) -> u16 {
        u16::from_be(self.0)
    }
}

impl fmt::Debug for Be16 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.get(), f)
    }
}

/// An IPv4 address: the four bytes as they lie in a packet, loaded as one integer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[repr(transparent)]
pub struct V4(pub u32);

/// An IPv6 address: the sixteen bytes as they lie in a packet, loaded as four integers.
#[derive(Clone, Copy, Eq, PartialOrd, Ord, Default)]
#[repr(transparent)]
pub struct V6(pub [u32; 4]);

/// Without branches: the derived form becomes a call that compares byte by byte, each a branch for the kernel's verifier
/// to follow.
impl PartialEq for V6 {
    #[inline(always)]
    fn eq(&self, other: &Self) -> bool {
        let [a, b, c, d] = self.0;
        let [e, f, g, h] = other.0;
        (a ^ e) | (b ^ f) | (c ^ g) | (d ^ h) == 0
    }
}

impl core::hash::Hash for V6 {
    fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl V4 {
    /// From bytes in packet order.
    #[inline(always)]
    pub const fn from_octets(octets: [u8; 4]) -> Self {
        Self(u32::from_ne_bytes(octets))
    }

    /// Bytes in packet order.
    #[inline(always)]
    pub const fn octets(self) -> [u8; 4] {
        self.0.to_ne_bytes()
    }
}

impl V6 {
    /// From bytes in packet order.
    pub const fn from_octets(octets: [u8; 16]) -> Self {
        let mut words = [0; 4];
        let mut at = 0;
        while at < 4 {
            let base = at * 4;
            words[at] =
                u32::from_ne_bytes([octets[base], octets[base + 1], octets[base + 2], octets[base + 3]]);
            at += 1;
        }
        Self(words)
    }

    /// Bytes in packet order.
    pub const fn octets(self) -> [u8; 16] {
        let mut octets = [0; 16];
        let mut at = 0;
        while at < 16 {
            octets[at] = self.0[at / 4].to_ne_bytes()[at % 4];
            at += 1;
        }
        octets
    }

    /// Its two halves, each loaded at once. For an address in a packet's or a map's memory: on the stack the kernel's verifier
    /// wants such loads to be aligned.
    #[inline(always)]
    #[allow(unsafe_code)]
    pub const fn halves(&self) -> [u64; 2] {
        #[cfg(target_arch = "bpf")]
        // SAFETY: it is 16 bytes. They may lie at any multiple of 4, which the target's machine loads as well; as an "unaligned"
        // read it would be compiled to four loads.
        return unsafe { *core::ptr::from_ref(self).cast::<[u64; 2]>() };
        #[cfg(not(target_arch = "bpf"))]
        // SAFETY: both are 16 bytes of which every pattern is a value.
        return unsafe { core::mem::transmute::<[u32; 4], [u64; 2]>(self.0) };
    }

    /// Becomes the address with these [`V6::halves`], each stored at once. For memory that they are for.
    #[inline(always)]
    #[allow(unsafe_code)]
    pub const fn set_halves(&mut self, halves: [u64; 2]) {
        #[cfg(target_arch = "bpf")]
        // SAFETY: as in `halves`.
        unsafe {
            *core::ptr::from_mut(self).cast::<[u64; 2]>() = halves;
        }
        #[cfg(not(target_arch = "bpf"))]
        // SAFETY: as in `halves`.
        unsafe {
            self.0 = core::mem::transmute::<[u64; 2], [u32; 4]>(halves);
        }
    }

    /// The IPv4 address inside an IPv4-mapped one (`::ffff:a.b.c.d`, RFC 4291 section 2.5.5.2).
    #[inline(always)]
    pub const fn mapped(self) -> Option<V4> {
        if self.0[0] == 0 && self.0[1] == 0 && self.0[2] == 0xffff_u32.to_be() {
            Some(V4(self.0[3]))
        } else {
            None
        }
    }

    /// `address` as an IPv4-mapped address.
    #[inline(always)]
    pub const fn from_mapped(address: V4) -> Self {
        Self([0, 0, 0xffff_u32.to_be(), address.0])
    }

    /// An IPv4 address in the first word, the others zero: how 16-byte fields shared by both families hold it.
    #[inline(always)]
    pub const fn from_first(address: V4) -> Self {
        Self([address.0, 0, 0, 0])
    }

    /// Inverse of [`V6::from_first`].
    #[inline(always)]
    pub const fn first(self) -> V4 {
        V4(self.0[0])
    }
}

impl From<Ipv4Addr> for V4 {
    fn from(address: Ipv4Addr) -> Self {
        Self::from_octets(address.octets())
    }
}

impl From<V4> for Ipv4Addr {
    fn from(address: V4) -> Self {
        Self::from(address.octets())
    }
}

impl From<Ipv6Addr> for V6 {
    fn from(address: Ipv6Addr) -> Self {
        Self::from_octets(address.octets())
    }
}

impl From<V6> for Ipv6Addr {
    fn from(address: V6) -> Self {
        Self::from(address.octets())
    }
}

impl From<V4> for IpAddr {
    fn from(address: V4) -> Self {
        Self::V4(address.into())
    }
}

impl From<V6> for IpAddr {
    fn from(address: V6) -> Self {
        Self::V6(address.into())
    }
}

impl fmt::Debug for V4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&Ipv4Addr::from(*self), f)
    }
}

impl fmt::Debug for V6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&Ipv6Addr::from(*self), f)
    }
}

crate::plain!(Be16, V4, V6);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v6_octets_round_trip() {
        let octets: [u8; 16] = core::array::from_fn(|at| at as u8 * 7);
        assert_eq!(V6::from_octets(octets).octets(), octets);
    }

    #[test]
    fn v6_halves_are_loaded_and_stored_in_order() {
        let address = V6([1, 2, 3, 4]);
        assert_eq!(address.halves(), [1 | 2 << 32, 3 | 4 << 32].map(u64::from_le));
        let mut other = V6::default();
        other.set_halves(address.halves());
        assert_eq!(other, address);
    }

    #[test]
    fn v6_mapped_address_yields_its_v4_part() {
        let v4 = V4::from_octets([10, 1, 2, 3]);
        assert_eq!(V6::from_mapped(v4).mapped(), Some(v4));
        assert_eq!(Ipv6Addr::from(V6::from_mapped(v4)).to_string(), "::ffff:10.1.2.3");
        assert_eq!(V6::from_first(v4).mapped(), None);
    }
}
