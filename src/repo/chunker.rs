//! Content-defined chunking: FastCDC with normalised chunking over a secret gear table.
//!
//! Source: Xia et al., "The Design of Fast Content-Defined Chunking for Data
//! Deduplication Based Storage Systems", IEEE TPDS 31(9), 2020. The table is secret
//! because cut points of known content would tell what is stored (Truong et al.,
//! "Breaking and Fixing Content-Defined Chunking", 2025).

use zeroize::Zeroizing;

/// 256 secret words.
pub struct Gear(Zeroizing<Vec<u64>>);

impl Gear {
    /// From 2,048 little-endian bytes.
    pub fn from_bytes(bytes: &[u8; 2048]) -> Self {
        let mut table = Zeroizing::new(vec![0u64; 256]);
        for (word, eight) in table.iter_mut().zip(bytes.chunks_exact(8)) {
            // chunks_exact(8) gives eight bytes.
            *word = u64::from_le_bytes(eight.try_into().expect("eight bytes"));
        }
        Self(table)
    }
}

/// Sizes of one class, in bytes; `avg` is a power of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(array)]
pub struct Sizes {
    /// No chunk but a stream's last is smaller.
    #[n(0)]
    pub min: u32,
    /// Where cutting becomes easy.
    #[n(1)]
    pub avg: u32,
    /// No chunk is larger.
    #[n(2)]
    pub max: u32,
}

impl Sizes {
    /// Files and dumps.
    pub const BULK: Self = Self { min: 256 << 10, avg: 1 << 20, max: 4 << 20 };
    /// Rows and segments.
    pub const FINE: Self = Self { min: 16 << 10, avg: 64 << 10, max: 256 << 10 };

    /// Whether a reader or writer can work with these.
    pub fn is_valid(&self) -> bool {
        self.avg.is_power_of_two()
            && (1 << 8..=1 << 26).contains(&self.avg)
            && self.min >= 64
            && self.min < self.avg
            && self.avg < self.max
            && self.max as usize <= super::limits::CHUNK_MAX_BYTES
    }
}

/// Length of the first chunk of `data`, which must hold `sizes.max` bytes or be all
/// that is left of the stream. Zero only for no data.
pub fn first_cut(data: &[u8], gear: &Gear, sizes: Sizes) -> usize {
    let (min, avg, max) = (sizes.min as usize, sizes.avg as usize, sizes.max as usize);
    if data.len() <= min {
        return data.len();
    }
    let bits = avg.trailing_zeros();
    let end = data.len().min(max);
    let normal = end.min(avg);
    let mut hash = 0u64;
    if let Some(cut) = scan(data, min..normal, gear, &mut hash, 64 - (bits + 2)) {
        return cut;
    }
    scan(data, normal..end, gear, &mut hash, 64 - (bits - 2)).unwrap_or(end)
}

/// The end of the first byte in `range` after which the bits of the hash above `shift` are zero.
fn scan(
    data: &[u8],
    range: std::ops::Range<usize>,
    gear: &Gear,
    hash: &mut u64,
    shift: u32,
) -> Option<usize> {
    let start = range.start;
    let limit = 1u64 << shift;
    // Made with 256 words; the array type spares a bounds check for each byte.
    let table: &[u64; 256] = gear.0[..].try_into().expect("a gear table has 256 words");
    let mut h = *hash;
    for (i, byte) in data[range].iter().enumerate() {
        h = (h << 1).wrapping_add(table[*byte as usize]);
        if h < limit {
            return Some(start + i + 1);
        }
    }
    *hash = h;
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn gear(seed: u8) -> Gear {
        let mut bytes = [0; 2048];
        blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
        Gear::from_bytes(&bytes)
    }

    fn noise(seed: u8, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new_keyed(&[seed; 32]).finalize_xof().fill(&mut bytes);
        bytes
    }

    fn cuts(data: &[u8], gear: &Gear, sizes: Sizes) -> Vec<usize> {
        let (mut at, mut out) = (0, Vec::new());
        while at < data.len() {
            at += first_cut(&data[at..], gear, sizes);
            out.push(at);
        }
        out
    }

    #[test]
    fn average_is_near_the_named_one() {
        let data = noise(1, 64 << 20);
        for sizes in [Sizes::BULK, Sizes::FINE] {
            let mean = data.len() / cuts(&data, &gear(1), sizes).len();
            let avg = sizes.avg as usize;
            assert!(mean > avg * 3 / 4 && mean < avg * 3 / 2, "{mean} for {avg}");
        }
    }

    #[test]
    fn another_table_cuts_elsewhere() {
        let data = noise(2, 8 << 20);
        let (one, two) = (cuts(&data, &gear(1), Sizes::FINE), cuts(&data, &gear(2), Sizes::FINE));
        let shared = one.iter().filter(|c| two.contains(c)).count();
        assert!(shared <= 2, "{shared} of {}", one.len());
    }

    #[test]
    fn an_insertion_moves_few_boundaries() {
        let data = noise(3, 8 << 20);
        let mut changed = data.clone();
        changed.splice(4_000_000..4_000_000, *b"inserted");
        let (one, two) = (cuts(&data, &gear(1), Sizes::FINE), cuts(&changed, &gear(1), Sizes::FINE));
        let kept = one.iter().filter(|c| two.contains(c) || two.contains(&(**c + 8))).count();
        assert!(kept + 4 >= one.len(), "{kept} of {}", one.len());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn chunks_keep_their_bounds(len in 0usize..3_000_000, seed: u8, flat: bool) {
            let data = if flat { vec![seed; len] } else { noise(seed, len) };
            let cuts = cuts(&data, &gear(seed), Sizes::FINE);
            prop_assert_eq!(cuts.last().copied().unwrap_or(0), len);
            let mut before = 0;
            for (i, cut) in cuts.iter().enumerate() {
                let size = cut - before;
                prop_assert!(size <= Sizes::FINE.max as usize);
                prop_assert!(size > Sizes::FINE.min as usize || i + 1 == cuts.len());
                before = *cut;
            }
        }
    }
}
