//! The real clock, entropy and processes of this machine.
