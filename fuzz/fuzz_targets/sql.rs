//! Any text is either compiled or refused with a position; it never panics.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millstream_sql::CompileOptions;

fuzz_target!(|text: &str| {
    if let Err(errors) = millstream_sql::compile(text, &CompileOptions::default()) {
        assert!(!errors.is_empty());
        assert!(errors.iter().all(|e| e.line >= 1 && e.column >= 1));
    }
});
