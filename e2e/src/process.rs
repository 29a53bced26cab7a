//! The binary as a process that can be stopped, paused and killed.

use std::fs::File;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::wait_for;

static RUNS: AtomicU32 = AtomicU32::new(0);

/// A folder for one scenario, with the manifest in it.
pub struct Job {
    pub folder: tempfile::TempDir,
    pub manifest: PathBuf,
}

impl Job {
    pub fn new(manifest: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("job.yaml");
        std::fs::write(&path, manifest).unwrap();
        Self { folder, manifest: path }
    }

    pub fn rewrite(&self, manifest: &str) {
        std::fs::write(&self.manifest, manifest).unwrap();
    }

    /// A run of this job, not started yet.
    pub fn run(&self) -> Run {
        self.run_with_log("text")
    }

    /// Likewise, with this form of the log.
    pub fn run_with_log(&self, format: &str) -> Run {
        let mut run = self.command("run", format);
        run.command.arg(&self.manifest);
        run
    }

    /// The job's master, taking workers on this address.
    pub fn coordinator(&self, listen: &str) -> Run {
        let mut run = self.command("coordinator", "text");
        run.command.arg(&self.manifest).args(["--listen", listen]);
        run
    }

    /// A worker of whatever job these coordinators have.
    pub fn worker(&self, coordinators: &str, slots: u32) -> Run {
        let slots = slots.to_string();
        self.command("worker", "text").arg("--coordinator").arg(coordinators).arg("--slots").arg(&slots)
    }

    fn command(&self, role: &str, format: &str) -> Run {
        let mut command = binary();
        command.arg(role).args(["--log-format", format]);
        command.env("MILLSTREAM_STATE_DIR", self.folder.path().join("state"));
        command.env("MILLSTREAM_FAULT_HITS", self.hits_file());
        Run { command, folder: self.folder.path().to_owned() }
    }

    fn hits_file(&self) -> PathBuf {
        self.folder.path().join("fault-hits")
    }

    /// Fault points that were really reached, in order.
    pub fn fault_hits(&self) -> Vec<String> {
        std::fs::read_to_string(self.hits_file()).unwrap_or_default().lines().map(str::to_owned).collect()
    }
}

/// Where the binary is, if not where it is built together with the tests.
const BINARY: &str = "MILLSTREAM_TEST_BINARY";

/// The binary under test, without the environment's own settings.
pub fn binary() -> Command {
    let mut command = Command::new(binary_path());
    for name in ["MILLSTREAM_LOG", "MILLSTREAM_FAULT", "MILLSTREAM_FAULT_HITS"] {
        command.env_remove(name);
    }
    // To find out why a test fails.
    if let Some(level) = std::env::var_os("MILLSTREAM_TEST_LOG") {
        command.env("MILLSTREAM_LOG", level);
    }
    command.stdin(Stdio::null());
    command
}

/// Cargo puts tests into the folder `deps` beside the binaries of the workspace, and builds those first when all of its
/// tests are built.
fn binary_path() -> PathBuf {
    if let Some(path) = std::env::var_os(BINARY) {
        return path.into();
    }
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(Path::parent).expect("a test lies in `deps`").join("millstream");
    assert!(
        path.is_file(),
        "{} is not there: build the whole workspace, or name the binary by {BINARY}",
        path.display()
    );
    path
}

/// A command and where its output goes.
pub struct Run {
    command: Command,
    folder: PathBuf,
}

impl Run {
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    pub fn arg(mut self, argument: &str) -> Self {
        self.command.arg(argument);
        self
    }

    pub fn start(mut self) -> Process {
        // Two processes of one job may run at the same time: each has files of its own.
        let run = RUNS.fetch_add(1, Ordering::Relaxed);
        let (out, err) = (self.folder.join(format!("stdout-{run}")), self.folder.join(format!("stderr-{run}")));
        self.command.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
        Process { child: self.command.spawn().unwrap(), out, err, started: Instant::now() }
    }

    /// Runs to the end.
    pub fn finish(self, limit: Duration) -> Finished {
        self.start().wait(limit)
    }
}

/// A running job. Killed when dropped.
pub struct Process {
    child: Child,
    out: PathBuf,
    err: PathBuf,
    pub started: Instant,
}

/// A process that ended.
#[derive(Debug)]
pub struct Finished {
    pub status: ExitStatus,
    /// What a print sink wrote.
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| -self.status.signal().unwrap_or(0))
    }
}

impl Process {
    pub fn signal(&self, signal: i32) {
        // SAFETY: sends a signal to a child that this value owns and has not reaped.
        assert_eq!(unsafe { libc::kill(i32::try_from(self.child.id()).unwrap(), signal) }, 0);
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Where a process with `--listen` is asked, as its log says.
    pub fn address(&self, limit: Duration) -> String {
        wait_for("an address in the log", limit, || {
            let log = self.stderr();
            let (address, _) = log.split("--coordinator ").nth(1)?.split_once(char::is_whitespace)?;
            Some(address.to_owned())
        })
    }

    /// Ends a job by a savepoint that gets a folder in this one. Where it is.
    pub fn end_with_savepoint(self, folder: &str, limit: Duration) -> String {
        let mut asked = binary();
        asked.args(["savepoint", "--stop", "--operation-id", "last", "--path", folder]);
        let answer = asked.args(["--coordinator", &self.address(limit)]).output().unwrap();
        assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
        assert_eq!(self.wait(limit).code(), 0);
        format!("{folder}/savepoint-last")
    }

    /// SIGTERM, then the end.
    pub fn stop(self, limit: Duration) -> Finished {
        self.signal(libc::SIGTERM);
        self.wait(limit)
    }

    /// Whether SIGSTOP has taken effect.
    pub fn is_paused(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|fields| fields.trim_start().starts_with('T'))
    }

    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    pub fn wait(mut self, limit: Duration) -> Finished {
        let end = Instant::now() + limit;
        let status = loop {
            if let Some(status) = self.ended() {
                break status;
            }
            if Instant::now() > end {
                let text = self.stderr();
                panic!("the process still runs after {limit:?}; its log:\n{text}");
            }
            std::thread::park_timeout(Duration::from_millis(5));
        };
        Finished { status, stdout: read(&self.out), stderr: read(&self.err) }
    }

    pub fn stderr(&self) -> String {
        read(&self.err)
    }

    /// The file of its log.
    pub fn log(&self) -> &Path {
        &self.err
    }

    pub fn wait_for_log(&self, text: &str, limit: Duration) {
        wait_for(&format!("`{text}` in the log"), limit, || self.stderr().contains(text).then_some(()));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|s| s.is_none()) {
            // Already failing when this runs: nothing more to report.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn read(path: &Path) -> String {
    let mut bytes = Vec::new();
    File::open(path).and_then(|mut f| f.read_to_end(&mut bytes)).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}
