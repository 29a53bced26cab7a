//! What the jobs of this test binary print, by the identifier of the print table.

use std::io::Write;
use std::sync::{Mutex, Once, PoisonError};

use millstream_worker::sink::print::output::{Stream, redirect};

static PRINTED: Mutex<Vec<u8>> = Mutex::new(Vec::new());
static REDIRECT: Once = Once::new();

struct Capture;

impl Write for Capture {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        PRINTED.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Everything printed from now on is kept.
pub fn capture() {
    REDIRECT.call_once(|| redirect(Stream::Output, Some(Box::new(Capture))));
}

/// The rows (`+I[...]`) printed under `identifier` so far, in order.
pub fn rows(identifier: &str) -> Vec<String> {
    let printed = PRINTED.lock().unwrap_or_else(PoisonError::into_inner);
    let text = String::from_utf8_lossy(&printed);
    let of_table = |line: &&str| line.split([':', '>']).next() == Some(identifier);
    text.lines().filter(of_table).filter_map(|line| Some(line.split_once("> ")?.1.to_owned())).collect()
}
