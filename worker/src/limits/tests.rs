//! Trees of files as the kernel and container runtimes show them.

use std::path::Path;

use tempfile::TempDir;

use super::*;

const MACHINE: &str = "MemTotal:       16777216 kB\nMemFree:         1234567 kB\n";
const GIB: u64 = 1 << 30;

/// The limits of a process that sees these files, on a machine of 8 processors and 16 GiB.
fn limits(files: &[(&str, &str)]) -> Limits {
    let root = TempDir::new().unwrap();
    for (path, text) in [("proc/meminfo", MACHINE)].iter().chain(files) {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    Limits::read(root.path(), 8)
}

const V2: &str = "24 1 0:22 / /proc rw - proc proc rw\n31 24 0:27 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

#[test]
fn without_groups_the_machine_counts() {
    let expected = Limits { cpus: 8.0, cpus_of: Source::Machine, memory_bytes: 16 * GIB, memory_of: Source::Machine };
    assert_eq!(limits(&[]), expected);
    let no_limit = [
        ("proc/self/cgroup", "0::/\n"),
        ("proc/self/mountinfo", V2),
        ("sys/fs/cgroup/memory.max", "max\n"),
        ("sys/fs/cgroup/cpu.max", "max 100000\n"),
    ];
    assert_eq!(limits(&no_limit), expected);
}

#[test]
fn a_container_of_v2_sees_its_own_group_as_the_top() {
    let found = limits(&[
        ("proc/self/cgroup", "0::/\n"),
        ("proc/self/mountinfo", V2),
        ("sys/fs/cgroup/memory.max", "4294967296\n"),
        ("sys/fs/cgroup/cpu.max", "150000 100000\n"),
    ]);
    let of = Source::Group(Version::V2);
    assert_eq!(found, Limits { cpus: 1.5, cpus_of: of, memory_bytes: 4 * GIB, memory_of: of });
}

#[test]
fn the_smallest_limit_on_the_way_to_the_top_counts() {
    let found = limits(&[
        ("proc/self/cgroup", "0::/user.slice/user-1000.slice/job.scope\n"),
        ("proc/self/mountinfo", V2),
        ("sys/fs/cgroup/user.slice/memory.max", "8589934592\n"),
        ("sys/fs/cgroup/user.slice/cpu.max", "max 100000\n"),
        ("sys/fs/cgroup/user.slice/user-1000.slice/memory.max", "2147483648\n"),
        ("sys/fs/cgroup/user.slice/user-1000.slice/cpu.max", "300000 100000\n"),
        ("sys/fs/cgroup/user.slice/user-1000.slice/job.scope/memory.max", "max\n"),
        ("sys/fs/cgroup/user.slice/user-1000.slice/job.scope/cpu.max", "400000 100000\n"),
        // Another's.
        ("sys/fs/cgroup/system.slice/memory.max", "1048576\n"),
    ]);
    assert_eq!((found.memory_bytes, found.cpus), (2 * GIB, 3.0));
}

#[test]
fn hierarchies_of_v1_are_found_by_their_controllers() {
    let mounts = "\
        30 25 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755\n\
        33 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:11 - cgroup cgroup rw,cpu,cpuacct\n\
        34 30 0:30 / /sys/fs/cgroup/memory rw shared:12 - cgroup cgroup rw,memory\n\
        35 30 0:31 / /sys/fs/cgroup/pids rw shared:13 - cgroup cgroup rw,pids\n";
    let found = limits(&[
        ("proc/self/cgroup", "5:memory:/jobs/orders\n4:cpu,cpuacct:/jobs\n3:pids:/\n0::/jobs\n"),
        ("proc/self/mountinfo", mounts),
        ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ("sys/fs/cgroup/memory/jobs/memory.limit_in_bytes", "3221225472\n"),
        ("sys/fs/cgroup/memory/jobs/orders/memory.limit_in_bytes", "6442450944\n"),
        ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n"),
        ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
        ("sys/fs/cgroup/cpu,cpuacct/jobs/cpu.cfs_quota_us", "50000\n"),
        ("sys/fs/cgroup/cpu,cpuacct/jobs/cpu.cfs_period_us", "100000\n"),
    ]);
    let of = Source::Group(Version::V1);
    assert_eq!(found, Limits { cpus: 0.5, cpus_of: of, memory_bytes: 3 * GIB, memory_of: of });
}

#[test]
fn a_container_of_v1_sees_its_group_under_the_name_that_the_host_has_for_it() {
    let group = "/kubepods/burstable/pod7/abc";
    let mount = format!("34 30 0:30 {group} /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n");
    let groups = format!("5:memory:{group}\n");
    let found = limits(&[
        ("proc/self/cgroup", &groups),
        ("proc/self/mountinfo", &mount),
        ("sys/fs/cgroup/memory/memory.limit_in_bytes", "1073741824\n"),
    ]);
    assert_eq!(found.memory_bytes, GIB);
    // The mount was made in another namespace of groups than the one that names the process's.
    let elsewhere = "34 30 0:30 /../.. /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
    for group in ["5:memory:/\n", "5:memory:/../../other\n"] {
        let found = limits(&[
            ("proc/self/cgroup", group),
            ("proc/self/mountinfo", elsewhere),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "1073741824\n"),
        ]);
        assert_eq!(found.memory_bytes, GIB, "{group}");
    }
}

