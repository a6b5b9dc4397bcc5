//! Sources: one file or folder a kind. They know the ports and nothing of each other,
//! of stores or of the repository.

pub mod command;
pub mod files;

pub use command::{CommandConfig, CommandSource};
pub use files::{FilesConfig, FilesSource};
