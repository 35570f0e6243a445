//! Binary reading and writing: big-endian integers and length-prefixed fields, as in the presentation language of RFC 8446 §3.

/// The bytes are not an encoding of the type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The input ends before the value does.
    #[error("truncated")]
    Truncated,
    /// The value ends before the input does.
    #[error("trailing bytes")]
    Trailing,
    /// A field holds a value that the type has no meaning for.
    #[error("invalid {0}")]
    Invalid(&'static str),
}

/// Reads a byte slice from front to back; never panics, never copies.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader at the start of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next `n` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] if fewer are left.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.rest.split_at_checked(n).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    /// The next `N` bytes as an array.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] if fewer are left.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        self.take(N)?.try_into().map_err(|_| DecodeError::Truncated)
    }

    /// One byte.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] at the end.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[b]| b)
    }

    /// A big-endian 16-bit integer.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] if fewer than 2 bytes are left.
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    /// A big-endian 32-bit integer.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] if fewer than 4 bytes are left.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    /// A big-endian 64-bit integer.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] if fewer than 8 bytes are left.
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_be_bytes)
    }

    /// A field behind a 16-bit length.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] if the length or the field is cut short.
    pub fn bytes16(&mut self) -> Result<&'a [u8], DecodeError> {
        let n = self.u16()?;
        self.take(usize::from(n))
    }

    /// A UTF-8 text behind a 16-bit length.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`], or [`DecodeError::Invalid`] if it is not UTF-8.
    pub fn text16(&mut self) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.bytes16()?).map_err(|_| DecodeError::Invalid("text"))
    }

    /// A variable-length integer of RFC 9000 §16, shortest form only, at most 30 bits.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`], or [`DecodeError::Invalid`] for a longer form than needed or than we accept.
    pub fn varint(&mut self) -> Result<usize, DecodeError> {
        let first = self.u8()?;
        let low = u32::from(first & 0x3f);
        let (value, least) = match first >> 6 {
            0 => (low, 0),
            1 => ((low << 8) | u32::from(self.u8()?), 1 << 6),
            2 => {
                let [a, b, c] = self.array()?;
                (u32::from_be_bytes([first & 0x3f, a, b, c]), 1 << 14)
            }
            _ => return Err(DecodeError::Invalid("length")),
        };
        if value < least {
            return Err(DecodeError::Invalid("length"));
        }
        usize::try_from(value).map_err(|_| DecodeError::Invalid("length"))
    }

    /// Everything that is left.
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether everything has been read.
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// [`DecodeError::Trailing`] if bytes are left.
    pub const fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::Trailing) }
    }
}

/// A field is too long for its length prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("field of {0} bytes does not fit its length prefix")]
pub struct TooLong(pub usize);

/// Appends a field behind a 16-bit length.
///
/// # Errors
/// [`TooLong`] above 65,535 bytes; nothing is appended then.
pub fn put_bytes16(out: &mut Vec<u8>, field: &[u8]) -> Result<(), TooLong> {
    let n = u16::try_from(field.len()).map_err(|_| TooLong(field.len()))?;
    out.extend_from_slice(&n.to_be_bytes());
    out.extend_from_slice(field);
    Ok(())
}

/// Appends a variable-length integer of RFC 9000 §16 in its shortest form.
///
/// # Errors
/// [`TooLong`] from 2^30 on; nothing is appended then.
pub fn put_varint(out: &mut Vec<u8>, value: usize) -> Result<(), TooLong> {
    let v = u32::try_from(value).ok().filter(|v| *v < 1 << 30).ok_or(TooLong(value))?;
    match v {
        0..0x40 => out.extend_from_slice(&v.to_be_bytes()[3..]),
        0x40..0x4000 => out.extend_from_slice(&(v | 0x4000).to_be_bytes()[2..]),
        _ => out.extend_from_slice(&(v | 0x8000_0000).to_be_bytes()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_varint_reads_back_and_nothing_is_left(v in 0usize..1 << 30) {
            let mut out = Vec::new();
            put_varint(&mut out, v).unwrap();
            let mut r = Reader::new(&out);
            prop_assert_eq!(r.varint(), Ok(v));
            prop_assert_eq!(r.finish(), Ok(()));
        }
    }

    #[test]
    fn a_varint_in_a_longer_form_than_needed_is_refused() {
        // 0x25 written in two bytes (the same value has a one-byte form).
        assert_eq!(Reader::new(&[0x40, 0x25]).varint(), Err(DecodeError::Invalid("length")));
        assert_eq!(Reader::new(&[0x80, 0, 0x3f, 0xff]).varint(), Err(DecodeError::Invalid("length")));
        assert_eq!(Reader::new(&[0xc0; 8]).varint(), Err(DecodeError::Invalid("length")));
        assert_eq!(Reader::new(&[0x40]).varint(), Err(DecodeError::Truncated));
    }
}
