use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::*;

const HEAD: &str = "version = 1\n[repository]\nstore = \"file:///srv/backup\"\nroot = \"root1abc\"\n";

fn parse(rest: &str) -> Result<Config> {
    Config::parse(&format!("{HEAD}{rest}"), "muster.toml", Path::new("/etc/muster"))
}

fn shown(error: &Error) -> String {
    assert_eq!(error.kind(), ErrorKind::Config);
    format!("{error}\nhint: {}", error.remedy().unwrap_or("-"))
}

fn refusal(rest: &str) -> String {
    shown(&parse(rest).unwrap_err())
}

fn files(rest: &str) -> String {
    format!(
        "[[job]]\nname = \"app\"\n[[job.source]]\nname = \"docs\"\nkind = \"files\"\npaths = [\"docs\"]\n{rest}\n"
    )
}

fn command(rest: &str) -> String {
    format!(
        "[[job]]\nname = \"app\"\n[[job.source]]\nname = \"db\"\nkind = \"command\"\nbackup = [\"dump\"]\n{rest}\n"
    )
}

fn uncommented(text: &str) -> String {
    text.lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.is_empty() && !rest.starts_with(' ') => rest,
            _ => line,
        })
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn the_template_parses_as_it_is_and_with_every_example() {
    let text = template("file:///srv/\"odd\\\"", "root1abc", 7, "file:muster.key", None);
    let plain = Config::parse(&text, "muster.toml", Path::new("/etc")).unwrap();
    assert_eq!(plain.repository.store, "file:///srv/\"odd\\\"");
    assert_eq!(plain.repository.keys, Some(SecretRef::File("/etc/muster.key".into())));
    assert_eq!((plain.repository.lowest_config, plain.jobs.len()), (7, 0));
    assert_eq!(plain.engine, EngineConfig::default());

    let full = Config::parse(&uncommented(&text), "muster.toml", Path::new("/etc")).unwrap();
    assert_eq!(full.jobs.len(), 1);
    assert_eq!(full.jobs[0].sources.iter().map(|s| s.kind.name()).collect::<Vec<_>>(), ["command", "files"]);
    assert_eq!(full.engine.memory_bytes, MEMORY_DEFAULT_BYTES);
}

#[test]
fn the_template_names_every_key() {
    let text = template("file:///srv", "root1abc", 0, "file:muster.key", None);
    // A key that does not exist makes the parser list those that do.
    for table in
        ["[repository]", "[repository.s3]", "[engine]", "[[job]]", "[job.retention]", "[[job.source]]"]
    {
        let whole = uncommented(&text).replace(table, &format!("{table}\nzzzzzzzz = 1"));
        let error = Config::parse(&whole, "muster.toml", Path::new("/")).unwrap_err();
        let keys = error.remedy().unwrap().strip_prefix("keys known here: ").unwrap().to_owned();
        for key in keys.split(", ") {
            assert!(uncommented(&text).contains(key), "{table} {key} is not in the template");
        }
    }
}

#[test]
fn a_whole_configuration_becomes_working_values() {
    let config = parse(&format!(
        "lowest_config = 3\nkeys = \"file:muster.key\"\n[engine]\nmemory = \"1GiB\"\nupload_limit = \"10MiB\"\n{}",
        command(
            "restore = [\"load\"]\nenv = { PGPASSWORD = \"file:pw\" }\nenv_plain = { PGHOST = \"/run\" }\nmin_bytes = 9"
        )
    ))
    .unwrap();
    assert_eq!(config.engine.memory_bytes, 1 << 30);
    assert_eq!(config.engine.upload_limit_bytes_per_sec, Some(10 << 20));
    assert_eq!(config.repository.keys, Some(SecretRef::File("/etc/muster/muster.key".into())));
    let SourceKind::Command(db) = &config.jobs[0].sources[0].kind else { panic!() };
    assert_eq!(db.env["PGPASSWORD"], SecretRef::File("/etc/muster/pw".into()));
    assert_eq!((db.env_plain["PGHOST"].as_str(), db.file_name.as_str(), db.min_bytes), ("/run", "db", 9));

    let rule = "[job.retention]\nkeep_last = 7\nkeep_within = \"30d\"";
    let keep = parse(&files(rule)).unwrap().jobs[0].retention;
    assert_eq!((keep.last, keep.within_secs), (Some(7), Some(30 * 86_400)));

    let config = parse(&files("")).unwrap();
    assert!(!config.jobs[0].retention.is_set());
    let SourceKind::Files(docs) = &config.jobs[0].sources[0].kind else { panic!() };
    assert_eq!(docs.paths, [PathBuf::from("/etc/muster/docs")]);
    assert!(!docs.one_file_system && !docs.exclude_caches && docs.ignore_files.is_empty());
}

