//! Sources: one file or folder a kind.
