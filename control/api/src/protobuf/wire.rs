//! The wire format of protobuf: numbered fields with a length or a number each, read and written.

/// One field's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scalar<'a> {
    Number(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
}

impl<'a> Scalar<'a> {
    pub(super) fn bytes(&self) -> Result<&'a [u8], String> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err("proto: wrong wireType for a length-delimited field".into()),
        }
    }

    pub(super) fn text(&self) -> Result<String, String> {
        let text = std::str::from_utf8(self.bytes()?).map_err(|_| "proto: a string is not UTF-8")?;
        Ok(text.to_owned())
    }

    /// A signed number: negative ones come as their complement in 64 bits.
    pub(super) fn number(&self) -> Result<i64, String> {
        match self {
            Self::Number(number) => Ok(number.cast_signed()),
            _ => Err("proto: wrong wireType for a number".into()),
        }
    }

    pub(super) fn double(&self) -> Result<f64, String> {
        match self {
            Self::Fixed64(bits) => Ok(f64::from_bits(*bits)),
            Self::Fixed32(bits) => Ok(f64::from(f32::from_bits(*bits))),
            _ => Err("proto: wrong wireType for a fraction".into()),
        }
    }
}

/// Reads fields one after the other.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next field with its number, `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Scalar<'a>)>, String> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let scalar = match tag & 7 {
            0 => Scalar::Number(self.varint()?),
            1 => Scalar::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| short())?;
                Scalar::Bytes(self.take(length)?)
            }
            5 => Scalar::Fixed32(u32::from_le_bytes(self.array()?)),
            other => return Err(format!("proto: illegal wireType {other}")),
        };
        match tag >> 3 {
            0 => Err("proto: illegal tag 0".into()),
            number => Ok(Some((number, scalar))),
        }
    }

    /// The next of packed numbers.
    pub(super) fn packed(&mut self) -> Result<Option<i64>, String> {
        if self.rest.is_empty() { Ok(None) } else { Ok(Some(self.varint()?.cast_signed())) }
    }

    fn varint(&mut self) -> Result<u64, String> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err("proto: integer overflow".into())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or_else(short)?;
        self.rest = rest;
        Ok(*bytes)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or_else(short)?;
        self.rest = rest;
        Ok(bytes)
    }
}

fn short() -> String {
    "proto: unexpected EOF".into()
}

/// Writes fields one after the other.
#[derive(Default)]
pub(crate) struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// What was written.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.out
    }

    /// A number; signed ones as their complement in 64 bits.
    pub(crate) fn number(&mut self, field: u64, number: u64) {
        self.varint(field << 3);
        self.varint(number);
    }

    pub(crate) fn double(&mut self, field: u64, number: f64) {
        self.varint(field << 3 | 1);
        self.out.extend_from_slice(&number.to_le_bytes());
    }

    /// What stands before so many bytes.
    pub(crate) fn begin_bytes(&mut self, field: u64, length: usize) {
        self.varint(field << 3 | 2);
        self.varint(length as u64);
    }

    pub(crate) fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.begin_bytes(field, bytes.len());
        self.out.extend_from_slice(bytes);
    }

    /// A message whose length is known when it is written.
    pub(crate) fn message<E>(
        &mut self,
        field: u64,
        write: impl FnOnce(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        self.varint(field << 3 | 2);
        let start = self.out.len();
        write(self)?;
        let length = self.out.len() - start;
        let mut prefix = Self::default();
        prefix.varint(length as u64);
        self.out.splice(start..start, prefix.out);
        Ok(())
    }

    fn varint(&mut self, mut number: u64) {
        while number > 0x7f {
            self.out.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.out.push(number as u8);
    }
}
