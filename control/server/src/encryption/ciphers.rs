//! The ciphers of the providers that hold their keys themselves, in the byte layouts of upstream.
//!
//! - `aesgcm`: nonce of 12 bytes, ciphertext, tag of 16; bound to the key in the store.
//! - `aescbc`: initialisation vector of 16 bytes, ciphertext with PKCS #7 padding; bound to nothing, not authenticated.
//! - `secretbox`: nonce of 24 bytes, tag of 16, ciphertext (XSalsa20 and Poly1305); bound to nothing.

use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockDecryptMut, BlockEncryptMut, KeyIvInit};
use aes::{Aes128, Aes192, Aes256};
use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{AesGcm, KeyInit, Nonce};
use crypto_secretbox::XSalsa20Poly1305;
use ring::rand::{SecureRandom, SystemRandom};

use super::error::TransformError;

/// Bytes of the nonce of AES-GCM.
pub(super) const GCM_NONCE: usize = 12;
const CBC_BLOCK: usize = 16;
const BOX_NONCE: usize = 24;
const BOX_TAG: usize = 16;

type Gcm<A> = AesGcm<A, aes_gcm::aead::consts::U12>;

/// Seals and opens values.
pub(super) trait Cipher: Send + Sync {
    /// The sealed value. `place` is the key in the store.
    fn seal(&self, plain: &[u8], place: &[u8]) -> Result<Vec<u8>, TransformError>;
    /// The value in a sealed one.
    fn open(&self, sealed: &[u8], place: &[u8]) -> Result<Vec<u8>, TransformError>;
}

/// Fills `bytes` with what nobody can guess.
pub(super) fn random(bytes: &mut [u8]) -> Result<(), TransformError> {
    SystemRandom::new().fill(bytes).map_err(|_| TransformError::NoRandomness)
}

/// AES-GCM with a key of any of the three lengths.
pub(super) fn gcm(key: &[u8]) -> Option<Box<dyn Cipher>> {
    Some(match key.len() {
        16 => Box::new(GcmOf(Gcm::<Aes128>::new_from_slice(key).ok()?)),
        24 => Box::new(GcmOf(Gcm::<Aes192>::new_from_slice(key).ok()?)),
        32 => Box::new(GcmOf(Gcm::<Aes256>::new_from_slice(key).ok()?)),
        _ => return None,
    })
}

/// AES-CBC with a key of any of the three lengths.
pub(super) fn cbc(key: &[u8]) -> Option<Box<dyn Cipher>> {
    matches!(key.len(), 16 | 24 | 32).then(|| Box::new(Cbc(key.to_vec())) as _)
}

/// NaCl's secretbox, whose key has 32 bytes.
pub(super) fn secretbox(key: &[u8]) -> Option<Box<dyn Cipher>> {
    Some(Box::new(Secretbox(XSalsa20Poly1305::new_from_slice(key).ok()?)))
}

struct GcmOf<C>(C);

impl<A> Cipher for GcmOf<Gcm<A>>
where
    Gcm<A>: Aead<NonceSize = aes_gcm::aead::consts::U12> + Send + Sync,
{
    fn seal(&self, plain: &[u8], place: &[u8]) -> Result<Vec<u8>, TransformError> {
        let mut sealed = vec![0; GCM_NONCE];
        random(&mut sealed)?;
        let text = self.0.encrypt(Nonce::from_slice(&sealed), Payload { msg: plain, aad: place });
        sealed.extend(text.map_err(|_| TransformError::NotSealed)?);
        Ok(sealed)
    }

    fn open(&self, sealed: &[u8], place: &[u8]) -> Result<Vec<u8>, TransformError> {
        let (nonce, text) = sealed.split_at_checked(GCM_NONCE).ok_or(TransformError::TooShort)?;
        let opened = self.0.decrypt(Nonce::from_slice(nonce), Payload { msg: text, aad: place });
        opened.map_err(|_| TransformError::NotAuthentic)
    }
}

