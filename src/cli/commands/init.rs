//! `muster init`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cli::args::{self, Global, Passphrase};
use crate::cli::ask::Asker;
use crate::cli::commands::doctor;
use crate::cli::compose::{Access, cancel_on_signals, dress, host_name, own_secret, s3_options};
use crate::cli::exit;
use crate::cli::new_file::{PRIVATE, write_new};
use crate::model::error::Exit;
use crate::model::{Error, ErrorKind, RepositoryId, Result, Secret};
use crate::policy::S3Config;
use crate::policy::config::{EngineConfig, template};
use crate::ports::{Cancel, Clock, Process};
use crate::repo::keys::{AnyRecipient, HostKeys, RecoveryKit, protect};
use crate::repo::repository::{NewRepository, create, random};
use crate::report::Human;
use crate::report::outcome;
use crate::stores::wrap::RetryPolicy;
use crate::stores::{self, Location};
use crate::sys::{self, OsEntropy, RealClock, RealProcess};

/// Makes a repository, its recovery kit, this host's keys and `muster.toml`.
pub fn run(global: &Global, args: &args::Init) -> Result<Exit> {
    let files = Files::plan(global, args)?;
    let cancel = cancel_on_signals()?;
    let store_url = args.store.clone();
    if let Passphrase::From(reference) = &args.passphrase {
        sys::withhold(reference);
    }
    args.s3.iter().flat_map(S3Config::references).for_each(sys::withhold);
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
    let keys_text = writer.to_file(&format!("keys of backup host {label}"));
    let keys_name = files.keys.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let (s3, remarks) = tried_out(&store_url, args.s3.as_ref(), &cancel)?;
    let settings = s3.as_ref().map(S3Config::whereabouts).unwrap_or_default();
    let kit_text = kit.to_file_with(&id, &store_url, &settings, &made);
    let kit_text = match &passphrase {
        Some(passphrase) => Secret::new(protect(&kit_text, passphrase)?),
        None => kit_text,
    };
    let root = kit.root.public().to_string();
    let config_text = template(&store_url, &root, 0, &format!("file:{keys_name}"), s3.as_ref());
    let new = NewRepository { kit: &kit, id, writer: &writer, writer_label: label, recipients };
    let written = files.write(kit_text.expose(), keys_text.expose(), &config_text)?;
    let created = make(&store_url, s3.as_ref(), &new, asker, &cancel)?;
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
        remarks,
    };
    exit::finish(&outcome, global.json)
}

fn process() -> Arc<dyn Process> {
    Arc::new(RealProcess)
}

/// For a bucket: tries it out before anything is written, and puts what was found into the settings.
fn tried_out(
    url: &str,
    given: Option<&S3Config>,
    cancel: &Cancel,
) -> Result<(Option<S3Config>, Vec<outcome::DoctorFinding>)> {
    if !matches!(url.parse::<Location>()?, Location::S3(_)) {
        return match given {
            None => Ok((None, Vec::new())),
            Some(_) => {
                Err(Error::new(ErrorKind::Usage, "use the --s3- flags", "the store is no s3:// store")
                    .on(url)
                    .hint("leave them out, or write --store s3://bucket/prefix"))
            }
        };
    }
    let mut s3 = given.cloned().unwrap_or_default();
    let examined = doctor::examine(url, &s3, &process(), cancel)?;
    s3.conditional_put = Some(examined.findings.conditional_put());
    let remarks = doctor::remarks(&examined, &s3);
    Ok((Some(s3), remarks))
}

fn make(
    url: &str,
    s3: Option<&S3Config>,
    new: &NewRepository<'_>,
    asker: Asker,
    cancel: &Cancel,
) -> Result<crate::repo::repository::Created> {
    let options = s3_options(&s3.cloned().unwrap_or_default(), &process())?;
    let store = stores::create(url, options)?;
    let store = dress(store, &EngineConfig::default(), cancel, Access::Write, RetryPolicy::default());
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
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
                return Err(Error::new(ErrorKind::Usage, "write", "there is no such folder")
                    .on(path.display().to_string())
                    .hint(format!("make {} first", folder.display())));
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
