//! Every file of the fuzzer's corpus is a manifest or is refused; none panics or takes long.

use std::path::Path;

use super::parse;

#[test]
fn the_fuzzers_corpus_is_survived() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/manifest");
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = String::from_utf8_lossy(&std::fs::read(entry.unwrap().path()).unwrap()).into_owned();
        match parse(&text) {
            Ok(job) => assert_eq!(parse(&serde_yaml::to_string(&job).unwrap()), Ok(job)),
            Err(errors) => assert!(!errors.is_empty()),
        }
        files += 1;
    }
    assert!(files >= 8);
}
