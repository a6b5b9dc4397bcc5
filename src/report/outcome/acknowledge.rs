use std::io::{self, Write};

use serde::Serialize;

use super::{Exit, Human, Outcome};
use crate::report::human::{count, counted, plain};

/// Points that were lost, and are taken note of as lost.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Acknowledged {
    /// Whether nothing was to be written.
    pub dry_run: bool,
    /// Which.
    pub points: Vec<AcknowledgedPoint>,
    /// How many more are missing that other hosts wrote, and that this one has no right to remove.
    pub others: u64,
}

/// One of them.
#[derive(Clone, Debug, Serialize)]
pub struct AcknowledgedPoint {
    /// Its job.
    pub job: String,
    /// Who wrote it: the label, or the id.
    pub writer: String,
    /// Its number in the job's row.
    pub number: u64,
    /// Its name, where it is known.
    pub point: Option<String>,
}

impl Outcome for Acknowledged {
    fn name(&self) -> &'static str {
        "retention-acknowledge"
    }

    fn exit(&self) -> Exit {
        if self.others == 0 { Exit::Done } else { Exit::Partial }
    }

    fn render(&self, out: &mut dyn Write, _: &Human) -> io::Result<()> {
        for point in &self.points {
            let name = point.point.as_deref().unwrap_or("(its name is not known)");
            writeln!(
                out,
                "  number {} of job {} by {} {name}",
                point.number,
                plain(&point.job),
                plain(&point.writer)
            )?;
        }
        let verb = if self.dry_run { "would take note of" } else { "took note of" };
        writeln!(out, "{verb} {}", counted(self.points.len() as u64, "lost point"))?;
        if self.others > 0 {
            writeln!(
                out,
                "{} more were written by other hosts: run it there, or on one that may remove others' points",
                count(self.others)
            )?;
        }
        Ok(())
    }
}
