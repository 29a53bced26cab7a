//! The settings of a test broker.
//!
//! Owns: listeners, what makes a small broker start fast, users. Does not own: starting it.

use crate::services::certificates::Certificate;
use std::path::PathBuf;

/// 16 bytes in base64 without padding, as is a directory's id.
pub(super) const CLUSTER_ID: &str = "bWlsbHN0cmVhbS10ZXN0cw";

pub(super) const USERNAME: &str = "millstream";
/// With what a careless translation of a JAAS string or a setting breaks.
pub(super) const PASSWORD: &str = "s3;cr=t#x";

const MECHANISMS: [&str; 3] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];

/// One process, broker and controller.
pub(super) struct Broker {
    pub(super) id: usize,
    pub(super) folder: PathBuf,
    pub(super) plaintext_port: u16,
    pub(super) controller_port: u16,
    pub(super) secure: Option<Secure>,
}

pub(super) struct Secure {
    pub(super) certificate: Certificate,
    pub(super) ssl_port: u16,
    pub(super) sasl_plaintext_port: u16,
    pub(super) sasl_ssl_port: u16,
}

pub(super) fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

impl Broker {
    pub(super) fn properties_file(&self) -> PathBuf {
        self.folder.join("server.properties")
    }

    pub(super) fn plaintext(&self) -> String {
        address(self.plaintext_port)
    }

    /// Relative to the service's folder.
    pub(super) fn log(&self) -> String {
        format!("{}.log", self.id)
    }

    fn controller(&self) -> String {
        address(self.controller_port)
    }

    fn directory_id(&self) -> String {
        // The last of the 22 characters holds two bits only: with others than zeros behind them the id would be read
        // as another one, and the voters would never know each other.
        format!("bWlsbHN0cmVhbS1kaXI{:02}A", self.id)
    }

    fn listeners(&self) -> Vec<(&'static str, u16)> {
        let mut listeners = vec![("PLAINTEXT", self.plaintext_port)];
        if let Some(secure) = &self.secure {
            listeners.push(("SSL", secure.ssl_port));
            listeners.push(("SASL_PLAINTEXT", secure.sasl_plaintext_port));
            listeners.push(("SASL_SSL", secure.sasl_ssl_port));
        }
        listeners
    }
}

/// Arguments of the format command: who votes, and the SCRAM users, which live in the cluster's metadata.
pub(super) fn format_arguments(broker: &Broker, brokers: &[Broker]) -> Vec<String> {
    let mut arguments = if let [_] = brokers {
        vec!["--standalone".to_owned()]
    } else {
        let voter = |b: &Broker| format!("{}@{}:{}", b.id, b.controller(), b.directory_id());
        vec!["--initial-controllers".to_owned(), brokers.iter().map(voter).collect::<Vec<_>>().join(",")]
    };
    if broker.secure.is_some() {
        for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
            let user = format!("{mechanism}=[name={USERNAME},password={PASSWORD}]");
            arguments.extend(["--add-scram".to_owned(), user]);
        }
    }
    arguments
}

/// The text of `server.properties`; what `extra` sets wins.
pub(super) fn render(broker: &Broker, brokers: &[Broker], extra: &[(String, String)]) -> String {
    let mut settings = identity(broker, brokers);
    settings.extend(replication(brokers.len()));
    settings.extend(pace());
    if brokers.len() > 1 {
        settings.extend(rights());
    }
    if let Some(secure) = &broker.secure {
        settings.extend(security(secure));
    }
    settings.extend(extra.iter().cloned());
    // Of a property that stands twice the last counts.
    settings.iter().map(|(key, value)| format!("{key}={}\n", value.replace('\\', "\\\\"))).collect()
}

