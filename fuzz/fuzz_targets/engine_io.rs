#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| picket_node::fuzzing::engine_io(bytes));
