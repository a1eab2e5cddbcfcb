//! What the documents say: their links lead somewhere, their configurations are accepted, their commands work.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

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

/// What the pages call by names that are a reader's: the program, and a server that goes on while the next command is typed.
const SHELL: &str = r#"
set -euo pipefail
curl() { command curl --silent --show-error --fail-with-body --max-time 20 "${@//127.0.0.1:9090/$MANAGEMENT}"; echo; }
picket() { if [[ $1 == standalone ]]; then serve "$@"; else "$PICKET" "$@"; fi; }
cargo() { [[ "$1 $2 $3" == "run --release --" ]]; picket "${@:4}"; }
serve() {
    [[ -z ${server:-} ]] || ends
    rm -f banner
    "$PICKET" "$@" > banner 2> log & server=$!
    until grep -qs "data  " banner; do kill -0 $server; sleep 0.05; done
    MANAGEMENT=$(sed -n 's|.*management *http://\([^/]*\)/.*|\1|p' banner)
    local file; file=$(sed -n 's/.*generated for this run in //p' banner)
    PASSWORD=$([[ -z $file ]] || cat "$file")
}
ends() { kill $server; wait $server; }
trap '[[ -z ${server:-} ]] || kill $server 2> /dev/null || true' EXIT
"#;

const BLOCKED: &str = r#"curl -u admin:$PASSWORD -H 'content-type: application/json' -d '{"ip": "127.0.0.1", "reason": "attacks", "force": true}' http://127.0.0.1:9090/api/security/block-ip"#;

/// Runs them as a reader would, one after the other, and gives back what they printed.
async fn run(folder: &Path, commands: &str, management: &str) -> String {
    let run = tokio::process::Command::new("bash")
        .args(["-c", &format!("{SHELL}\n{commands}\n[[ -z ${{server:-}} ]] || ends")])
        .current_dir(folder)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("MANAGEMENT", management)
        .env("PASSWORD", PASSWORD)
        .env("PICKET", env!("CARGO_BIN_EXE_picket"))
        .env("PICKET_NODE__LISTEN", "127.0.0.1:0")
        .env("PICKET_NODE__OPS_LISTEN", "127.0.0.1:0")
        .env("PICKET_NODE__DRAIN", "{graceMs: 0, spreadMs: 0}")
        .env("PICKET_COORDINATOR__LISTEN", "127.0.0.1:0")
        .output()
        .await
        .unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
    assert!(run.status.success(), "{}\n{}\n{commands}\n{log}", said(&run.stdout), said(&run.stderr));
    said(&run.stdout)
}

fn page(name: &str) -> Document {
    Document::all().into_iter().find(|document| document.path.ends_with(name)).unwrap()
}

fn commands(page: &Document, at_least: usize) -> String {
    let commands = page.blocks("sh").concat();
    let number = commands.lines().filter(|line| line.contains("curl ") || line.contains("picket ")).count();
    assert!(number >= at_least, "{commands}");
    commands.replace("admin:", &format!("{ADMIN}:"))
}

#[tokio::test]
async fn the_commands_of_the_management_page_do_what_they_say() {
    let upstream = Upstream::echo().await;
    let picket = Picket::guarding(&upstream).start().await;
    let folder = tempfile::tempdir().unwrap();
    let commands = commands(&page("docs/management.md"), 6);
    run(folder.path(), &commands, &picket.address("management").to_string()).await;
}

#[tokio::test]
async fn the_commands_to_get_started_start_it() {
    for name in ["README.md", "docs/get-started.md"] {
        let (page, folder) = (page(name), tempfile::tempdir().unwrap());
        let all = page.blocks("sh").concat();
        assert!(all.contains("cargo run --release -- standalone") && all.contains("picket check-config"), "{all}");
        let [configuration] = &page.blocks("yaml")[..] else { panic!("{name}: one configuration") };
        std::fs::write(folder.path().join("picket.yaml"), configuration).unwrap();
        // The tests themselves are another story, and a reader's folder is one of this test.
        let lines = all.lines().filter(|line| *line != "tests/run").collect::<Vec<_>>().join("\n");
        // What the reader's attacks come to.
        let lines = lines.replace("curl -u admin:$PASSWORD -H", &format!("{BLOCKED}\ncurl -u admin:$PASSWORD -H"));
        let commands = lines.replace("/var/lib/picket", "data").replace('…', SECRET);
        let said = run(folder.path(), &commands, "").await;
        assert!(said.contains("https://shop.example.com"), "{name}: the effective configuration: {said}");
        let data = std::fs::read_dir(folder.path().join("data")).unwrap().count();
        assert!(data > 0, "{name}: nothing was kept");
    }
}

#[tokio::test]
async fn the_commands_to_tune_a_limit_find_who_met_it() {
    let upstream = Upstream::echo().await;
    let tight = json!({ "shadow": ["messageRate"], "rateLimiting": { "messageLimit": { "maxMessages": 2 } } });
    let picket = Picket::guarding(&upstream).policy(tight).start().await;
    let mut alice = picket.caller("198.51.100.7").comes_in().await;
    for _ in 0..5 {
        alice.is_still_served().await;
    }
    let records = picket.admin().audited("text=message_rate", 3).await;
    assert_eq!(records[0]["metadata"]["setting"], "rateLimiting.messageLimit", "{}", records[0]);

    let folder = tempfile::tempdir().unwrap();
    let commands = commands(&page("docs/tuning.md"), 5);
    let said = run(folder.path(), &commands, &picket.address("management").to_string()).await;

    assert!(said.contains("3 \"ip\":\"198.51.100.7\""), "{said}");
    assert!(said.contains("\"canary\":{"), "a trial is under way: {said}");
}
