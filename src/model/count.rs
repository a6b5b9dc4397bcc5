//! Numbers as people read them.

/// A number with separators: `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number and its noun, which is given for one of it: `1 file`, `2 files`, `2 entries`.
pub fn counted(number: u64, noun: &str) -> String {
    format!("{} {}", count(number), noun_for(number, noun))
}

/// All of a number of things: `all 2 packs`, but `the one pack`.
pub fn all_of(number: u64, noun: &str) -> String {
    if number == 1 { format!("the one {noun}") } else { format!("all {}", counted(number, noun)) }
}

/// The noun alone, for where other words stand between it and its number.
pub fn noun_for(number: u64, noun: &str) -> String {
    let ends_in_a_vowel = |stem: &str| stem.ends_with(['a', 'e', 'i', 'o', 'u']);
    match noun.strip_suffix('y') {
        _ if number == 1 => noun.to_owned(),
        Some(stem) if !ends_in_a_vowel(stem) => format!("{stem}ies"),
        _ => format!("{noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_separators() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(number), text);
        }
    }

    #[test]
    fn nouns_fit_their_number() {
        for (number, noun, text) in [
            (1, "file", "1 file"),
            (0, "file", "0 files"),
            (2000, "index object", "2,000 index objects"),
            (1, "entry", "1 entry"),
            (2, "entry", "2 entries"),
            (3, "day", "3 days"),
        ] {
            assert_eq!(counted(number, noun), text);
        }
    }
}
