//! Where an address is registered: its country and its network's number, from database files in MaxMind's format, which are read
//! again when they change. Asked where the policy names countries, and for what goes on the record.

use arc_swap::ArcSwap;
use maxminddb::{MaxMindDbError, PathElement, Reader};
use picket_shared::policy::Country;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::renewal::{Purpose, Renewal, Watched};

/// the largest database that is read into memory
const FILE_BYTES_MAX: u64 = 512 << 20;

/// where countries come from
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct GeoConfig {
    /// a database of countries in MaxMind's format (mmdb)
    #[schemars(with = "String")]
    pub file: PathBuf,
    /// one of autonomous systems, if they are not in the first
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub asn_file: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub enum GeoError {
    #[error("cannot read {0}: {1}")]
    Unreadable(PathBuf, std::io::Error),
    #[error("{0} is larger than 512 MiB")]
    TooLarge(PathBuf),
    #[error("{0} is not a database in MaxMind's format: {1}")]
    Unsound(PathBuf, MaxMindDbError),
}

/// what is known of an address
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub country: Option<Country>,
    /// the number of its autonomous system
    pub asn: Option<u32>,
}

/// the databases in use
#[derive(Clone, Debug)]
pub struct Geo(Arc<ArcSwap<Databases>>);

#[derive(Debug)]
struct Databases {
    countries: Reader<Vec<u8>>,
    systems: Option<Reader<Vec<u8>>>,
}

impl GeoConfig {
    pub fn check(&self) -> Result<(), GeoError> {
        Databases::read(self).map(drop)
    }
}

impl Geo {
    pub fn new(config: &GeoConfig) -> Result<(Self, Renewal), GeoError> {
        let files = [&config.file].into_iter().chain(&config.asn_file).map(PathBuf::as_path);
        let watched = Watched::of(Purpose::GeoDatabase, files);
        let geo = Geo(Arc::new(ArcSwap::from_pointee(Databases::read(config)?)));
        let (renewed, config) = (geo.clone(), config.clone());
        let renewal = watched.renewed_by(move || {
            let databases = Databases::read(&config).map_err(|error| error.to_string())?;
            renewed.0.store(Arc::new(databases));
            Ok(())
        });
        Ok((geo, renewal))
    }

    pub fn country(&self, address: IpAddr) -> Option<Country> {
        country(&self.0.load().countries, address)
    }

    pub fn place(&self, address: IpAddr) -> Place {
        let databases = self.0.load();
        let systems = databases.systems.as_ref().unwrap_or(&databases.countries);
        Place { country: country(&databases.countries, address), asn: asn(systems, address) }
    }
}

impl Databases {
    fn read(config: &GeoConfig) -> Result<Self, GeoError> {
        let systems = config.asn_file.as_deref().map(read).transpose()?;
        Ok(Databases { countries: read(&config.file)?, systems })
    }
}

fn read(path: &Path) -> Result<Reader<Vec<u8>>, GeoError> {
    let unreadable = |error| GeoError::Unreadable(path.to_owned(), error);
    if std::fs::metadata(path).map_err(unreadable)?.len() > FILE_BYTES_MAX {
        return Err(GeoError::TooLarge(path.to_owned()));
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    Reader::from_source(bytes).map_err(|error| GeoError::Unsound(path.to_owned(), error))
}

/// as GeoIP2 writes it, and as flat databases do
fn country(database: &Reader<Vec<u8>>, address: IpAddr) -> Option<Country> {
    let found = database.lookup(address).ok().filter(|found| found.has_data())?;
    let nested = [PathElement::Key("country"), PathElement::Key("iso_code")];
    let flat = [PathElement::Key("country_code")];
    let at = |path: &[PathElement<'_>]| found.decode_path::<&str>(path).ok().flatten().and_then(Country::parse);
    at(&nested).or_else(|| at(&flat))
}

fn asn(database: &Reader<Vec<u8>>, address: IpAddr) -> Option<u32> {
    let found = database.lookup(address).ok().filter(|found| found.has_data())?;
    found.decode_path(&[PathElement::Key("autonomous_system_number")]).ok().flatten()
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use maxminddb_writer::{Database, metadata::IpVersion};
    use picket_shared::clock::thread_time;
    use serde_json::json;
    use std::collections::BTreeMap;

    /// a database with what is known of these prefixes
    pub fn database(entries: &[(&str, impl Serialize)]) -> Vec<u8> {
        let mut database = Database::default();
        database.metadata.ip_version = IpVersion::V6;
        database.metadata.binary_format_major_version = 2;
        database.metadata.database_type = "test".into();
        for (network, value) in entries {
            let network: ipnet::IpNet = network.parse().unwrap();
            let (bits, length) = match network {
                ipnet::IpNet::V4(v4) => (u128::from(u32::from(v4.network())), 96 + v4.prefix_len()),
                ipnet::IpNet::V6(v6) => (u128::from(v6.network()), v6.prefix_len()),
            };
            let data = database.insert_value(value).unwrap();
            database.insert_node((0..length).map(|bit| bits >> (127 - bit) & 1 == 1), data);
        }
        database.write_to(Vec::new()).unwrap()
    }

    fn files() -> (tempfile::TempDir, GeoConfig) {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let nested = json!({ "country": { "iso_code": "DE", "names": { "en": "Germany" } } });
        let countries = [("192.0.2.0/24", nested), ("2001:db8::/32", json!({ "country_code": "FR" }))];
        let systems = [("192.0.2.0/24", BTreeMap::from([("autonomous_system_number", 64_500_u32)]))];
        let config = GeoConfig {
            file: write("countries.mmdb", &database(&countries)),
            asn_file: Some(write("systems.mmdb", &database(&systems))),
        };
        (folder, config)
    }

    #[test]
    fn country_and_network_are_found_and_what_is_not_there_is_unknown() {
        let (_folder, config) = files();
        let (geo, _) = Geo::new(&config).unwrap();
        let place = |text: &str| {
            let place = geo.place(text.parse().unwrap());
            (place.country.map(|country| country.to_string()), place.asn)
        };
        assert_eq!(place("192.0.2.7"), (Some("DE".into()), Some(64_500)));
        assert_eq!(place("2001:db8::7"), (Some("FR".into()), None));
        assert_eq!(place("198.51.100.1"), (None, None));
        let address = "192.0.2.7".parse().unwrap();
        let start = thread_time();
        (0..10_000).for_each(|_| assert!(geo.country(address).is_some()));
        println!("a look-up in a small database: {:?}", (thread_time() - start) / 10_000);
    }

    #[test]
    fn what_is_no_database_is_refused_and_damage_is_no_panic() {
        let (folder, config) = files();
        let bytes = std::fs::read(&config.file).unwrap();
        let damaged = GeoConfig { file: folder.path().join("damaged.mmdb"), asn_file: None };
        for length in (0..bytes.len()).step_by(7) {
            std::fs::write(&damaged.file, &bytes[..length]).unwrap();
            assert!(damaged.check().is_err(), "{length}");
        }
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 0xff;
            std::fs::write(&damaged.file, &changed).unwrap();
            if let Ok((geo, _)) = Geo::new(&damaged) {
                geo.place("192.0.2.7".parse().unwrap());
                geo.place("2001:db8::7".parse().unwrap());
            }
        }
        std::fs::remove_file(&damaged.file).unwrap();
        assert!(damaged.check().unwrap_err().to_string().contains("damaged.mmdb"));
    }
}
