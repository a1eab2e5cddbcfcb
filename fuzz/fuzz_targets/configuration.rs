#![no_main]

// The package with the configuration is an executable: its reader of YAML depends on nothing else there.
#[path = "../../src/config/yaml.rs"]
mod yaml;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| yaml::law(bytes));