#[test]
fn mistakes_are_shown_with_their_line() {
    let cases = [
        ("misspelt key", files("exlude = [\"*.tmp\"]")),
        ("misspelt key of a job", "[[job]]\nnaem = \"app\"\n".to_owned()),
        ("misspelt table", "[engin]\nmemory = \"1GiB\"\n".to_owned()),
        ("misspelt table of a list", files("").replace("[[job]]", "[[jobs]]")),
        ("misspelt table and below", files("").replace("[[job", "[[jobs")),
        ("misspelt table below", files("").replace("[[job.source", "[[jobs.source")),
        ("one pair of brackets", files("").replace("[[job]]", "[job]")),
        ("one pair of brackets below", files("").replace("[[job.source]]", "[job.source]")),
        ("source of no job", files("").replace("[[job]]\nname = \"app\"\n", "")),
        ("unlike any key", "[engine]\ncolour = 1\n".to_owned()),
        (
            "misspelt key in braces",
            "[[job]]\nname = \"app\"\nsource = [{ name = \"d\", knid = \"files\" }]\n".to_owned(),
        ),
        ("wrong type", files("one_file_system = \"yes\"")),
        ("wrong type of a number", "[engine]\ncompression = \"high\"\n".to_owned()),
        ("wrong type in a list", files("exclude = [\n  \"*.tmp\",\n  5,\n]")),
        ("missing key", "[[job]]\ntags = []\n".to_owned()),
        ("not TOML", files("exclude = [\"*.tmp\"")),
        ("unknown kind", files("").replace("\"files\"", "\"file\"")),
        ("kind nothing like it", files("").replace("\"files\"", "\"mongodb\"")),
        ("key of another kind", files("backup = [\"dump\"]")),
        ("no paths", files("").replace("[\"docs\"]", "[]")),
        ("no backup command", command("").replace("backup = [\"dump\"]\n", "")),
        ("same job twice", format!("{}{}", files(""), files(""))),
        ("name that leaves the folder", files("").replace("\"docs\"\nkind", "\"../docs\"\nkind")),
        ("no sources", "[[job]]\nname = \"app\"\n".to_owned()),
        ("bad size", "[engine]\nmemory = \"lots\"\n".to_owned()),
        ("bad glob", files("exclude = [\"[a\"]")),
        ("misspelt retention", files("[job.retension]\nkeep_last = 7")),
        ("misspelt rule", files("[job.retention]\nkeep_lats = 7")),
        ("a rule that keeps none", files("[job.retention]\nkeep_last = 0")),
        ("bad length of time", files("[job.retention]\nkeep_within = \"a while\"")),
        ("no fixed length of time", files("[job.retention]\nkeep_within = \"3mo\"")),
        ("misspelt key of a bucket", "[repository.s3]\nendpiont = \"https://x\"\n".to_owned()),
        ("endpoint without a scheme", "[repository.s3]\nendpoint = \"s3.example.org\"\n".to_owned()),
        ("no region", "[repository.s3]\nregion = \"eu central\"\n".to_owned()),
        ("half of the keys", "[repository.s3]\nregion = \"x\"\naccess_key_id = \"env:ID\"\n".to_owned()),
        (
            "keys and a profile",
            "[repository.s3]\naccess_key_id = \"env:I\"\nsecret_access_key = \"env:S\"\nprofile = \"p\"\n"
                .to_owned(),
        ),
        ("a token alone", "[repository.s3]\nsession_token = \"env:T\"\n".to_owned()),
        ("misspelt checksum", "[repository.s3]\nchecksums = \"crc32\"\n".to_owned()),
        ("unknown encryption", "[repository.s3]\nsse = \"rot13\"\n".to_owned()),
        ("a key for no encryption", "[repository.s3]\nsse = \"AES256\"\nsse_kms_key = \"k\"\n".to_owned()),
        ("bad level", "[engine]\ncompression = 23\n".to_owned()),
    ];
    let all: Vec<String> =
        cases.iter().map(|(name, text)| format!("## {name}\n{}\n", refusal(text))).collect();
    insta::assert_snapshot!("mistakes", all.join("\n"));
}

