//! A database of countries in MaxMind's format, in a file that a story may replace.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use maxminddb_writer::{Database, metadata::IpVersion};
use serde_json::json;
use tempfile::TempDir;

pub struct Geography {
    directory: TempDir,
}

impl Geography {
    /// Of /24s by their first three numbers.
    pub fn of(countries: &[(&str, &str)]) -> Self {
        let geography = Self { directory: TempDir::new().unwrap() };
        geography.becomes(countries);
        geography
    }

    pub fn file(&self) -> PathBuf {
        self.directory.path().join("countries.mmdb")
    }

    /// In place of the one that was there, at once, as tools that fetch them do.
    pub fn becomes(&self, countries: &[(&str, &str)]) {
        let mut database = Database::default();
        database.metadata.ip_version = IpVersion::V6;
        database.metadata.binary_format_major_version = 2;
        database.metadata.database_type = "a story".into();
        for (network, code) in countries {
            let first: Ipv4Addr = format!("{network}.0").parse().unwrap();
            let country = json!({ "country": { "iso_code": code } });
            let data = database.insert_value(&country).unwrap();
            let bits = u128::from(u32::from(first));
            database.insert_node((0..96 + 24).map(|bit| bits >> (127 - bit) & 1 == 1), data);
        }
        self.holds(&database.write_to(Vec::new()).unwrap());
    }

    /// The first half is left of it.
    pub fn is_cut_off(&self) {
        let whole = std::fs::read(self.file()).unwrap();
        self.holds(&whole[..whole.len() / 2]);
    }

    fn holds(&self, bytes: &[u8]) {
        let next = self.directory.path().join("next");
        std::fs::write(&next, bytes).unwrap();
        std::fs::rename(next, self.file()).unwrap();
    }
}
