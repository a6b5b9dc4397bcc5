//! `muster init`.

use std::path::{Path, PathBuf};

use crate::cli::args::{self, Global, Passphrase};
use crate::cli::ask::Asker;
use crate::cli::compose::{Access, cancel_on_signals, dress, host_name, own_secret};
use crate::cli::exit;
use crate::cli::new_file::{PRIVATE, write_new};
use crate::model::error::Exit;
use crate::model::{Error, ErrorKind, RepositoryId, Result, Secret};
use crate::policy::config::{EngineConfig, template};
use crate::ports::Clock;
use crate::repo::keys::{AnyRecipient, HostKeys, RecoveryKit, protect};
use crate::repo::repository::{NewRepository, create, random};
use crate::report::Human;
use crate::report::outcome;
use crate::stores;
use crate::sys::{self, OsEntropy, RealClock, RealProcess};

/// Makes a repository, its recovery kit, this host's keys and `muster.toml`.
pub fn run(global: &Global, args: &args::Init) -> Result<Exit> {
    let files = Files::plan(global, args)?;
    let store_url = args.store.clone();
    if let Passphrase::From(reference) = &args.passphrase {
        sys::withhold(reference);
    }
    let asker = Asker::new(&RealProcess)?;
    let passphrase = match &args.passphrase {
        Passphrase::None => None,
        Passphrase::Ask => Some(asker.new_passphrase("the recovery kit")?),
        Passphrase::From(reference) => Some(own_secret(reference, &RealProcess)?),
    };
    let recipients = args.recipients.iter().map(|r| AnyRecipient::parse(r)).collect::<Result<Vec<_>>>()?;
    let kit = RecoveryKit::generate(&OsEntropy)?;
    let writer = HostKeys::generate(&OsEntropy)?;
    let id = RepositoryId(random(&OsEntropy)?);
    let label = args.writer_label.clone().unwrap_or_else(host_name);

    // The files come first: there must never be a repository without its kit and keys.
    let made = Human::local().time(RealClock.now());
    let kit_text = kit.to_file(&id, &store_url, &made);
    let kit_text = match &passphrase {
        Some(passphrase) => Secret::new(protect(&kit_text, passphrase)?),
        None => kit_text,
    };
    let keys_text = writer.to_file(&format!("keys of backup host {label}"));
    let keys_name = files.keys.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let config_text = template(&store_url, &kit.root.public().to_string(), 0, &format!("file:{keys_name}"));
    let new = NewRepository { kit: &kit, id, writer: &writer, writer_label: label, recipients };
    let written = files.write(kit_text.expose(), keys_text.expose(), &config_text)?;
    let created = make(&store_url, &new, asker)?;
    written.keep();
    let outcome = outcome::Init {
        store: store_url,
        repository: created.repository.to_string(),
        root: created.root.to_string(),
        kit: files.kit.display().to_string(),
        config: files.config.display().to_string(),
        keys: files.keys.display().to_string(),
        writer: writer.sign.party().to_string(),
        recipients: std::iter::once(kit.identity.to_public().to_string())
            .chain(new.recipients.iter().map(|r| r.text().unwrap_or_else(|| r.kind().to_owned())))
            .collect(),
        kit_has_passphrase: passphrase.is_some(),
    };
    exit::finish(&outcome, global.json)
}

fn make(url: &str, new: &NewRepository<'_>, asker: Asker) -> Result<crate::repo::repository::Created> {
    let cancel = cancel_on_signals()?;
    let store = dress(stores::create(url)?, &EngineConfig::default(), &cancel, Access::Write);
    create(&*store, new, asker, &OsEntropy, &RealClock)
}

struct Files {
    kit: PathBuf,
    config: PathBuf,
    keys: PathBuf,
}

impl Files {
    /// None of the files may be there: each could be somebody's only copy.
    fn plan(global: &Global, args: &args::Init) -> Result<Self> {
        let config = global.config.clone();
        let keys = config.with_extension("key");
        let files = Self { kit: args.kit.clone(), config, keys };
        for path in [&files.kit, &files.config, &files.keys] {
            if path.symlink_metadata().is_ok() {
                return Err(Error::new(ErrorKind::Refused, "write", "the file is there already")
                    .on(path.display().to_string())
                    .hint(
                        "name another place: -c FILE for the configuration, --kit FILE for the recovery kit",
                    ));
            }
        }
        Ok(files)
    }

    /// Writes all or none.
    fn write(&self, kit: &str, keys: &str, config: &str) -> Result<Written<'_>> {
        let mut written = Written(Vec::new());
        for (path, text) in [(&self.kit, kit), (&self.keys, keys), (&self.config, config)] {
            write_new(path, text, PRIVATE)?;
            written.0.push(path);
        }
        Ok(written)
    }
}

/// Files that are removed again when this is dropped: no repository came of them.
struct Written<'f>(Vec<&'f Path>);

impl Written<'_> {
    /// The files stay.
    fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Written<'_> {
    fn drop(&mut self) {
        for path in &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}
