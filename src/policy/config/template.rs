//! The commented `muster.toml` that `muster init` writes. A line `#key = …` is an option
//! with its default, or an example; a line `# words` is prose.

use super::{COMPRESSION_DEFAULT, HOOK_TIMEOUT_DEFAULT_SECS, MEMORY_DEFAULT_BYTES, S3Config};

/// A fresh `muster.toml`. `keys` is a reference, `file:muster.key`; `s3` says how the bucket is
/// reached, where the store is one.
pub fn template(store: &str, root: &str, lowest_config: u64, keys: &str, s3: Option<&S3Config>) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let s3 = match s3 {
        None => S3_EXAMPLE.to_owned(),
        Some(s3) => format!("{}{S3_REST}", S3_SET.replace("{lines}", &s3.lines())),
    };
    TEMPLATE
        .replace("{s3}", &s3)
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

{s3}
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

/// What `init` was told and found.
const S3_SET: &str = r##"# How the bucket is reached. docs/OPERATIONS.md has a page for each provider. conditional_put is
# what a probe found: whether a put really creates only where nothing is. Run `muster doctor`
# after a move to another provider.
[repository.s3]
{lines}"##;

/// What else there is, for a file in which some of it stands already.
const S3_REST: &str = r##"# Also: endpoint, region, path_style, access_key_id, secret_access_key, session_token, profile,
# ca_file, storage_class, sse, sse_kms_key, checksums. docs/OPERATIONS.md explains them.
"##;

/// For a repository in a folder: how it would be for a bucket.
const S3_EXAMPLE: &str = r##"# How a bucket is reached, where the store is s3://bucket/prefix. docs/OPERATIONS.md has a page
# for each provider.
#[repository.s3]
# Where the server is; without it AWS. Overridden by MUSTER_S3_ENDPOINT.
#endpoint = "https://s3.example.org"
# Overridden by MUSTER_S3_REGION. Without it that of the environment, else us-east-1.
#region = "eu-central-1"
# The bucket stands in the path, not in the host's name; by default so with an endpoint.
#path_style = true
# The keys, by reference. Without them what AWS's default chain finds: environment, profile, web
# identity, container or instance. A session token goes with temporary keys.
#access_key_id = "file:s3-key-id"
#secret_access_key = "file:s3-secret"
#session_token = "file:s3-token"
# A certificate authority that is trusted beside the system's.
#ca_file = "ca.pem"
# Where objects are stored. Never in an archive: those cannot be read at once.
#storage_class = "STANDARD_IA"
# Encryption at rest by the server, beside Muster's own: AES256 or aws:kms.
#sse = "aws:kms"
#sse_kms_key = "arn:aws:kms:eu-central-1:111122223333:key/example"
# Checksums sent along with uploads: auto, crc32c, sha256 or off.
#checksums = "auto"
# What `muster init` or `muster doctor` found: whether a put creates only where nothing is.
#conditional_put = true
# In place of keys: a profile of the default chain.
# profile = "backup"
"##;
