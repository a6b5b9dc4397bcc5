//! "Did you mean …?"

/// The candidate nearest to `word` by edit distance, if it is near enough to be meant.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let bound = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= bound || is_abbreviation(&word, candidate))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Whether one begins with the other, by at least three letters.
fn is_abbreviation(word: &str, candidate: &str) -> bool {
    word.len() >= 3
        && candidate.len() >= 3
        && (candidate.starts_with(word) || word.starts_with(&candidate.to_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_suggested_and_far_ones_are_not() {
        let keys = ["include", "exclude", "paths", "name"];
        assert_eq!(nearest("exlude", keys), Some("exclude"));
        assert_eq!(nearest("Exclude", keys), Some("exclude"));
        assert_eq!(nearest("path", keys), Some("paths"));
        assert_eq!(nearest("nmae", keys), Some("name"));
        assert_eq!(nearest("colour", keys), None);
        assert_eq!(nearest("", keys), None);
    }
}
