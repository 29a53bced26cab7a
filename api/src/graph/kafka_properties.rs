//! Flink's `properties.*` (the Java client's names and values) as the clients take them, by the same names.
//!
//! Owns: the table of names, the conversion of values, the reading of JAAS strings. A property without a counterpart is
//! an error that names it; one that has no meaning here but cannot change what is read or written is dropped.
//! Pure: the planner checks with it, the worker translates with it once placeholders (`${NAME}`) are filled in.
//! Not owned: what the engine sets by itself (assignment, commits, transactions).

use std::collections::BTreeMap;

use thiserror::Error;

/// Which client a property is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KafkaClient {
    Consumer,
    Producer,
}

/// Why a property was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PropertyError {
    #[error("the Kafka client property '{name}' is not supported{}", .nearest.map(|n| format!(", did you mean '{n}'?")).unwrap_or_default())]
    Unknown { name: String, nearest: Option<&'static str> },
    #[error("the Kafka client property '{name}' belongs to the engine: {reason}")]
    Owned { name: String, reason: &'static str },
    #[error("'{value}' is no value of the Kafka client property '{name}': expected {expected}")]
    BadValue { name: String, value: String, expected: &'static str },
}

/// How a value is carried over.
#[derive(Clone, Copy)]
enum Carry {
    /// As it is, under this name.
    As(&'static str),
    /// A whole number, under this name, at least and at most.
    Number(&'static str, i64, i64),
    /// One of these values (Java's, the client's), under this name; compared without case.
    OneOf(&'static str, &'static [(&'static str, &'static str)], &'static str),
    /// A login module with its options.
    Jaas,
    /// Only this value is possible.
    Only(&'static str),
    /// No meaning here, no effect on what is read or written.
    Drop,
    /// The engine decides.
    Owned(&'static str),
}

use Carry::{As, Drop, Jaas, Number, OneOf, Only, Owned};

const MS_MAX: i64 = 86_400_000;
const BYTES_MAX: i64 = 1_000_000_000;
const INT_MAX: i64 = i32::MAX as i64;

const FLAG: &[(&str, &str)] = &[("true", "true"), ("false", "false")];

/// Properties of both clients.
const COMMON: &[(&str, Carry)] = &[
    ("bootstrap.servers", As("bootstrap.servers")),
    ("client.id", As("client.id")),
    (
        "security.protocol",
        OneOf(
            "security.protocol",
            &[
                ("PLAINTEXT", "plaintext"),
                ("SSL", "ssl"),
                ("SASL_PLAINTEXT", "sasl_plaintext"),
                ("SASL_SSL", "sasl_ssl"),
            ],
            "PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL",
        ),
    ),
    (
        "sasl.mechanism",
        OneOf(
            "sasl.mechanism",
            &[("PLAIN", "PLAIN"), ("SCRAM-SHA-256", "SCRAM-SHA-256"), ("SCRAM-SHA-512", "SCRAM-SHA-512")],
            "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512",
        ),
    ),
    ("sasl.jaas.config", Jaas),
    (
        "ssl.endpoint.identification.algorithm",
        OneOf("ssl.endpoint.identification.algorithm", &[("https", "https"), ("", "none")], "https or nothing"),
    ),
    ("ssl.truststore.type", Only("PEM")),
    ("ssl.truststore.location", As("ssl.ca.location")),
    ("ssl.truststore.certificates", As("ssl.ca.pem")),
    ("ssl.keystore.type", Only("PEM")),
    ("ssl.keystore.location", As("ssl.keystore.pem.location")),
    ("ssl.keystore.certificate.chain", As("ssl.certificate.pem")),
    ("ssl.keystore.key", As("ssl.key.pem")),
    ("ssl.key.password", As("ssl.key.password")),
    ("ssl.enabled.protocols", Drop),
    ("ssl.protocol", Drop),
    ("ssl.cipher.suites", Owned("TLS 1.2 and 1.3 are spoken with the safe suites only")),
    ("socket.connection.setup.timeout.max.ms", Drop),
    ("partition.discovery.interval.ms", Owned("use 'scan.topic-partition-discovery.interval'")),
    ("key.deserializer", Owned("formats decode: use 'format'")),
    ("value.deserializer", Owned("formats decode: use 'format'")),
    ("key.serializer", Owned("formats encode: use 'format'")),
    ("value.serializer", Owned("formats encode: use 'format'")),
    ("interceptor.classes", Owned("Java classes cannot be loaded")),
    ("metric.reporters", Owned("Java classes cannot be loaded")),
    ("metrics.sample.window.ms", Drop),
    ("metrics.num.samples", Drop),
    ("auto.include.jmx.reporter", Drop),
    ("enable.metrics.push", Drop),
];

const CONSUMER: &[(&str, Carry)] = &[
    ("group.id", As("group.id")),
    ("group.instance.id", Drop),
    (
        "auto.offset.reset",
        OneOf(
            "auto.offset.reset",
            &[("earliest", "earliest"), ("latest", "latest"), ("none", "error")],
            "earliest, latest or none",
        ),
    ),
    (
        "isolation.level",
        OneOf(
            "isolation.level",
            &[("read_committed", "read_committed"), ("read_uncommitted", "read_uncommitted")],
            "read_committed or read_uncommitted",
        ),
    ),
    ("fetch.min.bytes", Number("fetch.min.bytes", 0, INT_MAX)),
    ("fetch.max.bytes", Number("fetch.max.bytes", 1, INT_MAX)),
    ("fetch.max.wait.ms", Number("fetch.max.wait.ms", 0, INT_MAX)),
    ("max.partition.fetch.bytes", Number("max.partition.fetch.bytes", 1, INT_MAX)),
    ("check.crcs", OneOf("check.crcs", FLAG, "true or false")),
    ("client.rack", As("client.rack")),
    ("request.timeout.ms", Number("request.timeout.ms", 10, INT_MAX)),
    ("metadata.max.age.ms", Number("metadata.max.age.ms", 1000, INT_MAX)),
    ("reconnect.backoff.ms", Number("reconnect.backoff.ms", 1, 3_600_000)),
    ("reconnect.backoff.max.ms", Number("reconnect.backoff.max.ms", 1, 3_600_000)),
    ("retry.backoff.ms", Number("retry.backoff.ms", 1, 3_600_000)),
    ("retry.backoff.max.ms", Number("retry.backoff.max.ms", 1, 3_600_000)),
    ("send.buffer.bytes", Number("send.buffer.bytes", -1, 100_000_000)),
    ("receive.buffer.bytes", Number("receive.buffer.bytes", -1, 100_000_000)),
    ("socket.connection.setup.timeout.ms", Number("socket.connection.setup.timeout.ms", 1, INT_MAX)),
    ("allow.auto.create.topics", Drop),
    ("max.poll.records", Drop),
    ("max.poll.interval.ms", Drop),
    ("session.timeout.ms", Drop),
    ("heartbeat.interval.ms", Drop),
    ("default.api.timeout.ms", Drop),
    ("partition.assignment.strategy", Drop),
    ("group.protocol", Drop),
    ("enable.auto.commit", Owned("offsets are committed with the checkpoints")),
    ("auto.commit.interval.ms", Owned("offsets are committed with the checkpoints")),
    ("commit.offsets.on.checkpoint", Only("true")),
    ("flink.partition-discovery.interval-millis", Owned("use 'scan.topic-partition-discovery.interval'")),
];

const PRODUCER: &[(&str, Carry)] = &[
    ("client.rack", As("client.rack")),
    ("request.timeout.ms", Number("socket.timeout.ms", 10, 300_000)),
    ("metadata.max.age.ms", Number("topic.metadata.refresh.interval.ms", 1, 3_600_000)),
    ("connections.max.idle.ms", Number("connections.max.idle.ms", 0, INT_MAX)),
    ("reconnect.backoff.ms", Number("reconnect.backoff.ms", 0, 3_600_000)),
    ("reconnect.backoff.max.ms", Number("reconnect.backoff.max.ms", 0, 3_600_000)),
    ("retry.backoff.ms", Number("retry.backoff.ms", 1, 300_000)),
    ("retry.backoff.max.ms", Number("retry.backoff.max.ms", 1, 300_000)),
    ("send.buffer.bytes", Number("socket.send.buffer.bytes", 0, 100_000_000)),
    ("receive.buffer.bytes", Number("socket.receive.buffer.bytes", 0, 100_000_000)),
    ("socket.connection.setup.timeout.ms", Number("socket.connection.setup.timeout.ms", 1000, INT_MAX)),
    (
        "client.dns.lookup",
        OneOf(
            "client.dns.lookup",
            &[
                ("use_all_dns_ips", "use_all_dns_ips"),
                ("resolve_canonical_bootstrap_servers_only", "resolve_canonical_bootstrap_servers_only"),
            ],
            "use_all_dns_ips or resolve_canonical_bootstrap_servers_only",
        ),
    ),
    ("transaction.timeout.ms", Number("transaction.timeout.ms", 1000, INT_MAX)),
    ("linger.ms", Number("linger.ms", 0, 900_000)),
    ("batch.size", Number("batch.size", 1, INT_MAX)),
    ("buffer.memory", Number("buffer.memory", 0, INT_MAX)),
    (
        "compression.type",
        OneOf(
            "compression.type",
            &[("none", "none"), ("gzip", "gzip"), ("snappy", "snappy"), ("lz4", "lz4"), ("zstd", "zstd")],
            "none, gzip, snappy, lz4 or zstd",
        ),
    ),
    ("compression.gzip.level", Number("compression.level", 1, 9)),
    // How hard it tries; there is one way here.
    ("compression.lz4.level", Drop),
    ("compression.zstd.level", Number("compression.level", 1, 22)),
    ("acks", OneOf("acks", &[("all", "all"), ("-1", "all"), ("0", "0"), ("1", "1")], "all, -1, 0 or 1")),
    ("retries", Number("retries", 0, INT_MAX)),
    ("delivery.timeout.ms", Number("delivery.timeout.ms", 0, INT_MAX)),
    ("max.request.size", Number("max.request.size", 1000, BYTES_MAX)),
    ("max.in.flight.requests.per.connection", Number("max.in.flight.requests.per.connection", 1, 1_000_000)),
    ("enable.idempotence", OneOf("enable.idempotence", FLAG, "true or false")),
    ("max.block.ms", Number("transaction.init.timeout.ms", 0, MS_MAX)),
    ("transactional.id", Owned("use 'sink.transactional-id-prefix'")),
    ("partitioner.class", Owned("use 'sink.partitioner'")),
    ("partitioner.ignore.keys", Owned("use 'sink.partitioner'")),
    ("partitioner.adaptive.partitioning.enable", Drop),
    ("partitioner.availability.timeout.ms", Drop),
    ("metadata.max.idle.ms", Drop),
];

fn table(client: KafkaClient) -> &'static [(&'static str, Carry)] {
    match client {
        KafkaClient::Consumer => CONSUMER,
        KafkaClient::Producer => PRODUCER,
    }
}

fn find(client: KafkaClient, name: &str) -> Option<Carry> {
    // A table's properties serve reader and writer alike: what is the other client's is known, and dropped here.
    let other = match client {
        KafkaClient::Consumer => PRODUCER,
        KafkaClient::Producer => CONSUMER,
    };
    let within = |rows: &[(&str, Carry)]| rows.iter().find(|(n, _)| *n == name).map(|(_, carry)| *carry);
    within(COMMON).or_else(|| within(table(client))).or_else(|| {
        within(other).map(|carry| match carry {
            Owned(reason) => Owned(reason),
            _ => Drop,
        })
    })
}

/// Checks one property, as a table's WITH clause has it; a value with a placeholder is checked when it is filled in.
///
/// # Errors
/// The property has no counterpart, belongs to the engine, or its value is none.
pub fn check(client: KafkaClient, name: &str, value: &str) -> Result<(), PropertyError> {
    let mut out = BTreeMap::new();
    translate_one(client, name, value, &mut out)
}

/// Translates all properties of a table, placeholders filled in, for one client.
///
/// Java's defaults hold: `isolation.level` is read_uncommitted, `ssl.endpoint.identification.algorithm` is https.
///
/// # Errors
/// As [`check`], for the first property that is refused.
pub fn translate(
    client: KafkaClient,
    properties: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, PropertyError> {
    let mut out = BTreeMap::new();
    if client == KafkaClient::Consumer {
        out.insert("isolation.level".to_owned(), "read_uncommitted".to_owned());
    }
    for (name, value) in properties {
        translate_one(client, name, value, &mut out)?;
    }
    // A PEM key store is one file with key and chain; the clients name the two apart.
    if let Some(location) = out.remove("ssl.keystore.pem.location") {
        out.insert("ssl.certificate.location".to_owned(), location.clone());
        out.insert("ssl.key.location".to_owned(), location);
    }
    Ok(out)
}

fn translate_one(
    client: KafkaClient,
    name: &str,
    value: &str,
    out: &mut BTreeMap<String, String>,
) -> Result<(), PropertyError> {
    let Some(carry) = find(client, name) else {
        return Err(PropertyError::Unknown { name: name.to_owned(), nearest: nearest(name) });
    };
    let open = value.contains("${");
    let bad = |expected| PropertyError::BadValue { name: name.to_owned(), value: value.to_owned(), expected };
    let mut put = |name: &str, value: &str| {
        out.insert(name.to_owned(), value.to_owned());
    };
    match carry {
        As(to) => put(to, value),
        Number(to, ..) | OneOf(to, ..) if open => put(to, value),
        Number(to, least, most) => {
            let number: i64 = value.trim().parse().map_err(|_| bad("a whole number"))?;
            // Java takes any size here; this range is narrower, and its bound means the same.
            put(to, &number.clamp(least, most).to_string());
        }
        OneOf(to, values, expected) => {
            let found = values.iter().find(|(java, _)| java.eq_ignore_ascii_case(value.trim()));
            put(to, found.ok_or_else(|| bad(expected))?.1);
        }
        Jaas => {
            let login = parse_jaas(value).map_err(|expected| PropertyError::BadValue {
                name: name.to_owned(),
                // The value holds a password.
                value: "...".to_owned(),
                expected,
            })?;
            put("sasl.username", &login.username);
            put("sasl.password", &login.password);
        }
        Only(only) if open || value.trim().eq_ignore_ascii_case(only) => {}
        Only("PEM") => return Err(bad("PEM (convert the store: keytool and openssl do it)")),
        Only(_) => return Err(bad("true")),
        Drop => {}
        Owned(reason) => return Err(PropertyError::Owned { name: name.to_owned(), reason }),
    }
    Ok(())
}

fn nearest(name: &str) -> Option<&'static str> {
    COMMON
        .iter()
        .chain(CONSUMER)
        .chain(PRODUCER)
        .map(|(known, _)| (strsim::jaro_winkler(name, known), *known))
        .filter(|(score, _)| *score > 0.85)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known)
}

/// User and password of a JAAS login.
#[derive(Clone, PartialEq, Eq)]
struct Login {
    username: String,
    password: String,
}

/// `<module class> required username="u" password="p";` for the PLAIN and SCRAM modules, shaded class names included.
fn parse_jaas(text: &str) -> Result<Login, &'static str> {
    const EXPECTED: &str = "a login such as org.apache.kafka.common.security.plain.PlainLoginModule required username=\"..\" password=\"..\";";
    let text = text.trim();
    let (class, rest) = text.split_once(char::is_whitespace).ok_or(EXPECTED)?;
    if !["plain.PlainLoginModule", "scram.ScramLoginModule"].iter().any(|module| class.ends_with(module)) {
        return Err("PlainLoginModule or ScramLoginModule");
    }
    let rest = rest.trim_start();
    let options = rest
        .strip_prefix("required")
        .or_else(|| rest.strip_prefix("requisite"))
        .or_else(|| rest.strip_prefix("sufficient"))
        .or_else(|| rest.strip_prefix("optional"))
        .ok_or(EXPECTED)?;
    let (mut username, mut password) = (None, None);
    let mut chars = options.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        match chars.peek() {
            None => return Err("a login that ends with ;"),
            Some(';') => break,
            Some(_) => {}
        }
        let mut key = String::new();
        while let Some(c) = chars.next_if(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '-')) {
            key.push(c);
        }
        if key.is_empty() || chars.next_if_eq(&'=').is_none() {
            return Err(EXPECTED);
        }
        let value = jaas_value(&mut chars).ok_or(EXPECTED)?;
        match key.as_str() {
            "username" => username = Some(value),
            "password" => password = Some(value),
            "serviceName" => {}
            _ => return Err("a login with username and password only"),
        }
    }
    Ok(Login { username: username.ok_or("a login with username")?, password: password.ok_or("a login with password")? })
}

/// A value in double or single quotes (backslash escapes one character), or a bare word.
fn jaas_value(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<String> {
    let mut value = String::new();
    let Some(quote) = chars.next_if(|c| matches!(c, '"' | '\'')) else {
        while let Some(c) = chars.next_if(|c| !c.is_whitespace() && *c != ';') {
            value.push(c);
        }
        return (!value.is_empty()).then_some(value);
    };
    loop {
        match chars.next()? {
            '\\' => value.push(chars.next()?),
            c if c == quote => return Some(value),
            c => value.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn a_secured_consumer_translates() {
        let java = properties(&[
            ("bootstrap.servers", "b:9093"),
            ("security.protocol", "SASL_SSL"),
            ("sasl.mechanism", "SCRAM-SHA-512"),
            (
                "sasl.jaas.config",
                "org.apache.kafka.common.security.scram.ScramLoginModule required username=\"u\" password=\"p\\\"q;\";",
            ),
            ("ssl.truststore.type", "PEM"),
            ("ssl.truststore.location", "/ca.pem"),
            ("ssl.keystore.location", "/me.pem"),
            ("ssl.endpoint.identification.algorithm", ""),
            ("fetch.max.wait.ms", "100"),
            ("receive.buffer.bytes", "-1"),
            ("linger.ms", "5"),
        ]);
        let out = translate(KafkaClient::Consumer, &java).unwrap();
        let expected = properties(&[
            ("bootstrap.servers", "b:9093"),
            ("fetch.max.wait.ms", "100"),
            ("isolation.level", "read_uncommitted"),
            ("receive.buffer.bytes", "-1"),
            ("sasl.mechanism", "SCRAM-SHA-512"),
            ("sasl.password", "p\"q;"),
            ("sasl.username", "u"),
            ("security.protocol", "sasl_ssl"),
            ("ssl.ca.location", "/ca.pem"),
            ("ssl.certificate.location", "/me.pem"),
            ("ssl.endpoint.identification.algorithm", "none"),
            ("ssl.key.location", "/me.pem"),
        ]);
        assert_eq!(out, expected);
    }

    #[test]
    fn a_producer_translates_and_ignores_what_only_consumers_have() {
        let java = properties(&[
            ("buffer.memory", "33554432"),
            ("acks", "-1"),
            ("transaction.timeout.ms", "600000"),
            ("max.request.size", "2097152"),
            ("group.id", "g"),
            ("retries", "2147483647"),
        ]);
        let out = translate(KafkaClient::Producer, &java).unwrap();
        let expected = properties(&[
            ("acks", "all"),
            ("buffer.memory", "33554432"),
            ("max.request.size", "2097152"),
            ("retries", "2147483647"),
            ("transaction.timeout.ms", "600000"),
        ]);
        assert_eq!(out, expected);
    }

    #[test]
    fn what_has_no_counterpart_is_named() {
        let error = check(KafkaClient::Consumer, "bootstrap.server", "x").unwrap_err();
        assert_eq!(
            error.to_string(),
            "the Kafka client property 'bootstrap.server' is not supported, did you mean 'bootstrap.servers'?"
        );
        let error = check(KafkaClient::Consumer, "ssl.truststore.type", "JKS").unwrap_err();
        assert!(
            error.to_string().starts_with("'JKS' is no value of the Kafka client property 'ssl.truststore.type'"),
            "{error}"
        );
        assert!(
            check(KafkaClient::Producer, "transactional.id", "x")
                .unwrap_err()
                .to_string()
                .contains("sink.transactional-id-prefix")
        );
        assert!(check(KafkaClient::Consumer, "sasl.mechanism", "GSSAPI").is_err());
        assert!(check(KafkaClient::Consumer, "fetch.min.bytes", "${MIN}").is_ok());
    }

    #[test]
    fn a_bad_login_never_shows_the_password() {
        for text in [
            "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"u\" password=\"secret\"",
            "com.example.OAuthModule required password=\"secret\";",
            "org.apache.kafka.common.security.plain.PlainLoginModule required password=\"secret\";",
        ] {
            let error = check(KafkaClient::Consumer, "sasl.jaas.config", text).unwrap_err();
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
