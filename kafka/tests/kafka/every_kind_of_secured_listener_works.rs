use std::path::PathBuf;

use millstream_kafka::{
    Admin, ClientConfig, Deadline, KafkaError, Pem, Sasl, SaslMechanism, Security, Tls, Transactions,
};
use serde::Deserialize;

use crate::support::topics::{TestTopic, unique};
use crate::support::{PATIENCE, TestProducer, consumer, read_to, variable};

/// What `cargo xtask services up kafka-secure` says.
#[derive(Deserialize)]
struct Secured {
    plaintext: String,
    ssl: String,
    sasl_plaintext: String,
    sasl_ssl: String,
    ca_file: PathBuf,
    username: String,
    password: String,
}

const MECHANISMS: [SaslMechanism; 3] = [SaslMechanism::Plain, SaslMechanism::ScramSha256, SaslMechanism::ScramSha512];

impl Secured {
    fn find(test: &str) -> Option<Self> {
        let text = variable(test, "MILLSTREAM_TEST_KAFKA_SECURE", "kafka-secure")?;
        Some(serde_json::from_str(&text).expect("the endpoints as JSON"))
    }

    fn tls(&self) -> Tls {
        Tls { authority: Some(Pem::File(self.ca_file.clone())), client: None, verify_hostname: true }
    }

    fn sasl(&self, mechanism: SaslMechanism) -> Sasl {
        Sasl { mechanism, username: self.username.clone(), password: self.password.clone() }
    }

    /// Each way in.
    fn ways(&self) -> Vec<ClientConfig> {
        let way = |address: &str, tls: Option<Tls>, sasl: Option<Sasl>| ClientConfig {
            bootstrap_servers: address.to_owned(),
            client_id: "test".to_owned(),
            security: Security { tls, sasl },
            ..ClientConfig::default()
        };
        let mut ways = vec![way(&self.ssl, Some(self.tls()), None)];
        for mechanism in MECHANISMS {
            ways.push(way(&self.sasl_plaintext, None, Some(self.sasl(mechanism))));
            ways.push(way(&self.sasl_ssl, Some(self.tls()), Some(self.sasl(mechanism))));
        }
        ways
    }
}

#[test]
fn records_and_transactions_go_through_each() {
    let Some(secured) = Secured::find("kafka::records_and_transactions_go_through_each") else { return };
    let topic = TestTopic::new(&secured.plaintext, "secured", 1, &[]);
    for (round, config) in (0..).zip(secured.ways()) {
        let id = format!("secured-{}", unique());
        // The producer asks for its identity over the wire layer.
        let mut producer = TestProducer::transactional(&config, &topic.name, &id);
        producer.send(0, &[(None, Some("x"))]).unwrap();
        let identity = producer.prepare().unwrap();
        let mut transactions = Transactions::new(config.clone()).unwrap();
        let described = transactions.describe(&[id], Deadline::after(PATIENCE)).unwrap();
        assert_eq!(described[0].identity, identity, "{:?}", config.security);
        producer.commit().unwrap();
        let (mut reader, woken) = consumer(&config, &topic.name, 1, true);
        // Each round leaves a record and a marker.
        let records = read_to(&mut reader, &woken, &[2 * round + 1]).unwrap();
        assert_eq!(records.len(), usize::try_from(round).unwrap() + 1);
    }
}

#[test]
fn a_wrong_password_is_named_by_both_layers() {
    let Some(secured) = Secured::find("kafka::a_wrong_password_is_named_by_both_layers") else { return };
    let topic = TestTopic::new(&secured.plaintext, "refused", 1, &[]);
    for mechanism in MECHANISMS {
        let sasl = Sasl { password: "wrong".to_owned(), ..secured.sasl(mechanism) };
        let config = ClientConfig {
            bootstrap_servers: secured.sasl_plaintext.clone(),
            security: Security { tls: None, sasl: Some(sasl) },
            ..ClientConfig::default()
        };
        let mut admin = Admin::new(config.clone()).unwrap();
        let error = admin.topics(std::slice::from_ref(&topic.name), Deadline::after(PATIENCE)).unwrap_err();
        assert!(matches!(error, KafkaError::Authentication { .. }), "{mechanism:?}: {error}");
        let (mut reader, woken) = consumer(&config, &topic.name, 1, true);
        let error = read_to(&mut reader, &woken, &[1]).unwrap_err();
        assert!(matches!(error, KafkaError::Authentication { .. }), "{mechanism:?}: {error}");
    }
}

#[test]
fn a_certificate_of_an_unknown_authority_is_refused() {
    let Some(secured) = Secured::find("kafka::a_certificate_of_an_unknown_authority") else { return };
    let tls = Tls { authority: None, client: None, verify_hostname: true };
    let config = ClientConfig {
        bootstrap_servers: secured.ssl,
        security: Security { tls: Some(tls), sasl: None },
        ..ClientConfig::default()
    };
    let mut admin = match Admin::new(config) {
        Ok(admin) => admin,
        // A machine without any trusted certificate.
        Err(e) => return assert!(matches!(e, KafkaError::Setting { .. }), "{e}"),
    };
    let error = admin.topics(&["t".to_owned()], Deadline::after(PATIENCE)).unwrap_err();
    assert!(matches!(error, KafkaError::Authentication { .. }), "{error}");
}
