//! What the documents say: their links lead somewhere, their configurations are accepted, their commands work.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{ADMIN, PASSWORD, Picket, Upstream};

/// what a configuration of the documents may lack here: files of their readers, and parts that another page has
const LACKS: [&str; 5] = [
    "No such file or directory",
    "cannot be used",
    "name at least one route",
    "write memory://",
    "no management credential",
];
const SECTIONS: [&str; 7] = ["environment", "state", "node", "auth", "coordinator", "telemetry", "policy"];

/// what readers put where the documents leave a secret out
const SECRET: &str = "b5c0d1f7a2e94836ac1d7f60e8b3925476fd0a1c";

struct Document {
    path: PathBuf,
    text: String,
}

/// a fenced block, and the word behind its fence
struct Block {
    language: String,
    text: String,
}

impl Document {
    fn all() -> Vec<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folders = ["", "docs", "helm/picket", "tests/socketio", "fuzz"].map(|folder| root.join(folder));
        let files = folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten();
        let paths = files.map(|file| file.unwrap().path());
        let documents: Vec<_> = paths
            .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
            .map(|path| Document { text: std::fs::read_to_string(&path).unwrap(), path })
            .collect();
        assert!(documents.len() > 20, "the documents were not found: {}", documents.len());
        documents
    }

    /// lines outside of fenced blocks, and the blocks
    fn parts(&self) -> (Vec<&str>, Vec<Block>) {
        let (mut prose, mut blocks, mut open) = (Vec::new(), Vec::new(), None::<Block>);
        for line in self.text.lines() {
            match (line.trim_start().strip_prefix("```"), &mut open) {
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (Some(language), None) => open = Some(Block { language: language.to_owned(), text: String::new() }),
                (None, Some(block)) => block.text.extend([line, "\n"]),
                (None, None) => prose.push(line),
            }
        }
        assert!(open.is_none(), "{}: a block that does not end", self.path.display());
        (prose, blocks)
    }

    fn blocks(&self, language: &str) -> Vec<String> {
        let (_, blocks) = self.parts();
        blocks.into_iter().filter(|block| block.language == language).map(|block| block.text).collect()
    }

    fn links(&self) -> Vec<String> {
        let (prose, _) = self.parts();
        let ends = prose.into_iter().flat_map(|line| line.split("](").skip(1));
        ends.filter_map(|end| end.split_once(')')).map(|(target, _)| target.to_owned()).collect()
    }

    /// as GitHub makes them of headings: letters and digits in lower case, blanks as hyphens
    fn anchors(&self) -> BTreeSet<String> {
        let (prose, _) = self.parts();
        let headings = prose.into_iter().filter_map(|line| line.strip_prefix('#'));
        let titles = headings.map(|heading| heading.trim_start_matches('#').trim());
        titles
            .map(|title| {
                let kept = title.to_lowercase();
                let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
                kept.map(|c| if c == ' ' { '-' } else { c }).collect()
            })
            .collect()
    }
}

#[test]
fn every_link_leads_somewhere() {
    let documents = Document::all();
    let mut astray = Vec::new();
    let mut followed = 0;
    for document in &documents {
        for link in document.links() {
            if link.contains("://") {
                continue;
            }
            followed += 1;
            let (file, anchor) = link.split_once('#').map_or((link.as_str(), None), |(file, at)| (file, Some(at)));
            let path = document.path.parent().unwrap().join(file);
            let target = if file.is_empty() { document.path.clone() } else { path };
            let Ok(target) = target.canonicalize() else {
                astray.push(format!("{}: {link}: no such file", document.path.display()));
                continue;
            };
            let leads =
                |anchor: &str| documents.iter().any(|other| other.path == target && other.anchors().contains(anchor));
            if let Some(anchor) = anchor
                && !leads(anchor)
            {
                astray.push(format!("{}: {link}: no such heading", document.path.display()));
            }
        }
    }
    assert!(astray.is_empty(), "{astray:#?}");
    assert!(followed > 50, "links were not found: {followed}");
}

