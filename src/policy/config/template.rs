//! The commented `muster.toml` that `muster init` writes. A line `#key = …` is an option
//! with its default, or an example; a line `# words` is prose.

use super::{COMPRESSION_DEFAULT, HOOK_TIMEOUT_DEFAULT_SECS, MEMORY_DEFAULT_BYTES};

/// A fresh `muster.toml`. `keys` is a reference, `file:muster.key`.
pub fn template(store: &str, root: &str, lowest_config: u64, keys: &str) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    TEMPLATE
        .replace("{memory}", &format!("{}MiB", MEMORY_DEFAULT_BYTES >> 20))
        .replace("{compression}", &COMPRESSION_DEFAULT.to_string())
        .replace("{hook_timeout_secs}", &HOOK_TIMEOUT_DEFAULT_SECS.to_string())
        .replace("{lowest_config}", &lowest_config.to_string())
        .replace("{keys}", &quoted(keys))
        .replace("{root}", &quoted(root))
        .replace("{store}", &quoted(store))
}

const TEMPLATE: &str = r##"# Muster's configuration. A line that begins with `#` and no space is an option shown with
# its default, or an example: remove the `#` to use it. Secrets never stand here in plain
# text, only references to them: env:NAME, file:PATH or cmd:COMMAND. Relative paths begin
# at this file's folder.
version = 1

[repository]
# Where the repository is. Overridden by MUSTER_STORE.
store = {store}
# The root's public key. Only a configuration of the repository signed by it is believed:
# do not change it unless you know why.
root = {root}
# The lowest number of the repository's configuration that is accepted, so that nobody can
# roll it back behind your back.
lowest_config = {lowest_config}
# This host's own keys. They let it back up; they open no data.
keys = {keys}

[engine]
# Most memory that is held while backing up and restoring. Overridden by MUSTER_MEMORY.
#memory = "{memory}"
# zstd level, 1 to 22.
#compression = {compression}
# Where the index is cached; by default Muster's folder in the user's cache folder.
#cache_dir = "/var/cache/muster"
# Most bytes a second to and from the store; by default no limit.
#upload_limit = "10MiB"
#download_limit = "10MiB"

# A job is a list of sources that are captured together, into one recovery point.
#[[job]]
#name = "app"
# Words that each of its points carries, for finding them again.
#tags = ["production"]
# Run before the first and after the last source (the latter also when something failed):
# a program and its arguments, no shell.
#freeze = ["systemctl", "stop", "app"]
#thaw = ["systemctl", "start", "app"]
#hook_timeout_secs = {hook_timeout_secs}

# Which of the job's points `muster retention apply` keeps: what either rule keeps, and the
# newest always. Without a rule every point stays. Nothing is removed by itself.
#[job.retention]
# So many of the newest points that hold something.
#keep_last = 7
# Every point younger than this: 12h, 30d, 2w.
#keep_within = "30d"

# A program's standard output, and the program that takes it back.
#[[job.source]]
#name = "db"
#kind = "command"
#backup = ["pg_dump", "-Fc", "app"]
#restore = ["pg_restore", "--clean", "--if-exists", "-d", "app"]
# Variables that hold secrets, by reference; and such that do not, in plain text.
#env = { PGPASSWORD = "env:APP_DB_PASSWORD" }
#env_plain = { PGHOST = "/run/postgresql" }
# The program is killed after this time; by default it may take for ever.
#timeout_secs = 3600
# Its working directory; by default Muster's own.
#dir = "/"
# The name of its output in the point; by default the source's name.
#file_name = "app.dump"
# Less output than this makes the source failed; by default one byte.
#min_bytes = 1024

# Folders and files.
#[[job.source]]
#name = "docs"
#kind = "files"
#paths = ["/srv/docs"]
# Where there are patterns here, only files that match one are taken.
#include = []
# What is left out. A pattern without a slash matches a name anywhere.
#exclude = ["*.tmp", "node_modules"]
# Names of files that list, as .gitignore does, what to leave out beside them.
#ignore_files = [".musterignore"]
# Stay on the file system that each path is on.
#one_file_system = false
# Leave out folders marked by a CACHEDIR.TAG.
#exclude_caches = false
"##;
