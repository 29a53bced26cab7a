//! Any text is either a manifest, which then survives a round trip, or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millstream_api::flinkjob;

fuzz_target!(|text: &str| {
    match flinkjob::parse(text) {
        Ok(job) => {
            let again = serde_json_round_trip(&job);
            assert_eq!(job, again);
        }
        Err(errors) => assert!(!errors.is_empty()),
    }
});

fn serde_json_round_trip(job: &flinkjob::FlinkJob) -> flinkjob::FlinkJob {
    serde_json::from_str(&serde_json::to_string(job).expect("a manifest is plain data")).expect("and reads back")
}
