//! Client properties that need or exclude each other, found before anything connects.
//!
//! Owns: the rules between properties. Does not own: the properties one by one (`api::graph::kafka_properties`), or what
//! their placeholders stand for: only whether a property is there counts, where its value is one.

use std::collections::BTreeMap;

use millstream_api::graph::DeliveryGuarantee;

type Properties = BTreeMap<String, String>;

/// More requests than this under way could change the order of records when one is sent again.
const IN_FLIGHT_MAX: i64 = 5;

/// Security: the property to look at, and what is wrong.
pub(super) fn check(properties: &Properties) -> Option<(&'static str, String)> {
    let has = |key: &str| properties.contains_key(key);
    if has("ssl.key.password") {
        let message = "'properties.ssl.key.password' is not supported: store the client's key unencrypted";
        return Some(("ssl.key.password", message.to_owned()));
    }
    let (chain, key) = ("ssl.keystore.certificate.chain", "ssl.keystore.key");
    if has(chain) != has(key) && !has("ssl.keystore.location") {
        let (given, other) = if has(chain) { (chain, key) } else { (key, chain) };
        return Some((given, format!("'properties.{given}' needs 'properties.{other}'")));
    }
    let protocol = properties.get("security.protocol").map_or("", |p| p.trim());
    let sasl = protocol.to_ascii_uppercase().starts_with("SASL_");
    if sasl && let Some(missing) = ["sasl.mechanism", "sasl.jaas.config"].into_iter().find(|key| !has(key)) {
        let message = format!("'properties.security.protocol' = '{protocol}' needs 'properties.{missing}'");
        return Some(("security.protocol", message));
    }
    None
}

/// What the producer of this guarantee cannot be told: it is idempotent, unless the table says otherwise.
pub(super) fn idempotence(properties: &Properties, guarantee: DeliveryGuarantee) -> Option<(&'static str, String)> {
    let value = |key: &str| properties.get(key).map(|v| v.trim().to_ascii_lowercase()).filter(|v| !v.contains("${"));
    let off = value("enable.idempotence").as_deref() == Some("false");
    let few_acks = value("acks").is_some_and(|acks| acks != "all" && acks != "-1");
    let transactional = guarantee == DeliveryGuarantee::ExactlyOnce;
    if transactional && off {
        let message = "'exactly-once' needs 'properties.enable.idempotence' to be true";
        return Some(("enable.idempotence", message.to_owned()));
    }
    let asked = value("enable.idempotence").as_deref() == Some("true");
    if few_acks && (transactional || asked) {
        return Some(("acks", "'properties.acks' must be 'all' for an idempotent or exactly-once producer".to_owned()));
    }
    let idempotent = transactional || asked || !(off || few_acks);
    let in_flight: i64 = value("max.in.flight.requests.per.connection")?.parse().ok()?;
    (idempotent && in_flight > IN_FLIGHT_MAX).then(|| {
        let key = "max.in.flight.requests.per.connection";
        (key, format!("'properties.{key}' is {in_flight}: an idempotent producer takes at most {IN_FLIGHT_MAX}"))
    })
}