#[test]
fn secrets_in_plain_text_are_refused_and_never_repeated() {
    let cases = [
        ("keys", "keys = \"hunter2\"\n".to_owned()),
        ("env", command("env = { PGPASSWORD = \"hunter2\" }")),
        ("env as a number", command("env = { PGPASSWORD = 8675309 }")),
        ("env below a header", command("[job.source.env]\nPGPASSWORD = \"hunter2\"")),
        ("env not a table", command("env = \"PGPASSWORD=hunter2\"")),
        ("env_plain", command("env_plain = { PGPASSWORD = \"hunter2\" }")),
        ("env_plain with an address", command("env_plain = { DB = \"postgres://u:hunter2@h/db\" }")),
        ("unknown key", "password = \"hunter2\"\n".to_owned()),
        (
            "unknown key behind others",
            "[[job]]\nsource = [{ env = { P = \"hunter2\" }, knid = \"files\" }]\n".to_owned(),
        ),
        (
            "key id of a bucket",
            "[repository.s3]\naccess_key_id = \"hunter2\"\nsecret_access_key = \"env:S\"\n".to_owned(),
        ),
        (
            "secret key of a bucket",
            "[repository.s3]\naccess_key_id = \"env:I\"\nsecret_access_key = \"hunter2\"\n".to_owned(),
        ),
        ("secret key that is a number", "[repository.s3]\nsecret_access_key = 8675309\n".to_owned()),
        ("token of a bucket", "[repository.s3]\nsession_token = \"hunter2\"\n".to_owned()),
        ("endpoint with a password", "[repository.s3]\nendpoint = \"https://u:hunter2@host\"\n".to_owned()),
        ("unquoted", command("[job.source.env]\nPGPASSWORD = hunter2")),
        ("unclosed", command("[job.source.env]\nPGPASSWORD = \"hunter2")),
        ("given twice", command("[job.source.env]\nP = \"env:A\"\nP = \"hunter2\"")),
        ("wrong type beside it", command("env = { P = \"hunter2\" }\nrestore = \"load hunter2\"")),
        ("argument", command("restore = [\"load\", \"--password=hunter2\"]")),
        ("address in an argument", command("restore = [\"load\", \"mongodb://u:hunter2@host/db\"]")),
        ("harmless name in env", command("[job.source.env]\nname = hunter2")),
        ("indented header", command("  [job.source.env]\n  name = hunter2")),
        (
            "source in braces",
            "[[job]]\nname = \"a\"\nsource = [{ backup = [\"hunter2\"], kind = 5 }]\n".to_owned(),
        ),
        ("many lines", command("[job.source.env]\nP = \"\"\"\nhunter2\n\\q\"\"\"")),
    ];
    let mut all = Vec::new();
    for (name, text) in &cases {
        let error = parse(text).unwrap_err();
        let whole = format!("{} {error:?}", shown(&error));
        assert!(!whole.contains("hunter2") && !whole.contains("8675309"), "{name}: {whole}");
        all.push(format!("## {name}\n{}\n", shown(&error)));
    }
    let address = parse("").unwrap().repository.store;
    let text = HEAD.replace(&address, "s3://key:hunter2@bucket/prefix");
    let error = Config::parse(&text, "muster.toml", Path::new("/")).unwrap_err();
    assert!(!format!("{error:?}").contains("hunter2"));
    all.push(format!("## store\n{}\n", shown(&error)));
    insta::assert_snapshot!("secrets", all.join("\n"));
}

