//! Why a command could not do its work, as its exit code and what stands on standard error.

use std::fmt;
use std::process::ExitCode;

use crate::config::Located;

/// `EX_USAGE` of sysexits.h: the command line or the configuration cannot be used
pub const USAGE: u8 = 64;

/// a command that cannot be carried out as it was asked for; the one who asked can mend it
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("{}", Lines(.0))]
    Configuration(Vec<Located>),
    #[error("{0}")]
    Command(String),
}

struct Lines<'a>(&'a [Located]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{mistake}")?;
        }
        Ok(())
    }
}

#[expect(clippy::print_stderr, reason = "this is where the command line answers")]
pub fn answer(error: &anyhow::Error) -> ExitCode {
    if let Some(refusal) = error.downcast_ref::<Refusal>() {
        eprintln!("{refusal}");
        return ExitCode::from(USAGE);
    }
    eprintln!("picket: {error:#}");
    ExitCode::FAILURE
}

/// help and version are no mistakes
pub fn of_the_command_line(message: &clap::Error) -> ExitCode {
    let mistake = message.use_stderr();
    match message.print() {
        Ok(()) if !mistake => ExitCode::SUCCESS,
        _ => ExitCode::from(USAGE),
    }
}
