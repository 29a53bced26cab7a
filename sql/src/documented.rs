//! The user guide names every function: a test, so that it stays true.

use millstream_api::graph::functions::FUNCTIONS;

#[test]
fn the_user_guide_has_every_function() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/user/sql.md");
    let guide = std::fs::read_to_string(path).unwrap();
    for function in FUNCTIONS {
        let usage = function.usage.replace('|', "\\|");
        assert!(guide.contains(&format!("`{usage}`")), "{} is missing in docs/user/sql.md", function.usage);
    }
}