#[test]
fn the_environment_stands_above_the_file() {
    let env = |rows: &[(&str, &str)]| -> BTreeMap<String, String> {
        rows.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let mut config = parse("").unwrap();
    let found = config
        .apply_env(&env(&[
            ("MUSTER_STORE", "s3://bucket/prefix"),
            ("MUSTER_MEMORY", "64MiB"),
            ("MUSTER_CACHE_DIR", "/tmp/c"),
            ("MUSTER_KEYS", "env:KEYS"),
            ("MUSTER_COMPRESSION", ""),
            ("MUSTER_MEMROY", "1"),
            ("HOME", "/root"),
        ]))
        .unwrap();
    assert_eq!(config.repository.store, "s3://bucket/prefix");
    assert_eq!(config.repository.keys, Some(SecretRef::Env("KEYS".into())));
    assert_eq!((config.engine.memory_bytes, config.engine.compression), (64 << 20, COMPRESSION_DEFAULT));
    assert_eq!(
        found.warnings,
        ["the environment variable MUSTER_MEMROY means nothing to Muster: did you mean MUSTER_MEMORY?"]
    );
    for (name, _) in VARIABLES {
        let value = if ["MUSTER_ROOT", "MUSTER_CACHE_DIR", "MUSTER_S3_REGION"].contains(&name) {
            continue;
        } else {
            "hunter2"
        };
        let error = config.clone().apply_env(&env(&[(name, value)])).unwrap_err();
        assert!(error.to_string().contains(name) && !error.to_string().contains("hunter2"), "{error}");
    }
}

#[test]
fn a_bucket_is_reached_as_written() {
    let text = "[repository.s3]\nendpoint = \"http://127.0.0.1:9000\"\nregion = \"garage\"\npath_style = false\n\
                access_key_id = \"env:ID\"\nsecret_access_key = \"file:secret\"\nca_file = \"ca.pem\"\n\
                storage_class = \"STANDARD_IA\"\nsse = \"aws:kms\"\nsse_kms_key = \"k\"\nchecksums = \"sha256\"\n\
                conditional_put = false\n";
    let s3 = parse(text).unwrap().repository.s3;
    assert_eq!(s3.secret_access_key, Some(SecretRef::File("/etc/muster/secret".into())));
    assert_eq!(s3.ca_file, Some(PathBuf::from("/etc/muster/ca.pem")));
    assert_eq!((s3.sse, s3.checksums), (Some(s3::Sse::Kms), s3::ChecksumChoice::Sha256));
    assert_eq!((s3.path_style, s3.conditional_put), (Some(false), Some(false)));

    // What `init` writes reads back as the same.
    let written = template("s3://bucket/prefix", "root1abc", 0, "file:muster.key", Some(&s3));
    let again = Config::parse(&written, "muster.toml", Path::new("/elsewhere")).unwrap();
    assert_eq!(again.repository.s3, s3);
    let written = template("s3://bucket", "root1abc", 0, "file:muster.key", Some(&S3Config::default()));
    let again = Config::parse(&written, "muster.toml", Path::new("/elsewhere")).unwrap();
    assert_eq!((again.repository.s3, again.jobs.len()), (S3Config::default(), 0));
}

#[test]
fn a_job_is_chosen_by_name_or_because_it_is_alone() {
    let config = parse(&files("")).unwrap();
    assert_eq!(config.job_named(None).unwrap().name, "app");
    assert_eq!(config.job_named(Some("app")).unwrap().name, "app");
    assert_eq!(config.job_named(Some("ap")).unwrap_err().remedy(), Some("did you mean `app`?"));
    assert!(parse("").unwrap().job_named(None).is_err());
    let two = format!("{}{}", files(""), files("").replace("\"app\"", "\"web\""));
    let error = parse(&two).unwrap().job_named(None).unwrap_err();
    assert_eq!((error.kind(), error.remedy()), (ErrorKind::Usage, Some("name one of: app, web")));
}
