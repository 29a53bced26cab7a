//! Apache Kafka brokers from Maven Central, in KRaft mode: one, three that know rights, or one with TLS and SASL.
//!
//! Owns: formatting, starting, waiting for all brokers. Does not own: the brokers' settings (`properties`), getting
//! the jars (`install`).

mod install;
mod properties;

use super::{certificates, ports};
use crate::endpoints::{Endpoints, KafkaEndpoint, SecureKafkaEndpoint};
use crate::subprocess;
use anyhow::{Context, Result, bail};
pub(super) use install::install;
use properties::{Broker, Secure};
use std::path::Path;
use std::process::{Child, Command};

/// A heap with which one broker serves millions of records; the machine's page cache holds the log.
const HEAP: &str = "512m";

const BROKERS_OF_THREE: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    One,
    Three,
    Secure,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::One => "kafka",
            Kind::Three => "kafka3",
            Kind::Secure => "kafka-secure",
        }
    }
}

/// Reads `key=value`.
pub(super) fn parse_property(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.trim().to_owned())),
        _ => Err("expected key=value".to_owned()),
    }
}

pub(super) fn start(kind: Kind, folder: &Path, extra: &[(String, String)]) -> Result<Endpoints> {
    subprocess::require("kcat", "kcat")?;
    let tool = install()?;
    let brokers = plan(kind, folder)?;
    for broker in &brokers {
        std::fs::create_dir_all(&broker.folder)?;
        let text = properties::render(broker, &brokers, extra);
        std::fs::write(broker.properties_file(), text)
            .with_context(|| format!("failed to write {}", broker.properties_file().display()))?;
    }
    format(&brokers, folder, &tool)?;
    let mut children = brokers.iter().map(|broker| spawn(broker, folder, &tool)).collect::<Result<Vec<_>>>()?;
    for (broker, child) in brokers.iter().zip(&mut children) {
        let ready = || brokers_known(&broker.plaintext()) == brokers.len();
        super::wait_until_ready(&format!("broker {}", broker.id), child, &folder.join(broker.log()), ready)?;
    }
    endpoints(kind, &brokers, folder)
}

fn plan(kind: Kind, folder: &Path) -> Result<Vec<Broker>> {
    let broker = |id: usize, ports: [u16; 2], secure: Option<Secure>| Broker {
        id,
        folder: folder.join(id.to_string()),
        plaintext_port: ports[0],
        controller_port: ports[1],
        secure,
    };
    Ok(match kind {
        Kind::One => vec![broker(1, ports::free()?, None)],
        Kind::Three => {
            let [a, b, c, d, e, f] = ports::free()?;
            vec![broker(1, [a, b], None), broker(2, [c, d], None), broker(3, [e, f], None)]
        }
        Kind::Secure => {
            let [a, b, ssl_port, sasl_plaintext_port, sasl_ssl_port] = ports::free()?;
            let certificate = certificates::make(folder)?;
            let secure = Secure { certificate, ssl_port, sasl_plaintext_port, sasl_ssl_port };
            vec![broker(1, [a, b], Some(secure))]
        }
    })
}

fn endpoints(kind: Kind, brokers: &[Broker], folder: &Path) -> Result<Endpoints> {
    let bootstrap = brokers.iter().map(Broker::plaintext).collect::<Vec<_>>().join(",");
    let endpoint = Some(KafkaEndpoint { bootstrap });
    let secure = brokers[0].secure.as_ref().map(|secure| SecureKafkaEndpoint {
        plaintext: brokers[0].plaintext(),
        ssl: properties::address(secure.ssl_port),
        sasl_plaintext: properties::address(secure.sasl_plaintext_port),
        sasl_ssl: properties::address(secure.sasl_ssl_port),
        ca_file: secure.certificate.authority.clone(),
        username: properties::USERNAME.to_owned(),
        password: properties::PASSWORD.to_owned(),
    });
    Ok(match kind {
        Kind::One => Endpoints { kafka: endpoint, ..Endpoints::default() },
        Kind::Three => Endpoints { kafka3: endpoint, kafka3_control: Some(control(folder)?), ..Endpoints::default() },
        Kind::Secure => Endpoints { kafka_secure: secure, ..Endpoints::default() },
    })
}

