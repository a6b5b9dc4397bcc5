//! Compress, pad, encrypt; and back (docs/FORMAT.md section 3.1).

use std::io::{Read, Write};

use age::x25519;

use crate::model::{Error, ErrorKind, Result};

const SKIPPABLE_MAGIC: [u8; 4] = [0x50, 0x2a, 0x4d, 0x18];

/// Most bytes of an age header that we read.
pub const AGE_HEADER_MAX_BYTES: usize = 64 << 10;

/// The length to which a frame of `len` bytes is padded.
pub fn padded_len(len: usize) -> usize {
    let step = 1usize << len.checked_ilog2().unwrap_or(0).saturating_sub(7).max(6);
    let up = len.div_ceil(step) * step;
    // A skippable frame takes eight bytes at least.
    if up == len || up - len >= 8 { up } else { up + step }
}

fn pad(frame: &mut Vec<u8>) {
    let target = padded_len(frame.len());
    if target == frame.len() {
        return;
    }
    // A frame of at most 64 MiB is padded by less than 1 MiB.
    let zeros = (target - frame.len() - 8) as u32;
    frame.extend_from_slice(&SKIPPABLE_MAGIC);
    frame.extend_from_slice(&zeros.to_le_bytes());
    frame.resize(target, 0);
}

/// Compresses and decompresses, keeping its memory between calls.
pub struct Zstd {
    compressor: zstd::bulk::Compressor<'static>,
    decompressor: zstd::bulk::Decompressor<'static>,
}

impl Zstd {
    /// For compression `level` 1 to 19.
    pub fn new(level: i32) -> Result<Self> {
        let broken = |e: std::io::Error| Error::internal("start zstd", e.to_string());
        Ok(Self {
            compressor: zstd::bulk::Compressor::new(level).map_err(broken)?,
            decompressor: zstd::bulk::Decompressor::new().map_err(broken)?,
        })
    }

    /// One padded frame.
    pub fn compress(&mut self, plain: &[u8]) -> Result<Vec<u8>> {
        let mut frame = Vec::new();
        self.compress_into(plain, &mut frame)?;
        Ok(frame)
    }

    /// One padded frame, in place of what `frame` holds: its memory is used again.
    pub fn compress_into(&mut self, plain: &[u8], frame: &mut Vec<u8>) -> Result<()> {
        frame.clear();
        frame.reserve(zstd::zstd_safe::compress_bound(plain.len()));
        self.compressor
            .compress_to_buffer(plain, frame)
            .map_err(|e| Error::internal("compress", e.to_string()))?;
        pad(frame);
        Ok(())
    }

    /// Opens one padded frame of at most `limit` bytes; anything but that is refused.
    pub fn decompress(&mut self, padded: &[u8], limit: usize) -> Result<Vec<u8>> {
        let mut plain = Vec::new();
        self.decompress_into(padded, limit, &mut plain)?;
        Ok(plain)
    }

    /// The same, in place of what `plain` holds: its memory is used again.
    pub fn decompress_into(&mut self, padded: &[u8], limit: usize, plain: &mut Vec<u8>) -> Result<()> {
        let bad = |why: &str| Error::new(ErrorKind::Damaged, "decompress", why);
        let frame_len = zstd::zstd_safe::find_frame_compressed_size(padded)
            .map_err(|_| bad("there is no whole zstd frame"))?;
        let size = zstd::zstd_safe::get_frame_content_size(padded)
            .ok()
            .flatten()
            .ok_or_else(|| bad("the frame does not say its size"))?;
        if size > limit as u64 {
            return Err(bad("the frame says that it is larger than allowed"));
        }
        check_padding(&padded[..frame_len.min(padded.len())], &padded[frame_len.min(padded.len())..])?;
        plain.clear();
        plain.reserve_exact(size as usize);
        self.decompressor
            .decompress_to_buffer(&padded[..frame_len], plain)
            .map_err(|e| bad(&e.to_string()))?;
        if plain.len() as u64 != size {
            return Err(bad("the frame does not hold what it says"));
        }
        Ok(())
    }
}

fn check_padding(frame: &[u8], rest: &[u8]) -> Result<()> {
    let mut expected = Vec::new();
    let target = padded_len(frame.len());
    if target != frame.len() {
        let zeros = (target - frame.len() - 8) as u32;
        expected.extend_from_slice(&SKIPPABLE_MAGIC);
        expected.extend_from_slice(&zeros.to_le_bytes());
        expected.resize(target - frame.len(), 0);
    }
    if frame.starts_with(&SKIPPABLE_MAGIC) || rest != expected {
        return Err(Error::new(ErrorKind::Damaged, "decompress", "the padding is not what the format says"));
    }
    Ok(())
}

/// Encrypts `plain` to one recipient, as a standard age file.
pub fn encrypt(recipient: &dyn age::Recipient, plain: &[u8]) -> Result<Vec<u8>> {
    let failed = |why: String| Error::new(ErrorKind::Internal, "encrypt", why);
    let encryptor =
        age::Encryptor::with_recipients(std::iter::once(recipient)).map_err(|e| failed(e.to_string()))?;
    let mut sealed = Vec::with_capacity(plain.len() + plain.len() / 4096 + 1024);
    let mut writer = encryptor.wrap_output(&mut sealed).map_err(|e| failed(e.to_string()))?;
    writer.write_all(plain).map_err(|e| failed(e.to_string()))?;
    writer.finish().map_err(|e| failed(e.to_string()))?;
    Ok(sealed)
}

