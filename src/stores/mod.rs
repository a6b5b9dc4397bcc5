//! Stores: one file a kind, and wrappers.
