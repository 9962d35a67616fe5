//! How SCTP's checksum follows a change of ports: CRC32c over the whole packet, but no pseudo-header (RFC 9260 section
//! 6.8), so that a change of addresses alone leaves it as it is. Pure arithmetic.
//!
//! CRC32c is linear over GF(2): the sum of a packet of `n` bytes whose first four, the ports, change by the bits `d` changes
//! by `d * x^(8n)` modulo the polynomial, whatever else is in the packet. So nothing of the payload is read: one
//! multiplication for each bit of the length, by tables, since as a loop over bits it is more than the kernel's verifier
//! follows ("processed 1000001 insns", Linux 6.18). Everything here is in the "reflected" order, in which the top bit is the
//! coefficient of `x^0` and words in memory are little-endian.

/// The polynomial of CRC32c (Castagnoli), reflected.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// Bits in an IP packet's length.
const LENGTH_BITS: usize = 16;
/// The product of `byte << (8 * place)` and `x^(8 * 2^k)`, at `k`, `place` and `byte`.
static PRODUCTS: [[[u32; 256]; 4]; LENGTH_BITS] = products();

const fn products() -> [[[u32; 256]; 4]; LENGTH_BITS] {
    let mut products = [[[0; 256]; 4]; LENGTH_BITS];
    // x^8.
    let mut power = 1 << (31 - 8);
    let mut k = 0;
    while k < LENGTH_BITS {
        let mut place = 0;
        while place < 4 {
            let mut byte: usize = 1;
            while byte < 256 {
                let rest = byte & (byte - 1);
                products[k][place][byte] = if rest == 0 {
                    multiply((byte as u32) << (8 * place), power)
                } else {
                    products[k][place][rest] ^ products[k][place][byte ^ rest]
                };
                byte += 1;
            }
            place += 1;
        }
        power = multiply(power, power);
        k += 1;
    }
    products
}

/// The product of two polynomials modulo [`POLYNOMIAL`].
const fn multiply(one: u32, other: u32) -> u32 {
    let (mut one, mut other, mut product) = (one, other, 0);
    let mut step = 0;
    while step < 32 {
        product ^= other & (one >> 31).wrapping_neg();
        one <<= 1;
        other = (other >> 1) ^ (POLYNOMIAL & (other & 1).wrapping_neg());
        step += 1;
    }
    product
}

/// By which bits the checksum of an SCTP packet of `length` bytes changes when its first four bytes, read as a
/// little-endian word, change by the bits `change`.
#[inline(never)]
pub fn change(change: u32, length: u32) -> u32 {
    let mut product = change;
    let mut at = 0;
    while at < LENGTH_BITS {
        let [a, b, c, d] = &PRODUCTS[at];
        let next = a[(product & 0xff) as usize]
            ^ b[((product >> 8) & 0xff) as usize]
            ^ c[((product >> 16) & 0xff) as usize]
            ^ d[(product >> 24) as usize];
        // Without a branch: the verifier would follow both ways at each bit.
        let mask = ((length >> at) & 1).wrapping_neg();
        product = (next & mask) | (product & !mask);
        at += 1;
    }
    product
}

/// The checksum of `COUNT` 16-bit words, as they lie in memory, as the little-endian word that it is written as. The
/// checksum's own field must be zero.
#[inline(always)]
pub fn checksum<const COUNT: usize>(words: &[u16], start: usize) -> u32 {
    let mut sum = u32::MAX;
    let mut at = 0;
    while at < COUNT {
        sum ^= u32::from(u16::from_le(words[start + at]));
        sum = (sum >> 8) ^ PRODUCTS[0][0][(sum & 0xff) as usize];
        sum = (sum >> 8) ^ PRODUCTS[0][0][(sum & 0xff) as usize];
        at += 1;
    }
    !sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn crc(bytes: &[u8]) -> u32 {
        let mut sum = u32::MAX;
        for byte in bytes {
            sum ^= u32::from(*byte);
            for _ in 0..8 {
                sum = if sum & 1 == 1 { (sum >> 1) ^ POLYNOMIAL } else { sum >> 1 };
            }
        }
        !sum
    }

    #[test]
    fn checksum_of_the_standard_example_is_right() {
        assert_eq!(crc(b"123456789"), 0xe306_9283);
        let words: Vec<u16> =
            b"12345678".chunks(2).map(|pair| u16::from_ne_bytes([pair[0], pair[1]])).collect();
        assert_eq!(checksum::<4>(&words, 0), crc(b"12345678"));
    }

    proptest! {
        #[test]
        fn change_of_ports_is_what_the_whole_sum_changes_by(
            mut packet in proptest::collection::vec(any::<u8>(), 16..3000),
            ports in any::<[u8; 4]>(),
        ) {
            let before = crc(&packet);
            let old = u32::from_le_bytes([packet[0], packet[1], packet[2], packet[3]]);
            packet[..4].copy_from_slice(&ports);
            let bits = change(old ^ u32::from_le_bytes(ports), packet.len() as u32);
            prop_assert_eq!(before ^ bits, crc(&packet));
        }
    }
}
