//! `muster key`: who may write, and who may read; `muster repair config`.

use std::path::Path;

use crate::cli::args::{self, Global, RecipientKind};
use crate::cli::ask::Asker;
use crate::cli::compose::{Access, Context, host_name, identities, secret};
use crate::cli::new_file::{PRIVATE, PUBLIC, write_new};
use crate::cli::{confirm, exit};
use crate::jobs::keys;
use crate::jobs::repair_config::{self, RepairConfigRequest};
use crate::model::error::Exit;
use crate::model::{Error, ErrorKind, Result, Secret, SecretRef};
use crate::repo::keys::{AnyRecipient, HostKeys, KeyRequest};
use crate::repo::repository::Repository;
use crate::repo::sign::SignKey;
use crate::report::outcome::KeyChange;
use crate::sys::{self, OsEntropy, RealClock, RealProcess};

/// Longest key request that is read.
const REQUEST_MAX_BYTES: u64 = 64 << 10;

/// Does one of the key commands, but for `request`.
pub fn run(context: &Context<'_>, args: &args::Key) -> Result<Exit> {
    let json = context.global.json;
    if let args::Key::List = args {
        return exit::finish(&keys::list(&context.open(Access::Read)?)?, json);
    }
    let repo = context.open(Access::Write)?;
    let root = root_key(context, reference(args))?;
    let by = keys::Authority {
        root: &root,
        callbacks: context.asker.clone(),
        entropy: &OsEntropy,
        clock: &RealClock,
    };
    let ask = |question: String| confirm::confirm(&question, context.global.yes);
    let change = match args {
        args::Key::List | args::Key::Request { .. } => {
            return Err(Error::internal("change the keys", "this command changes none"));
        }
        args::Key::Add { recipient, label, kind, .. } => {
            let recipient = wanted_recipient(recipient, *kind, &context.asker)?;
            keys::add_recipient(&repo, &by, &recipient, label.as_deref().unwrap_or_default())?
        }
        args::Key::Remove { id, .. } => {
            let party = keys::resolve_party(&repo, id)?;
            ask(format!("{party} will not be able to open anything that is stored from now on. Go on?"))?;
            keys::remove_recipient(&repo, &by, id)?
        }
        args::Key::Admit { request, right, .. } => admit(&repo, &by, request, right.map(right_of), &ask)?,
        args::Key::Grant { id, .. } => {
            let party = keys::resolve_party(&repo, id)?;
            ask(format!("{party} will be able to remove every host's points. Go on?"))?;
            keys::grant_removing(&repo, &by, id)?
        }
        args::Key::Share { id, with, .. } => {
            ask_to_share(&repo, id, with, &ask)?;
            keys::share(&repo, &by, id, with)?
        }
        args::Key::Revoke { id, .. } => {
            let party = keys::resolve_party(&repo, id)?;
            ask(format!("Nothing that {party} signs from now on will be trusted. Go on?"))?;
            keys::revoke(&repo, &by, id)?
        }
        args::Key::Rotate { epochs, .. } => keys::rotate(&repo, &by, round(*epochs))?,
    };
    exit::finish(&change, json)
}

fn admit(
    repo: &Repository,
    by: &keys::Authority<'_, Asker>,
    file: &Path,
    right: Option<keys::Right>,
    ask: &dyn Fn(String) -> Result<()>,
) -> Result<KeyChange> {
    let shown = file.display().to_string();
    let failed = |e| Error::io("read the key request", shown.clone(), e);
    if std::fs::metadata(file).map_err(failed)?.len() > REQUEST_MAX_BYTES {
        return Err(
            Error::new(ErrorKind::Usage, "read the key request", "it is longer than 64 KiB").on(shown)
        );
    }
    let text = std::fs::read_to_string(file).map_err(failed)?;
    let request: KeyRequest = serde_json::from_str(&text).map_err(|e| {
        Error::new(ErrorKind::Usage, "read the key request", e.to_string())
            .on(shown)
            .hint("it is the file that `muster key request --out` wrote")
    })?;
    let (body, admission) = keys::admission(repo, &request)?;
    let role = match body.role.as_str() {
        "drill" => "a drill host, which can open every backup",
        _ => "a writer, which can store points and see all names and sizes",
    };
    let with = right.map_or_else(String::new, |right| format!("; {}", right.sentence()));
    match admission {
        keys::Admission::New(_) => ask(format!(
            "Admit {:?} ({}, signing key {}) as {role}{with}?",
            body.label, body.party, body.signing_key
        ))?,
        keys::Admission::Renewal(_, party) => {
            let name = match body.label.as_str() {
                label if label.is_empty() || label == party.label => String::new(),
                label => format!(", the new name {label:?}"),
            };
            ask(format!(
                "Give {party} the new signing key {}{name} and revoke its old one{with}?",
                body.signing_key
            ))?;
        }
        keys::Admission::Already(_) => {}
    }
    keys::admit_with(repo, by, &request, None, right)
}

fn right_of(right: args::Right) -> keys::Right {
    match right {
        args::Right::RemoveOthers => keys::Right::RemoveOthers,
        args::Right::AppendOnly => keys::Right::AppendOnly,
    }
}

fn ask_to_share(
    repo: &Repository,
    id: &str,
    with: &[String],
    ask: &dyn Fn(String) -> Result<()>,
) -> Result<()> {
    if with.is_empty() {
        return Ok(());
    }
    let party = keys::resolve_party(repo, id)?;
    let others = with.iter().map(|name| Ok(keys::resolve_party(repo, name)?.to_string()));
    let others = others.collect::<Result<Vec<_>>>()?.join(" and ");
    ask(format!(
        "{party} will rely on {others}: whoever has their keys can make its new points unreadable. Go on?"
    ))
}