struct Cbc(Vec<u8>);

impl Cbc {
    fn encrypt<A>(&self, vector: &[u8], plain: &[u8]) -> Option<Vec<u8>>
    where
        cbc::Encryptor<A>: KeyIvInit + BlockEncryptMut,
        A: aes::cipher::BlockEncryptMut + aes::cipher::BlockCipher,
    {
        let cipher = cbc::Encryptor::<A>::new_from_slices(&self.0, vector).ok()?;
        Some(cipher.encrypt_padded_vec_mut::<Pkcs7>(plain))
    }

    fn decrypt<A>(&self, vector: &[u8], text: &[u8]) -> Option<Vec<u8>>
    where
        cbc::Decryptor<A>: KeyIvInit + BlockDecryptMut,
        A: aes::cipher::BlockDecryptMut + aes::cipher::BlockCipher,
    {
        let cipher = cbc::Decryptor::<A>::new_from_slices(&self.0, vector).ok()?;
        cipher.decrypt_padded_vec_mut::<Pkcs7>(text).ok()
    }
}

impl Cipher for Cbc {
    fn seal(&self, plain: &[u8], _place: &[u8]) -> Result<Vec<u8>, TransformError> {
        let mut sealed = vec![0; CBC_BLOCK];
        random(&mut sealed)?;
        let text = match self.0.len() {
            16 => self.encrypt::<Aes128>(&sealed, plain),
            24 => self.encrypt::<Aes192>(&sealed, plain),
            _ => self.encrypt::<Aes256>(&sealed, plain),
        };
        sealed.extend(text.ok_or(TransformError::NotSealed)?);
        Ok(sealed)
    }

    fn open(&self, sealed: &[u8], _place: &[u8]) -> Result<Vec<u8>, TransformError> {
        let (vector, text) = sealed.split_at_checked(CBC_BLOCK).ok_or(TransformError::TooShort)?;
        let plain = match self.0.len() {
            16 => self.decrypt::<Aes128>(vector, text),
            24 => self.decrypt::<Aes192>(vector, text),
            _ => self.decrypt::<Aes256>(vector, text),
        };
        plain.ok_or(TransformError::NotAuthentic)
    }
}

struct Secretbox(XSalsa20Poly1305);

impl Cipher for Secretbox {
    fn seal(&self, plain: &[u8], _place: &[u8]) -> Result<Vec<u8>, TransformError> {
        let mut sealed = vec![0; BOX_NONCE];
        random(&mut sealed)?;
        let text = self.0.encrypt(crypto_secretbox::Nonce::from_slice(&sealed), plain);
        sealed.extend(text.map_err(|_| TransformError::NotSealed)?);
        Ok(sealed)
    }