#[test]
fn both_versions_at_once_are_read_beside_each_other() {
    let mounts = "\
        34 30 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
        36 30 0:32 / /sys/fs/cgroup/with\\040blank rw - cgroup2 cgroup2 rw\n";
    let found = limits(&[
        ("proc/self/cgroup", "5:memory:/a\n0::/b\n"),
        ("proc/self/mountinfo", mounts),
        ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "1073741824\n"),
        ("sys/fs/cgroup/with blank/b/cpu.max", "200000 100000\n"),
    ]);
    assert_eq!((found.memory_of, found.cpus_of), (Source::Group(Version::V1), Source::Group(Version::V2)));
    assert_eq!((found.memory_bytes, found.cpus), (GIB, 2.0));
}

#[test]
fn damaged_files_are_no_limits() {
    let found = limits(&[
        ("proc/self/cgroup", "0::/\nnonsense\n:\n"),
        ("proc/self/mountinfo", &format!("nonsense\n1 2 - cgroup2\n - cgroup\n{V2}")),
        ("sys/fs/cgroup/memory.max", "much\n"),
        ("sys/fs/cgroup/cpu.max", "0 0\n"),
    ]);
    assert_eq!((found.memory_bytes, found.cpus), (16 * GIB, 8.0));
}

#[test]
fn budgets_are_shares_and_read_well() {
    let of = Source::Group(Version::V2);
    let limits = Limits { cpus: 2.0, cpus_of: of, memory_bytes: 24 * GIB, memory_of: of };
    assert_eq!(limits.to_string(), "2.0 CPUs (cgroup v2), 24.0 GiB memory (cgroup v2)");
    assert_eq!(
        limits.budgets(&StateBackend::Memory).to_string(),
        "state up to 12.0 GiB, undo up to 3.0 GiB, fetched ahead up to 3.0 GiB, threads for network and store: 2"
    );
    let threads = |cpus| Limits { cpus, ..limits }.budgets(&StateBackend::Memory).io_threads;
    assert_eq!([0.1, 1.0, 1.5, 64.0].map(threads), [1, 1, 2, 4]);
}

#[test]
fn state_on_a_disk_is_bounded_by_the_disk() {
    let directory = TempDir::new().unwrap();
    let limits = Limits { cpus: 1.0, cpus_of: Source::Machine, memory_bytes: 2, memory_of: Source::Machine };
    let dir = directory.path().join("not/made/yet");
    let budgets = limits.budgets(&StateBackend::Disk { dir });
    assert!(budgets.state_bytes_max > 1 << 20, "{budgets}");
    assert_eq!(budgets.undo_bytes_max, 0, "pre-images are still a matter of memory");
}

#[test]
fn sizes_are_rounded_to_a_decimal() {
    let shown = [0, 1023, 1024, 1536, (1 << 20) - 1, GIB, u64::MAX].map(|n| Bytes(n).to_string());
    assert_eq!(shown, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1.0 MiB", "1.0 GiB", "16384.0 PiB"]);
}

#[test]
fn this_process_has_limits() {
    let limits = Limits::of_this_process();
    assert!(limits.memory_bytes > 0 && limits.cpus > 0.0);
    assert!(Path::new("/proc/meminfo").exists());
}
