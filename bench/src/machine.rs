//! Facts of the machine, printed beside every figure.

use serde_json::{Value, json};

pub fn facts() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let field = |name: &str| {
        cpuinfo
            .lines()
            .find_map(|l| l.strip_prefix(name))
            .map(|rest| rest.trim_start_matches([' ', '\t', ':']).to_owned())
    };
    let memory_kb: u64 = read("/proc/meminfo")
        .lines()
        .find_map(|l| l.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or(0);
    json!({
        "processor": field("model name"),
        "processors": cpuinfo.lines().filter(|l| l.starts_with("processor")).count(),
        "memory_gib": memory_kb / 1_048_576,
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "load_1_min": read("/proc/loadavg").split(' ').next(),
    })
}