    fn open(&self, sealed: &[u8], _place: &[u8]) -> Result<Vec<u8>, TransformError> {
        if sealed.len() < BOX_NONCE + BOX_TAG {
            return Err(TransformError::TooShort);
        }
        let (nonce, text) = sealed.split_at(BOX_NONCE);
        let opened = self.0.decrypt(crypto_secretbox::Nonce::from_slice(nonce), text);
        opened.map_err(|_| TransformError::NotAuthentic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn every_cipher_opens_what_it_sealed() {
        let key = |length| (0..length).collect::<Vec<u8>>();
        let ciphers = [16, 24, 32]
            .into_iter()
            .flat_map(|length| [gcm(&key(length)), cbc(&key(length))])
            .chain([secretbox(&key(32))]);
        for cipher in ciphers.map(Option::unwrap) {
            for plain in [&b""[..], b"a", &[7; 16], &[9; 4096]] {
                let sealed = cipher.seal(plain, b"/registry/secrets/a/b").unwrap();
                assert_ne!(sealed, cipher.seal(plain, b"/registry/secrets/a/b").unwrap());
                assert_eq!(cipher.open(&sealed, b"/registry/secrets/a/b").unwrap(), plain);
            }
            assert!(matches!(cipher.open(b"short", b""), Err(TransformError::TooShort)));
        }
    }

    #[test]
    fn gcm_value_is_bound_to_its_place_and_its_bytes() {
        let cipher = gcm(&[1; 32]).unwrap();
        let mut sealed = cipher.seal(b"plain", b"/registry/secrets/a/b").unwrap();
        assert!(cipher.open(&sealed, b"/registry/secrets/a/c").is_err());
        sealed[20] ^= 1;
        assert!(cipher.open(&sealed, b"/registry/secrets/a/b").is_err());
    }

    #[test]
    fn keys_of_other_lengths_are_refused() {
        for length in [0, 15, 17, 31, 33, 64] {
            let key = vec![0; length];
            assert!(gcm(&key).is_none() && cbc(&key).is_none() && secretbox(&key).is_none(), "{length}");
        }
        assert!(secretbox(&[0; 16]).is_none());
    }

    /// AES-256-GCM, test case 16 of the GCM specification (McGrew and Viega).
    #[test]
    fn gcm_opens_the_vector_of_its_specification() {
        let cipher = gcm(&hex("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308")).unwrap();
        let sealed = hex(concat!(
            "cafebabefacedbaddecaf888",
            "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838",
            "c5f61e6393ba7a0abcc9f662",
            "76fc6ece0f4e1768cddf8853bb2d551b"
        ));
        let place = hex("feedfacedeadbeeffeedfacedeadbeefabaddad2");
        let plain = concat!(
            "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525",
            "b16aedf5aa0de657ba637b39"
        );
        assert_eq!(cipher.open(&sealed, &place).unwrap(), hex(plain));
    }

    /// AES-128-CBC, first block of NIST SP 800-38A, F.2.1; the padding block follows it.
    #[test]
    fn cbc_encrypts_the_vector_of_nist() {
        let cipher = Cbc(hex("2b7e151628aed2a6abf7158809cf4f3c"));
        let vector = hex("000102030405060708090a0b0c0d0e0f");
        let text = cipher.encrypt::<Aes128>(&vector, &hex("6bc1bee22e409f96e93d7e117393172a")).unwrap();
        assert_eq!(text[..16], hex("7649abac8119b246cee98e9b12e9197d"));
        assert_eq!(text.len(), 32);
        let sealed = [vector, text].concat();
        assert_eq!(cipher.open(&sealed, b"").unwrap(), hex("6bc1bee22e409f96e93d7e117393172a"));
    }

    /// The test of NaCl's own `secretbox`, first bytes: key, nonce and message of `tests/secretbox.c`.
    #[test]
    fn secretbox_seals_the_vector_of_nacl() {
        let key = hex("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389");
        let nonce = hex("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37");
        let message = hex(concat!(
            "be075fc53c81f2d5cf141316ebeb0c7b5228c52a4c62cbd44b66849b64244ffce5ecbaaf33bd751a1ac728d45e6c6129",
            "6cdc3c01233561f41db66cce314adb310e3be8250c46f06dceea3a7fa1348057e2f6556ad6b1318a024a838f21af1fde",
            "048977eb48f59ffd4924ca1c60902e52f0a089bc76897040e082f937763848645e0705"
        ));
        let sealed = hex(concat!(
            "f3ffc7703f9400e52a7dfb4b3d3305d98e993b9f48681273c29650ba32fc76ce48332ea7164d96a4476fb8c531a1186a",
            "c0dfc17c98dce87b4da7f011ec48c97271d2c20f9b928fe2270d6fb863d51738b48eeee314a7cc8ab932164548e526ae",
            "90224368517acfeabd6bb3732bc0e9da99832b61ca01b6de56244a9e88d5f9b37973f622a43d14a6599b1f654cb45a74",
            "e355a5"
        ));
        assert_eq!(secretbox(&key).unwrap().open(&[nonce, sealed].concat(), b"").unwrap(), message);
    }
}