/// Opens an age file with whichever of `identities` fits.
pub fn decrypt(identities: &[&dyn age::Identity], sealed: &[u8]) -> Result<Vec<u8>> {
    check_header(sealed)?;
    let decryptor = age::Decryptor::new_buffered(sealed).map_err(opening)?;
    let mut reader = decryptor.decrypt(identities.iter().copied()).map_err(opening)?;
    let mut plain = Vec::with_capacity(sealed.len());
    reader.read_to_end(&mut plain).map_err(|_| {
        Error::new(ErrorKind::Damaged, "decrypt", "its sealed bytes are damaged or were changed")
    })?;
    Ok(plain)
}

fn opening(error: age::DecryptError) -> Error {
    match error {
        age::DecryptError::NoMatchingKeys
        | age::DecryptError::KeyDecryptionFailed
        | age::DecryptError::DecryptionFailed => {
            Error::new(ErrorKind::WrongKey, "decrypt", "no key at hand opens it")
        }
        // age would advise to upgrade it, but what we read is what we wrote.
        age::DecryptError::UnknownFormat | age::DecryptError::InvalidHeader => {
            Error::new(ErrorKind::Damaged, "decrypt", "its age header is damaged")
        }
        age::DecryptError::InvalidMac => {
            Error::new(ErrorKind::Damaged, "decrypt", "its age header is damaged or was changed")
        }
        other => Error::new(ErrorKind::Damaged, "decrypt", other.to_string()),
    }
}

/// Refuses what is not an age file, or has a header made to be slow.
fn check_header(sealed: &[u8]) -> Result<()> {
    let bad = |why: &str| Error::new(ErrorKind::Damaged, "decrypt", why);
    if !sealed.starts_with(b"age-encryption.org/v1\n") {
        return Err(bad("it does not begin as an age file"));
    }
    let head = &sealed[..sealed.len().min(AGE_HEADER_MAX_BYTES)];
    if !head.windows(4).any(|w| w == b"\n---") {
        return Err(bad("its age header has no end within 64 KiB"));
    }
    Ok(())
}

/// Compresses, pads and encrypts to an epoch. Takes any plaintext; blobs go through
/// the pipeline, which verifies first.
pub fn seal(zstd: &mut Zstd, recipient: &x25519::Recipient, plain: &[u8]) -> Result<Vec<u8>> {
    encrypt(recipient, &zstd.compress(plain)?)
}

/// Opens what [`seal`] made.
pub fn open(zstd: &mut Zstd, identity: &x25519::Identity, sealed: &[u8], limit: usize) -> Result<Vec<u8>> {
    zstd.decompress(&decrypt(&[identity], sealed)?, limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn padding_costs_what_the_format_says() {
        for len in (0..70_000).chain([1 << 20, (1 << 20) + 1, 8_000_001]) {
            let padded = padded_len(len);
            assert!(padded == len || padded >= len + 8, "{len}");
            assert!(padded - len <= 71.max(len * 8 / 1000 + 8), "{len} -> {padded}");
        }
    }

    #[test]
    fn a_bomb_is_refused_before_it_opens() {
        let mut zstd = Zstd::new(3).unwrap();
        let bomb = zstd.compress(&vec![0; 9 << 20]).unwrap();
        assert!(zstd.decompress(&bomb, 8 << 20).is_err());
    }

    #[test]
    fn other_padding_is_refused() {
        let mut zstd = Zstd::new(3).unwrap();
        let good = zstd.compress(b"hello").unwrap();
        assert_eq!(zstd.decompress(&good, 100).unwrap(), b"hello");
        let mut dirty = good.clone();
        *dirty.last_mut().unwrap() = 1;
        let mut longer = good.clone();
        longer.push(0);
        let twice = [good.as_slice(), good.as_slice()].concat();
        for bad in [&dirty, &longer, &twice, &good[..good.len() - 1].to_vec()] {
            assert!(zstd.decompress(bad, 100).is_err());
        }
    }

    #[test]
    fn a_header_without_end_is_refused() {
        let mut bytes = b"age-encryption.org/v1\n".to_vec();
        bytes.extend(b"-> X25519 aaaa\nbbbb\n".repeat(10_000));
        let id = x25519::Identity::generate();
        assert_eq!(decrypt(&[&id], &bytes).unwrap_err().kind(), ErrorKind::Damaged);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn what_is_sealed_opens_again(plain in proptest::collection::vec(any::<u8>(), 0..20_000)) {
            let mut zstd = Zstd::new(3).unwrap();
            let (id, other) = (x25519::Identity::generate(), x25519::Identity::generate());
            let sealed = seal(&mut zstd, &id.to_public(), &plain).unwrap();
            prop_assert_eq!(open(&mut zstd, &id, &sealed, 1 << 20).unwrap(), plain);
            prop_assert_eq!(open(&mut zstd, &other, &sealed, 1 << 20).unwrap_err().kind(), ErrorKind::WrongKey);
            let mut flipped = sealed.clone();
            *flipped.last_mut().unwrap() ^= 1;
            prop_assert!(open(&mut zstd, &id, &flipped, 1 << 20).is_err());
        }
    }
}
