//! `picket audit verify`: whether the audit trail is what was written, in a store or in an export.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::Context;
use picket_coordinator::{Unproven, Verdict, verify_export, verify_store};

use crate::cli::{AuditCommand, VerifyArgs};
use crate::refusal::Refusal;
use crate::terminal::{self, Progress};

pub fn run(command: &AuditCommand) -> anyhow::Result<()> {
    match command {
        AuditCommand::Verify(args) => verify(args),
    }
}

fn verify(args: &VerifyArgs) -> anyhow::Result<()> {
    let mut progress = Progress::new("records read");
    let verdict = match (&args.export, &args.store) {
        (Some(file), _) => verify_export(open(file)?, &args.checkpoints, |count| progress.at(count))?,
        (None, Some(store)) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let verified = runtime.block_on(verify_store(store, &args.checkpoints, |count| progress.at(count)));
            verified.context("the audit store cannot be read")?
        }
        (None, None) => {
            let refused = "picket audit verify: name the store with --store URL, or an export with --export FILE";
            return Err(Refusal::Command(refused.to_owned()).into());
        }
    };
    let unproven = unproven(&verdict, args);
    terminal::say(&told(&verdict, unproven.as_ref()))?;
    match (verdict.broken, unproven) {
        (Some(broken), _) => Err(anyhow::Error::new(broken).context("the audit trail is not what was written")),
        // A store in which nothing was written yet is no fault.
        (None, Some(Unproven::Empty)) if args.export.is_none() => Ok(()),
        (None, Some(unproven)) => Err(anyhow::Error::new(unproven).context("the audit trail is not proven")),
        (None, None) => Ok(()),
    }
}

/// A store knows how many of its records were there before there were chains, an export does not.
fn unproven(verdict: &Verdict, args: &VerifyArgs) -> Option<Unproven> {
    verdict.unproven(args.allow_unchained || args.export.is_none())
}

fn open(file: &Path) -> anyhow::Result<Box<dyn BufRead>> {
    if file == Path::new("-") {
        return Ok(Box::new(BufReader::new(std::io::stdin())));
    }
    let opened = File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    Ok(Box::new(BufReader::new(opened)))
}

/// each number that says something
fn told(verdict: &Verdict, unproven: Option<&Unproven>) -> String {
    let lines = [
        (verdict.checked, "records follow from what they say and the record before"),
        (verdict.erased, "of them were erased of a person, and still follow"),
        (verdict.restated, "records name an erased person no longer: a later record proves what they say"),
        (verdict.restated_given, "records name an erased person no longer: what they say was taken as given"),
        (verdict.given, "records were taken as given: the record before them is not in the export"),
        (verdict.deleted, "records were deleted by retention: what follows them was checked from there"),
        (verdict.unchained, "records are in no chain: nothing proves them"),
        (verdict.checkpoints, "checkpoints agree"),
        (verdict.uncompared.len() as u64, "checkpoints name records that are not there to compare"),
    ];
    let chains = format!("{:>12} chains\n", verdict.chains);
    let numbers = lines.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count:>12} {what}\n"));
    let claim = match (&verdict.broken, unproven) {
        (None, Some(Unproven::Empty)) => "there are no records\n",
        (None, None) if verdict.checked > 0 || verdict.deleted > 0 => {
            "the audit trail is what was written, as far as it was checked\n"
        }
        _ => "",
    };
    std::iter::once(chains).chain(numbers).chain([claim.to_owned()]).collect()
}