/// How a test kills a broker and starts it again: this program, on the run folder that `folder` lies in.
fn control(folder: &Path) -> Result<Vec<String>> {
    let run = folder.parent().context("a service lies in a run folder")?;
    let program = std::env::current_exe().context("failed to find this program")?;
    let path = |path: &Path| path.to_string_lossy().into_owned();
    Ok(vec![path(&program), "services".to_owned(), "--run".to_owned(), path(run), "broker".to_owned()])
}

/// Gives each broker its empty, named log folder. Each is a Java process of its own, so all run at once.
fn format(brokers: &[Broker], folder: &Path, tool: &Path) -> Result<()> {
    let mut running = Vec::new();
    for broker in brokers {
        let mut command = java(tool);
        command.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx128m", "kafka.tools.StorageTool", "format"]);
        command.args(["--cluster-id", properties::CLUSTER_ID, "--config"]).arg(broker.properties_file());
        command.args(properties::format_arguments(broker, brokers));
        let log = format!("{}-format.log", broker.id);
        running.push((subprocess::start_service(&mut command, folder, &log)?, folder.join(log)));
    }
    for (mut child, log) in running {
        let status = child.wait()?;
        if !status.success() {
            bail!("formatting a broker's folder failed ({status}):\n{}", subprocess::log_tail(&log));
        }
    }
    Ok(())
}

fn spawn(broker: &Broker, folder: &Path, tool: &Path) -> Result<Child> {
    subprocess::start_service(&mut server(&broker.properties_file(), tool), folder, &broker.log())
}

fn server(properties_file: &Path, tool: &Path) -> Command {
    let mut command = java(tool);
    // One heap from the start and short pauses: the same behaviour in each test.
    command.args([&format!("-Xms{HEAP}"), &format!("-Xmx{HEAP}"), "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20"]);
    command.arg("kafka.Kafka").arg(properties_file);
    command
}

/// Kills the broker `id` of the cluster in `folder`; it gets no chance to hand over what it leads.
pub(super) fn kill_broker(folder: &Path, id: u8) -> Result<()> {
    let file = folder.join(id.to_string()).join("server.properties");
    let is_it = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|&byte| byte == 0).any(|argument| argument == file.as_os_str().as_encoded_bytes())
    };
    let pid = subprocess::service_processes(folder)?.into_iter().find(is_it);
    let pid = pid.with_context(|| format!("broker {id} of {} does not run", folder.display()))?;
    subprocess::signal(pid, libc::SIGKILL);
    while subprocess::service_processes(folder)?.contains(&pid) {
        subprocess::pause(super::POLL_INTERVAL);
    }
    Ok(())
}

/// Starts the broker `id` of the cluster in `folder` again, with the data it has.
pub(super) fn start_broker(folder: &Path, id: u8) -> Result<()> {
    let broker_folder = folder.join(id.to_string());
    let file = broker_folder.join("server.properties");
    let settings = std::fs::read_to_string(&file).with_context(|| format!("failed to read {}", file.display()))?;
    let listeners = settings.lines().find_map(|line| line.strip_prefix("listeners=PLAINTEXT://"));
    let address = listeners.and_then(|listeners| listeners.split(',').next());
    let address = address.with_context(|| format!("no plain listener in {}", file.display()))?;
    let log = format!("{id}-again.log");
    let mut child = subprocess::start_service(&mut server(&file, &install()?), folder, &log)?;
    let ready = || brokers_known(address) == BROKERS_OF_THREE;
    super::wait_until_ready(&format!("broker {id}"), &mut child, &folder.join(log), ready)
}

fn java(tool: &Path) -> Command {
    let mut command = Command::new("java");
    command.arg(format!("-Dlog4j2.configurationFile={}", tool.join("log4j2.properties").display()));
    command.arg("-cp").arg(tool.join("jars").join("*"));
    command
}

/// How many brokers the one at `address` knows of; 0 while it does not answer.
fn brokers_known(address: &str) -> usize {
    let list = subprocess::run(Command::new("kcat").args(["-b", address, "-L", "-m", "1"]));
    list.map_or(0, |text| text.lines().filter(|line| line.starts_with("  broker ")).count())
}
