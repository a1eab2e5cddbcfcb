//! What a process says, as it says it.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;

/// An output, line by line.
#[derive(Clone, Default)]
pub struct Log {
    lines: Arc<Mutex<Vec<String>>>,
    is_left: Arc<AtomicBool>,
}

impl Log {
    pub fn follows(&self, output: impl Read + Send + 'static) {
        let Log { lines, is_left } = self.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n') {
                let Ok(line) = line else { return };
                if is_left.load(Ordering::Relaxed) {
                    return;
                }
                lines.lock().unwrap().push(String::from_utf8_lossy(&line).into_owned());
            }
        });
    }

    /// The next line is the last that anybody reads.
    pub fn is_left_after_one_more_line(&self) {
        self.is_left.store(true, Ordering::Relaxed);
    }

    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    pub fn text(&self) -> String {
        self.lines().join("\n")
    }

    pub fn listeners(&self) -> HashMap<String, SocketAddr> {
        let opened = |line: String| {
            let line: Value = serde_json::from_str(&line).ok()?;
            let fields = line.get("fields").unwrap_or(&line);
            let address = fields["address"].as_str()?.parse().ok()?;
            (fields["message"] == "listening").then(|| Some((fields["listener"].as_str()?.to_owned(), address)))?
        };
        self.lines().into_iter().filter_map(opened).collect()
    }
}
