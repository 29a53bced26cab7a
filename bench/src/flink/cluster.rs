//! One JobManager and one TaskManager, as plain Java processes.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};

use super::{Installation, PORT, get};
use crate::measure;

const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A running cluster. Stopped when dropped.
#[derive(Debug)]
pub struct Cluster {
    folder: tempfile::TempDir,
    processes: Vec<Child>,
}

impl Cluster {
    /// `further`: lines of its configuration.
    pub fn start(installation: &Installation, slots: u32, further: &str) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        write_configuration(folder.path(), slots, further)?;
        let mut cluster = Self { folder, processes: Vec::new() };
        cluster.start_process(
            installation,
            "GET_JM_RESOURCE_PARAMS",
            &["org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint", "--executionMode", "cluster"],
        )?;
        cluster.start_process(
            installation,
            "GET_TM_RESOURCE_PARAMS",
            &["org.apache.flink.runtime.taskexecutor.TaskManagerRunner"],
        )?;
        cluster.wait_until_ready()?;
        Ok(cluster)
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Of both processes so far.
    pub fn processor_time(&self) -> Duration {
        self.processes.iter().filter_map(|p| measure::processor_time(p.id())).sum()
    }

    pub fn resident_bytes(&self) -> u64 {
        self.processes.iter().filter_map(|p| measure::resident_bytes(p.id())).sum()
    }

    /// Flink's own rule turns the configured process sizes into JVM flags (first line) and dynamic options (second line).
    fn start_process(
        &mut self,
        installation: &Installation,
        parameters: &str,
        class_and_arguments: &[&str],
    ) -> anyhow::Result<()> {
        let (flags, options) = memory_parameters(installation, self.folder.path(), parameters)?;
        let [class, arguments @ ..] = class_and_arguments else { bail!("no class to start") };
        let log = self.folder.path().join(format!("{parameters}.log"));
        let mut command = Command::new("java");
        command
            .args(flags.split_whitespace())
            .args(module_options())
            .arg(format!("-Dlog4j.configurationFile={}", self.folder.path().join("log4j.properties").display()))
            .arg("-cp")
            .arg(format!("{}/lib/*", installation.home.display()))
            .arg(class)
            .arg("--configDir")
            .arg(self.folder.path())
            .args(arguments)
            .args(options.split_whitespace())
            .stdin(Stdio::null())
            .stdout(File::create(&log)?)
            .stderr(File::create(log.with_extension("err"))?)
            .process_group(0);
        self.processes.push(command.spawn()?);
        Ok(())
    }

    fn wait_until_ready(&self) -> anyhow::Result<()> {
        let end = Instant::now() + START_TIMEOUT;
        loop {
            if get("/overview").is_ok_and(|o| o["taskmanagers"] == 1) {
                return Ok(());
            }
            ensure!(
                Instant::now() < end,
                "Flink is not ready after {START_TIMEOUT:?}; logs in {}",
                self.folder.path().display()
            );
            std::thread::park_timeout(Duration::from_millis(100));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for process in &mut self.processes {
            // A process that is already gone is as good as stopped.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn write_configuration(folder: &Path, slots: u32, further: &str) -> anyhow::Result<()> {
    let (place, port) = (folder.display(), PORT);
    let configuration = format!(
        "jobmanager.rpc.address: 127.0.0.1
jobmanager.rpc.port: 16123
jobmanager.bind-host: 127.0.0.1
jobmanager.memory.process.size: 1024m
taskmanager.host: 127.0.0.1
taskmanager.bind-host: 127.0.0.1
taskmanager.memory.process.size: 3072m
taskmanager.memory.managed.size: 256m
taskmanager.numberOfTaskSlots: {slots}
rest.address: 127.0.0.1
rest.bind-address: 127.0.0.1
rest.port: {port}
io.tmp.dirs: {place}
execution.checkpointing.dir: file://{place}/checkpoints
pipeline.object-reuse: true
{further}"
    );
    fs::write(folder.join("config.yaml"), configuration)?;
    fs::write(
        folder.join("log4j.properties"),
        "rootLogger.level=WARN\nrootLogger.appenderRef.c.ref=C\nappender.c.type=Console\nappender.c.name=C\n\
         appender.c.layout.type=PatternLayout\nappender.c.layout.pattern=%d %p %c{1} %m%n\n",
    )?;
    Ok(())
}

fn memory_parameters(
    installation: &Installation,
    configuration: &Path,
    kind: &str,
) -> anyhow::Result<(String, String)> {
    let home = installation.home.display();
    let output = Command::new("java")
        .arg("-cp")
        .arg(format!("{home}/bin/bash-java-utils.jar:{home}/lib/*"))
        .args(["org.apache.flink.runtime.util.bash.BashJavaUtils", kind, "--configDir"])
        .arg(configuration)
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines().filter_map(|l| l.strip_prefix("BASH_JAVA_UTILS_EXEC_RESULT:"));
    let flags = lines.next().unwrap_or_default().to_owned();
    ensure!(!flags.is_empty(), "Flink gave no memory parameters: {}", String::from_utf8_lossy(&output.stderr));
    Ok((flags, lines.next().unwrap_or_default().to_owned()))
}

/// What Flink's scripts open of the JDK's modules, as far as SQL jobs need it.
pub fn module_options() -> Vec<String> {
    let opened = [
        "java.lang",
        "java.net",
        "java.io",
        "java.nio",
        "sun.nio.ch",
        "java.lang.reflect",
        "java.text",
        "java.time",
        "java.util",
    ];
    let concurrent = ["java.util.concurrent", "java.util.concurrent.atomic", "java.util.concurrent.locks"];
    opened.iter().chain(&concurrent).map(|package| format!("--add-opens=java.base/{package}=ALL-UNNAMED")).collect()
}
