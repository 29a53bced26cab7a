//! Manifests that are refused, each with its message and place; and the defaults of the smallest one.

use super::*;
use crate::flinkjob::Duration;

const SMALLEST: &str = "apiVersion: millstream.dev/v1alpha1
kind: FlinkJob
metadata:
  name: clicks
spec:
  sql: SELECT 1
";

fn refused(text: &str) -> String {
    let errors = parse(text).expect_err("must be refused");
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_smallest_manifest_gets_the_defaults() {
    let job = parse(SMALLEST).unwrap();
    assert_eq!(job.metadata.namespace, "default");
    assert_eq!((job.spec.parallelism, job.spec.max_parallelism, job.spec.slots_per_worker), (1, 720, 1));
    assert_eq!(job.spec.checkpoint.interval, Duration::from_millis(10_000));
}

#[test]
fn a_manifest_survives_a_round_trip() {
    let job = parse(SMALLEST).unwrap();
    assert_eq!(parse(&serde_yaml::to_string(&job).unwrap()).unwrap(), job);
}

#[test]
fn an_unknown_field_is_named_with_place_and_the_nearest_known_one() {
    let text = SMALLEST.replace("  sql:", "  paralelism: 2\n  sql:");
    let message = refused(&text);
    assert!(message.starts_with("6:3: "), "{message}");
    assert!(
        message.contains("unknown field `paralelism`") && message.contains("did you mean `parallelism`?"),
        "{message}"
    );
}

#[test]
fn a_nested_unknown_field_is_named_with_place() {
    let message = refused(&format!("{SMALLEST}  checkpoint:\n    intervall: 1 s\n"));
    assert!(message.starts_with("8:5: ") && message.contains("did you mean `interval`?"), "{message}");
}

#[test]
fn wrong_types_and_values_have_a_place() {
    for (lines, place, part) in [
        ("  parallelism: many\n", "7:16", "invalid type"),
        ("  parallelism: 0\n", "7:3", "1 to spec.maxParallelism"),
        ("  parallelism: 4\n  maxParallelism: 2\n", "7:3", "which is 2"),
        ("  parallelism: 2\n  minParallelism: 3\n", "8:3", "1 to spec.parallelism, which is 2"),
        ("  minParallelism: 0\n", "7:3", "1 to spec.parallelism"),
        ("  slotTimeout: soon\n", "7:16: spec.slotTimeout: ", "`soon` is not a duration"),
        ("  slotTimeout: 10\n", "7:16: spec.slotTimeout: ", "`10` has no unit"),
        ("  checkpoint:\n    interval: 10\n", "8:15: spec.checkpoint.interval: ", "`10` has no unit: write `10 ms`"),
        ("  checkpoint:\n    interval: 1 ms\n", "8:5", "at least 10 ms"),
        ("  checkpoint:\n    storage: gs://x\n", "8:5", "not supported"),
        ("  restart:\n    jitterFactor: 3\n", "8:5", "0 to 1"),
        ("  sqlFile: a.sql\n", "7:3", "both set"),
    ] {
        let message = refused(&format!("{SMALLEST}{lines}"));
        assert!(message.starts_with(place) && message.contains(part), "{lines:?}: {message}");
    }
}

#[test]
fn unknown_metadata_is_refused_and_what_kubernetes_adds_is_not() {
    let with = |field: &str| SMALLEST.replace("  name: clicks\n", &format!("  name: clicks\n{field}"));
    let message = refused(&with("  namepsace: prod\n"));
    assert_eq!(message, "5:3: metadata: unknown field `namepsace`; did you mean `namespace`?");
    let message = refused(&SMALLEST.replace("metadata:\n  name: clicks\n", "metadata: {name: x, team: me}\n"));
    assert_eq!(message, "3:1: metadata: unknown field `team`, expected name, namespace, labels or annotations");
    let added = with("  resourceVersion: '7'\n  uid: a\n  generation: 2\n  managedFields: [{manager: kubectl}]\n");
    assert_eq!(parse(&added).map(|job| job.metadata.name).as_deref(), Ok("clicks"));
}

#[test]
fn option_values_are_scalars_of_any_kind() {
    let options = "  options:\n    a: true\n    b: 4\n    c: -1\n    d: 1.5\n    e: 10 s\n    f: '07'\n";
    let job = parse(&format!("{SMALLEST}{options}")).unwrap();
    let values: Vec<&str> = job.spec.options.values().map(String::as_str).collect();
    assert_eq!(values, ["true", "4", "-1", "1.5", "10 s", "07"]);
    let message = refused(&format!("{SMALLEST}  options:\n    a: [1]\n"));
    assert!(message.starts_with("8:8: ") && message.contains("expected text, a number, true or false"), "{message}");
}

#[test]
fn other_resources_and_broken_text_are_told_apart() {
    assert!(refused("kind: FlinkJob\n").contains("apiVersion is missing"));
    assert!(refused(&SMALLEST.replace("FlinkJob", "Deployment")).starts_with("2:1: kind `Deployment`"));
    assert!(refused(&SMALLEST.replace("v1alpha1", "v9")).starts_with("1:1: apiVersion"));
    assert!(refused("just text").contains("a manifest is a mapping"));
    assert!(!refused("a: [1, 2\nb: }").is_empty());
    assert!(refused(&SMALLEST.replace("clicks", "Clicks!")).contains("not a DNS label"));
    assert!(refused("").contains("a manifest is a mapping"));
}

#[test]
fn a_missing_script_is_named() {
    assert!(refused(&SMALLEST.replace("  sql: SELECT 1\n", "  parallelism: 2\n")).contains("spec.sql is missing"));
}
