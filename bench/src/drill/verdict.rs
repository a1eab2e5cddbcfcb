//! A verdict: what was checked, what it cost, and what well-behaved clients saw.

use serde::Serialize;
use std::fmt::Write;

use super::crowd::Seen;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    pub drill: &'static str,
    pub target: String,
    pub seconds: u16,
    pub passed: bool,
    pub checks: Vec<Check>,
    pub figures: Vec<Figure>,
    pub well_behaved: Seen,
}

#[derive(Debug, Serialize)]
pub struct Check {
    pub name: String,
    pub outcome: Outcome,
    /// what was seen
    pub detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Passed,
    Failed,
    /// not looked at, because nobody wanted to wait for it
    Skipped,
}

#[derive(Debug, Serialize)]
pub struct Figure {
    pub name: &'static str,
    pub value: f64,
}

/// what a drill itself has to say
#[derive(Debug, Default)]
pub struct Findings {
    pub checks: Vec<Check>,
    pub figures: Vec<Figure>,
}

impl Check {
    pub fn new(name: impl Into<String>, holds: bool, detail: impl Into<String>) -> Self {
        let outcome = if holds { Outcome::Passed } else { Outcome::Failed };
        Check { name: name.into(), outcome, detail: detail.into() }
    }

    pub fn holds(&self) -> bool {
        self.outcome != Outcome::Failed
    }

    pub fn skipped(name: impl Into<String>, why: impl Into<String>) -> Self {
        Check { name: name.into(), outcome: Outcome::Skipped, detail: why.into() }
    }
}

impl Findings {
    pub fn check(&mut self, name: impl Into<String>, holds: bool, detail: impl Into<String>) {
        self.checks.push(Check::new(name, holds, detail));
    }

    pub fn figure(&mut self, name: &'static str, value: f64) {
        self.figures.push(Figure { name, value });
    }
}

impl Verdict {
    pub fn new(
        drill: &'static str,
        target: &str,
        seconds: u16,
        checks: Vec<Check>,
        figures: Vec<Figure>,
        well_behaved: Seen,
    ) -> Self {
        let passed = checks.iter().all(Check::holds);
        Verdict { drill, target: target.to_owned(), seconds, passed, checks, figures, well_behaved }
    }

    /// for a reader at a terminal
    pub fn table(&self) -> String {
        let mut text = format!("drill {} of {}, {} s at most\n\n", self.drill, self.target, self.seconds);
        text.push_str(&checks_table(&self.checks));
        text.push('\n');
        for Figure { name, value } in &self.figures {
            line(&mut text, format_args!("     {name:<44}{value:>12.1}"));
        }
        if !self.figures.is_empty() {
            text.push('\n');
        }
        text.push_str(&self.well_behaved.table());
        line(&mut text, format_args!("\n{}", if self.passed { "passed" } else { "FAILED" }));
        text
    }
}

pub fn checks_table(checks: &[Check]) -> String {
    let mut text = String::new();
    let width = checks.iter().map(|check| check.name.chars().count()).max().unwrap_or_default();
    for check in checks {
        let mark = match check.outcome {
            Outcome::Passed => "ok",
            Outcome::Failed => "FAIL",
            Outcome::Skipped => "skip",
        };
        line(&mut text, format_args!("{mark:<5}{:<width$}  {}", check.name, check.detail));
    }
    text
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    text.write_fmt(arguments).and_then(|()| text.write_char('\n')).ok();
}
