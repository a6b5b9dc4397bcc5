use std::io::{self, Write};

use serde::Serialize;

use super::{DoctorFinding, Human, Outcome, render_lines};
use crate::report::human::{Align, Table, plain, shell_word};

/// `muster init`.
#[derive(Clone, Debug, Serialize)]
pub struct Init {
    /// The store's address.
    pub store: String,
    /// The new repository's id.
    pub repository: String,
    /// The root's public key, which hosts pin.
    pub root: String,
    /// The recovery kit's file.
    pub kit: String,
    /// The configuration file that was written.
    pub config: String,
    /// This host's keys.
    pub keys: String,
    /// This host's id as a writer.
    pub writer: String,
    /// Ids of the recovery recipients.
    pub recipients: Vec<String>,
    /// Whether the kit is protected by a passphrase.
    pub kit_has_passphrase: bool,
    /// What trying out the store showed that is worth knowing.
    pub remarks: Vec<DoctorFinding>,
}

impl Outcome for Init {
    fn name(&self) -> &'static str {
        "init"
    }

    fn render(&self, out: &mut dyn Write, _: &Human) -> io::Result<()> {
        writeln!(out, "made repository {} at {}", plain(&self.repository), plain(&self.store))?;
        writeln!(out, "  configuration  {}", plain(&self.config))?;
        writeln!(out, "  host keys      {} (writer {})", plain(&self.keys), plain(&self.writer))?;
        writeln!(out, "  root public    {}", plain(&self.root))?;
        writeln!(out, "  recovery kit   {}", plain(&self.kit))?;
        if !self.remarks.is_empty() {
            writeln!(out, "of the store (`muster doctor` tells all):")?;
            self.remarks.iter().try_for_each(|remark| remark.render(out))?;
        }
        writeln!(out)?;
        writeln!(
            out,
            "MOVE THE RECOVERY KIT AWAY FROM THIS MACHINE NOW, to two places that do not burn together."
        )?;
        writeln!(out, "Without it nobody can restore; whoever has it can read everything.")?;
        if !self.kit_has_passphrase {
            writeln!(out, "It is not protected by a passphrase.")?;
        }
        writeln!(out, "Next: add a job to {}, then run `{}`.", plain(&self.config), self.first_backup())
    }
}

impl Init {
    /// The configuration is found without `-c` only under its usual name, where it was made.
    fn first_backup(&self) -> String {
        match self.config.as_str() {
            "muster.toml" => "muster backup".to_owned(),
            config => format!("muster -c {} backup", plain(&shell_word(config))),
        }
    }
}

/// `muster key list`.
#[derive(Clone, Debug, Serialize)]
pub struct KeyList {
    /// The number of the newest configuration.
    pub config: u64,
    /// The root's public key.
    pub root: String,
    /// The data epoch in use.
    pub data_epoch: String,
    /// The metadata epoch in use.
    pub metadata_epoch: String,
    /// Who can open data.
    pub recipients: Vec<KeyRecipient>,
    /// Hosts.
    pub writers: Vec<KeyWriter>,
}

/// A recovery recipient.
#[derive(Clone, Debug, Serialize)]
pub struct KeyRecipient {
    /// Its id.
    pub id: String,
    /// Its name.
    pub label: String,
    /// `x25519`, `ssh`, `plugin`.
    pub kind: String,
    /// The public recipient, as age writes it.
    pub recipient: String,
}

/// A host's key.
#[derive(Clone, Debug, Serialize)]
pub struct KeyWriter {
    /// Its id.
    pub id: String,
    /// Its name.
    pub label: String,
    /// `writer` or `drill`.
    pub role: String,
    /// `active` or `revoked`.
    pub status: String,
    /// What it may do beyond its role, and what it may not: `may-remove-others`, `append-only`.
    pub rights: Vec<String>,
    /// Ids of the writers on whose index entries it relies.
    pub shares_with: Vec<String>,
    /// The public signing key.
    pub public_key: String,
}

impl Outcome for KeyList {
    fn name(&self) -> &'static str {
        "key-list"
    }

    fn render(&self, out: &mut dyn Write, _: &Human) -> io::Result<()> {
        use Align::Left;
        writeln!(out, "config {}, root {}", self.config, plain(&self.root))?;
        writeln!(
            out,
            "data epoch {}, metadata epoch {}",
            plain(&self.data_epoch),
            plain(&self.metadata_epoch)
        )?;
        writeln!(out, "recipients (can open data):")?;
        let columns = [("ID", Left), ("KIND", Left), ("LABEL", Left), ("RECIPIENT", Left)];
        let mut recipients = Table::new(&columns).indented(2);
        for row in &self.recipients {
            recipients.row([&row.id, &row.kind, &row.label, &row.recipient]);
        }
        recipients.render(out)?;
        writeln!(out, "hosts:")?;
        let columns = [
            ("ID", Left),
            ("ROLE", Left),
            ("STATUS", Left),
            ("LABEL", Left),
            ("RIGHTS", Left),
            ("SHARES WITH", Left),
            ("PUBLIC KEY", Left),
        ];
        let mut hosts = Table::new(&columns).indented(2);
        for row in &self.writers {
            let (rights, shared) = (or_dash(row.rights.join(" ")), or_dash(self.names_of(&row.shares_with)));
            hosts.row([&row.id, &row.role, &row.status, &row.label, &rights, &shared, &row.public_key]);
        }
        hosts.render(out)
    }
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

impl KeyList {
    /// Names of writers, or the ids of those that have none.
    fn names_of(&self, ids: &[String]) -> String {
        let named = |id: &String| {
            let label = self.writers.iter().find(|w| w.id == *id).map(|w| w.label.clone());
            label.filter(|label| !label.is_empty()).unwrap_or_else(|| id.clone())
        };
        ids.iter().map(named).collect::<Vec<_>>().join(", ")
    }
}

/// Every other `muster key` command.
#[derive(Clone, Debug, Serialize)]
pub struct KeyChange {
    /// `add`, `remove`, `request`, `admit`, `grant`, `share`, `revoke`, `rotate`.
    pub action: String,
    /// The key it was about.
    pub id: Option<String>,
    /// A file that was written.
    pub file: Option<String>,
    /// The number of the configuration that was written.
    pub config: Option<u64>,
    /// What was done, in a sentence.
    pub done: String,
    /// What is still to be done, and by whom.
    pub next: Vec<String>,
}

impl Outcome for KeyChange {
    fn name(&self) -> &'static str {
        "key-change"
    }

    fn render(&self, out: &mut dyn Write, _: &Human) -> io::Result<()> {
        writeln!(out, "{}", plain(&self.done))?;
        if let Some(config) = self.config {
            writeln!(out, "the repository's configuration is now number {config}")?;
        }
        render_lines("next", &self.next, out)
    }
}
