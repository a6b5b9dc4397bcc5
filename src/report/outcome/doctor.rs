use std::io::{self, Write};

use serde::Serialize;

use super::{Exit, Human, Outcome};
use crate::report::human::plain;

/// `muster doctor`.
#[derive(Clone, Debug, Serialize)]
pub struct Doctor {
    /// The store's address.
    pub store: String,
    /// What was looked at, in order.
    pub findings: Vec<DoctorFinding>,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DoctorFinding {
    /// What: `conditional-put`, `clock`.
    pub check: String,
    /// Whether it is as it should be.
    pub judgement: Judgement,
    /// What was found.
    pub found: String,
    /// What that means for Muster.
    pub means: String,
    /// What to do; empty where there is nothing to do.
    pub next: String,
}

/// How good a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Judgement {
    /// As it should be.
    Good,
    /// Worth knowing; Muster works with it.
    Note,
    /// It hurts.
    Bad,
}

impl DoctorFinding {
    /// A finding with nothing to do about it.
    pub fn new(
        check: &str,
        judgement: Judgement,
        found: impl Into<String>,
        means: impl Into<String>,
    ) -> Self {
        Self {
            check: check.to_owned(),
            judgement,
            found: found.into(),
            means: means.into(),
            next: String::new(),
        }
    }

    /// Says what to do.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = next.into();
        self
    }

    /// Writes it for people.
    pub fn render(&self, out: &mut dyn Write) -> io::Result<()> {
        let mark = match self.judgement {
            Judgement::Good => "good",
            Judgement::Note => "note",
            Judgement::Bad => "BAD ",
        };
        writeln!(out, "{mark}  {}: {}", self.check, plain(&self.found))?;
        writeln!(out, "      {}", plain(&self.means))?;
        match self.next.is_empty() {
            true => Ok(()),
            false => writeln!(out, "      do: {}", plain(&self.next)),
        }
    }
}

impl Outcome for Doctor {
    fn name(&self) -> &'static str {
        "doctor"
    }

    fn exit(&self) -> Exit {
        let is_bad = self.findings.iter().any(|finding| finding.judgement == Judgement::Bad);
        if is_bad { Exit::Partial } else { Exit::Done }
    }

    fn render(&self, out: &mut dyn Write, _: &Human) -> io::Result<()> {
        writeln!(out, "{}", plain(&self.store))?;
        self.findings.iter().try_for_each(|finding| finding.render(out))
    }
}

/// `muster doctor --iam`.
#[derive(Clone, Debug, Serialize)]
pub struct Iam {
    /// What to allow, provider after provider.
    pub parts: Vec<IamPart>,
}

/// What one kind of host is to be allowed at one provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IamPart {
    /// `aws`, `r2` …
    pub provider: String,
    /// `writer`, `pruner`, `drill`, `reader`, `create-only`.
    pub role: String,
    /// Where it goes, and what it cannot do.
    pub about: String,
    /// A policy, or commands; empty where the provider has neither.
    pub text: String,
}

impl Outcome for Iam {
    fn name(&self) -> &'static str {
        "doctor-iam"
    }

    fn render(&self, out: &mut dyn Write, _: &Human) -> io::Result<()> {
        for (at, part) in self.parts.iter().enumerate() {
            if at > 0 {
                writeln!(out)?;
            }
            writeln!(out, "## {} {}: {}", part.provider, part.role, plain(&part.about))?;
            // It is to be copied as it stands: many lines.
            write!(out, "{}", part.text)?;
        }
        Ok(())
    }
}