/// `muster repair config`: works where no repository opens any more.
pub fn repair_config(context: &Context<'_>, args: &args::RepairConfig) -> Result<Exit> {
    let changes = args.remove.is_some() && !args.dry_run;
    let (store, pin) = context.place(if changes { Access::Write } else { Access::Read })?;
    let root = root_key(context, args.root.as_ref())?;
    let request =
        RepairConfigRequest { root: &root, pin, remove: args.remove.as_deref(), dry_run: args.dry_run };
    let ask = |question: String| confirm::confirm(&question, context.global.yes);
    exit::finish(&repair_config::repair_config(&*store, &request, &ask)?, context.global.json)
}

fn round(round: args::Round) -> keys::Round {
    match round {
        args::Round::Data => keys::Round::Data,
        args::Round::Metadata => keys::Round::Metadata,
        args::Round::All => keys::Round::All,
    }
}

fn reference(args: &args::Key) -> Option<&SecretRef> {
    match args {
        args::Key::List | args::Key::Request { .. } => None,
        args::Key::Add { root, .. }
        | args::Key::Remove { root, .. }
        | args::Key::Admit { root, .. }
        | args::Key::Grant { root, .. }
        | args::Key::Share { root, .. }
        | args::Key::Revoke { root, .. }
        | args::Key::Rotate { root, .. } => root.as_ref(),
    }
}

/// Programs that fetch other keys do not see where the root key is.
pub fn withhold_root(args: &args::Key) {
    reference(args).into_iter().for_each(sys::withhold);
}

/// The root key: of `--root`, else of the recovery kit given with `--identity`.
fn root_key(context: &Context<'_>, reference: Option<&SecretRef>) -> Result<SignKey> {
    let found = match reference {
        Some(reference) => {
            identities(std::slice::from_ref(reference), &context.asker, &*context.process)?.root
        }
        None => context.identities.root.clone(),
    };
    found.ok_or_else(|| {
        Error::new(ErrorKind::WrongKey, "change the configuration", "the root key is not at hand")
            .hint("give the recovery kit: --identity file:KIT")
    })
}

fn wanted_recipient(text: &str, kind: Option<RecipientKind>, asker: &Asker) -> Result<AnyRecipient> {
    if text == "passphrase" {
        return Ok(AnyRecipient::Passphrase(asker.new_passphrase("opening this repository")?));
    }
    let recipient = AnyRecipient::parse(text)?;
    let expected = kind.map(|kind| match kind {
        RecipientKind::X25519 => "x25519",
        RecipientKind::Ssh => "ssh",
        RecipientKind::Plugin => "plugin",
    });
    match expected {
        Some(expected) if expected != recipient.kind() => Err(Error::new(
            ErrorKind::Usage,
            "use the recipient",
            format!("it is of kind {}, not {expected}", recipient.kind()),
        )
        .on(text.to_owned())),
        _ => Ok(recipient),
    }
}

/// `muster key request`: makes this host's keys; needs no repository.
pub fn request(global: &Global, args: &args::Key) -> Result<Exit> {
    let args::Key::Request { role, label, out, keys: file } = args else {
        return Err(Error::internal("request a key", "these are other arguments"));
    };
    let role = match role {
        args::HostRole::Writer => keys::HostRole::Writer,
        args::HostRole::Drill => keys::HostRole::Drill,
    };
    let existing = existing_keys(file)?;
    // A host that has keys has a name too, and keeps it unless it asks for another.
    let wanted = match (label, &existing) {
        (Some(label), _) => label.clone(),
        (None, Some(_)) => String::new(),
        (None, None) => host_name(),
    };
    let (host, request) = keys::request(role, &wanted, existing.as_ref(), &OsEntropy)?;
    let label = if wanted.is_empty() { request.party.clone() } else { wanted };
    // Keys in use stay in place until the new ones are admitted.
    let mut place = file.as_os_str().to_owned();
    if existing.is_some() {
        place.push(".new");
    }
    let place = std::path::PathBuf::from(place);
    // Nothing is written unless both can be.
    for path in [&place, out] {
        if path.symlink_metadata().is_ok() {
            return Err(Error::new(ErrorKind::Refused, "write", "the file is there already, and nothing is ever overwritten")
                .on(path.display().to_string())
                .hint("a request that was not admitted may be removed; else name another file with --out, or other keys with --keys"));
        }
    }
    write_new(&place, host.to_file(&format!("keys of host {label}")).expose(), PRIVATE)?;
    let text = serde_json::to_string_pretty(&request)
        .map_err(|e| Error::internal("write the key request", e.to_string()))?;
    write_new(out, &format!("{text}\n"), PUBLIC)?;
    let (place, out) = (place.display().to_string(), out.display().to_string());
    let mut next = vec![
        format!("bring {out} to whoever holds the recovery kit; it holds no secret"),
        format!(
            "there: muster --identity file:KIT key admit {out}; it shows the signing key, which must be {}",
            request.signing_key
        ),
    ];
    if existing.is_some() {
        next.push(format!("then here: mv {place} {}", file.display()));
    }
    let outcome = KeyChange {
        action: "request".to_owned(),
        id: Some(request.party.clone()),
        file: Some(out),
        config: None,
        done: format!("made the keys of {label} in {place}"),
        next,
    };
    exit::finish(&outcome, global.json)
}

fn existing_keys(file: &Path) -> Result<Option<HostKeys>> {
    if file.symlink_metadata().is_err() {
        return Ok(None);
    }
    let text: Secret<String> = secret(&SecretRef::File(file.display().to_string()), &RealProcess)?;
    HostKeys::parse(&text).map(Some).map_err(|e| e.on(file.display().to_string()))
}