fn pairs<const N: usize>(settings: [(&str, &str); N]) -> Vec<(String, String)> {
    settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn identity(broker: &Broker, brokers: &[Broker]) -> Vec<(String, String)> {
    let mut listeners: Vec<_> =
        broker.listeners().iter().map(|(name, port)| format!("{name}://{}", address(*port))).collect();
    listeners.push(format!("CONTROLLER://{}", broker.controller()));
    let listeners = listeners.join(",");
    let controllers = brokers.iter().map(Broker::controller).collect::<Vec<_>>().join(",");
    let protocols = "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL";
    pairs([
        ("process.roles", "broker,controller"),
        ("node.id", &broker.id.to_string()),
        ("controller.quorum.bootstrap.servers", &controllers),
        ("controller.listener.names", "CONTROLLER"),
        ("listeners", &listeners),
        ("advertised.listeners", &listeners),
        ("listener.security.protocol.map", protocols),
        ("inter.broker.listener.name", "PLAINTEXT"),
        ("log.dirs", &broker.folder.join("data").display().to_string()),
    ])
}

fn replication(brokers: usize) -> Vec<(String, String)> {
    let copies = &brokers.to_string();
    let in_sync = if brokers >= 3 { "2" } else { "1" };
    pairs([
        ("default.replication.factor", copies),
        ("min.insync.replicas", in_sync),
        ("offsets.topic.replication.factor", copies),
        ("transaction.state.log.replication.factor", copies),
        ("transaction.state.log.min.isr", in_sync),
        ("share.coordinator.state.topic.replication.factor", copies),
        ("share.coordinator.state.topic.min.isr", in_sync),
    ])
}

/// What a small broker needs to react at once: few internal partitions, no waiting for more group members, dead
/// brokers and transactions noticed in seconds.
fn pace() -> Vec<(String, String)> {
    pairs([
        ("num.partitions", "1"),
        // A test that misspells a topic shall see it.
        ("auto.create.topics.enable", "false"),
        ("offsets.topic.num.partitions", "4"),
        ("transaction.state.log.num.partitions", "4"),
        ("share.coordinator.state.topic.num.partitions", "1"),
        ("group.initial.rebalance.delay.ms", "0"),
        ("num.network.threads", "2"),
        ("num.io.threads", "4"),
        ("log.cleaner.dedupe.buffer.size", "16777216"),
        ("log.segment.delete.delay.ms", "1000"),
        ("transaction.max.timeout.ms", "900000"),
        ("transaction.abort.timed.out.transaction.cleanup.interval.ms", "1000"),
        ("broker.heartbeat.interval.ms", "500"),
        ("broker.session.timeout.ms", "3000"),
    ])
}

/// Everybody may do everything until a test says otherwise: it takes rights away and gives them back. The brokers themselves
/// need a name for that: before they know who may do what, they let nobody in but those that may do everything.
fn rights() -> Vec<(String, String)> {
    let login = "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"broker\" \
                 password=\"broker\" user_broker=\"broker\";";
    pairs([
        ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
        ("allow.everyone.if.no.acl.found", "true"),
        ("super.users", "User:broker"),
        ("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,CONTROLLER:SASL_PLAINTEXT"),
        ("sasl.mechanism.controller.protocol", "PLAIN"),
        ("listener.name.controller.sasl.enabled.mechanisms", "PLAIN"),
        ("listener.name.controller.plain.sasl.jaas.config", login),
    ])
}

fn security(secure: &Secure) -> Vec<(String, String)> {
    let mut settings = pairs([
        ("ssl.keystore.type", "PEM"),
        ("ssl.keystore.location", &secure.certificate.keystore.display().to_string()),
        ("ssl.truststore.type", "PEM"),
        ("ssl.truststore.location", &secure.certificate.authority.display().to_string()),
        ("ssl.client.auth", "none"),
        ("sasl.enabled.mechanisms", &MECHANISMS.join(",")),
    ]);
    let plain =
        format!("org.apache.kafka.common.security.plain.PlainLoginModule required user_{USERNAME}=\"{PASSWORD}\";");
    let scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
    for listener in ["sasl_plaintext", "sasl_ssl"] {
        for mechanism in MECHANISMS {
            let key = format!("listener.name.{listener}.{}.sasl.jaas.config", mechanism.to_lowercase());
            settings.push((key, if mechanism == "PLAIN" { plain.clone() } else { scram.to_owned() }));
        }
    }
    settings
}