#[test]
fn every_configuration_is_accepted_but_for_what_is_its_readers() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("picket.yaml");
    let (mut mistakes, mut checked) = (Vec::new(), 0);
    for document in Document::all() {
        for text in document.blocks("yaml") {
            let first = text.lines().find(|line| !line.starts_with('#')).unwrap_or_default();
            if !first.split_once(':').is_some_and(|(key, _)| SECTIONS.contains(&key)) {
                continue;
            }
            checked += 1;
            std::fs::write(&file, text.replace('…', SECRET)).unwrap();
            let check = Command::new(env!("CARGO_BIN_EXE_picket"))
                .arg("check-config")
                .arg(&file)
                .env_clear()
                .env("SOCKET_ADMIN_USERNAME", ADMIN)
                .env("SOCKET_ADMIN_PASSWORD", PASSWORD)
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&check.stderr).into_owned();
            let unexpected = said.lines().filter(|line| !LACKS.iter().any(|lack| line.contains(lack)));
            mistakes.extend(unexpected.map(|line| format!("{}: {line}", document.path.display())));
        }
    }
    assert!(mistakes.is_empty(), "{mistakes:#?}");
    assert!(checked >= 8, "configurations were not found: {checked}");
}

#[test]
fn every_option_of_the_program_that_is_named_exists() {
    let help = |subcommand: &[&str]| {
        let help = Command::new(env!("CARGO_BIN_EXE_picket")).args(subcommand).arg("--help").output().unwrap();
        assert!(help.status.success(), "picket {} is named, and does not exist", subcommand.join(" "));
        String::from_utf8(help.stdout).unwrap()
    };
    let mut named = 0;
    for document in Document::all() {
        let blocks = document.blocks("sh");
        let lines = blocks.iter().flat_map(|block| block.lines());
        // In front of it variables may be set.
        let commands = lines.filter_map(|line| line.split_once("picket ").filter(|(before, _)| is_environment(before)));
        for (_, command) in commands {
            let command = command.split('#').next().unwrap_or_default();
            let words: Vec<_> = command.split_whitespace().collect();
            let is_name = |word: &&&str| word.starts_with(|first: char| first.is_ascii_lowercase());
            let subcommand: Vec<_> = words.iter().take(2).take_while(is_name).copied().collect();
            let help = help(&subcommand);
            for option in words.iter().filter(|word| word.starts_with("--")) {
                named += 1;
                assert!(help.contains(option), "{}: {option} in `picket {command}`", document.path.display());
            }
        }
    }
    assert!(named > 5, "commands were not found: {named}");
}

fn is_environment(words: &str) -> bool {
    words.split_whitespace().all(|word| word.contains('='))
}

#[tokio::test]
async fn the_commands_of_the_management_page_do_what_they_say() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).start().await;
    let address = picket.address("management");
    let documents = Document::all();
    let management = documents.iter().find(|document| document.path.ends_with("docs/management.md")).unwrap();
    let commands = management.blocks("sh").concat();
    assert!(commands.lines().filter(|line| line.starts_with("curl ")).count() >= 5, "{commands}");
    let commands = commands.replace("127.0.0.1:9090", &address.to_string()).replace("admin:", &format!("{ADMIN}:"));
    let strict = "set -euo pipefail\ncurl() { command curl --silent --show-error --fail-with-body --max-time 20 \"$@\"; echo; }\npicket() { \"$PICKET\" \"$@\"; }\n";
    let run = tokio::process::Command::new("bash")
        .args(["-c", &format!("{strict}{commands}")])
        .env("PASSWORD", PASSWORD)
        .env("PICKET", env!("CARGO_BIN_EXE_picket"))
        .output()
        .await
        .unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(run.status.success(), "{}\n{}\n{commands}", said(&run.stdout), said(&run.stderr));
}
