//! The OpenAPI 3.1 text of what is served, made of the routes and of the messages' own schemas.

use millstream_api::proto::operations::v1;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};

use super::Route;
use super::operations::Problem;

/// What the text says of a route beside its path.
struct Described {
    summary: &'static str,
    request: Option<Value>,
    /// Content type and schema.
    answer: (&'static str, Value),
    /// Whether it can be refused with a `Problem`.
    refusable: bool,
}

/// The whole text.
pub fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|s| s.definitions_path = "/components/schemas".into());
    let mut schemas = settings.into_generator();
    let mut paths = Map::new();
    for route in Route::ALL {
        let method = if route.is_post() { "post" } else { "get" };
        paths.insert(route.path().to_owned(), json!({ method: operation(route, &mut schemas) }));
    }
    let mut components = Value::Object(schemas.take_definitions(true));
    without_defaults(&mut components);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Millstream operations",
            "version": "1",
            "description": "What people, tools and controllers ask of the coordinator of a job, and tell it. Spoken between \
                            all released versions: paths, fields and enum values are only ever added; take a value that you do \
                            not know as UNSPECIFIED and a field that is absent as not known. An unknown field of a request is \
                            refused. 64-bit integers are JSON numbers. The same as gRPC is package \
                            millstream.operations.v1.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" }
        },
        "paths": paths,
        "components": { "schemas": components }
    })
}

fn operation(route: Route, schemas: &mut SchemaGenerator) -> Value {
    let Described { summary, request, answer: (content_type, schema), refusable } = describe(route, schemas);
    let mut responses = json!({ "200": { "description": "Done.", "content": { content_type: { "schema": schema } } } });
    if refusable {
        let problem = schemas.subschema_for::<Problem>();
        responses["default"] = json!({
            "description": "Refused: nothing was done, but with UNAVAILABLE that is not certain. 400 the request is wrong, \
                            404 another job, 409 the id was used for another operation, 413 too long, 415 not JSON, 421 \
                            another coordinator rules, 422 not the fields that it takes, 429 too many at a time, 503 not \
                            now.",
            "content": { "application/json": { "schema": problem } }
        });
    }
    if route == Route::Health {
        responses["503"] = json!({ "description": "The job has failed." });
    }
    let mut operation = json!({ "operationId": format!("{route:?}"), "summary": summary, "responses": responses });
    if let Some(schema) = request {
        operation["requestBody"] = json!({ "required": true, "content": { "application/json": { "schema": schema } } });
    }
    operation
}

fn describe(route: Route, schemas: &mut SchemaGenerator) -> Described {
    let text = || json!({ "type": "string" });
    let plain = |summary, answer| Described { summary, request: None, answer, refusable: false };
    let status = |schemas: &mut SchemaGenerator| schemas.subschema_for::<v1::JobStatus>().to_value();
    match route {
        Route::Metrics => {
            plain("Metrics of this process in OpenMetrics text.", ("application/openmetrics-text", text()))
        }
        Route::Health => plain("Whether the job runs or is on its way to.", ("text/plain", text())),
        Route::OpenApi => plain("This text.", ("application/json", json!({ "type": "object" }))),
        Route::Status => Described {
            summary: "The job as it is now.",
            request: None,
            answer: ("application/json", status(schemas)),
            refusable: true,
        },
        Route::WatchStatus => Described {
            summary: "The job as it is now, then again after every change, a few times per second at most: one JSON object \
                      per line. A client that is slow gets the newest.",
            request: None,
            answer: ("application/x-ndjson", status(schemas)),
            refusable: true,
        },
        Route::Prepare => Described {
            summary: "Compiles and checks a manifest against the newest checkpoint of the running job. Nothing is touched.",
            request: Some(schemas.subschema_for::<v1::PrepareRequest>().to_value()),
            answer: ("application/json", schemas.subschema_for::<v1::PrepareResponse>().to_value()),
            refusable: true,
        },
        Route::Stop => Described {
            summary: "Takes a last checkpoint, commits it and ends the job, which can go on from there; with drain the input \
                      ends and the job finishes. The same operation id again answers what became of it.",
            request: Some(schemas.subschema_for::<v1::StopRequest>().to_value()),
            answer: ("application/json", schemas.subschema_for::<v1::Operation>().to_value()),
            refusable: true,
        },
        Route::Rescale => Described {
            summary: "Changes how many tasks the job has, while it runs. Waits for the slots that it needs; a later request \
                      takes its place. The same operation id again answers what became of it.",
            request: Some(schemas.subschema_for::<v1::RescaleRequest>().to_value()),
            answer: ("application/json", schemas.subschema_for::<v1::Operation>().to_value()),
            refusable: true,
        },
        Route::Savepoint => Described {
            summary: "Takes a checkpoint, waits for its commits and copies it to a place of its own, while the job runs on or, \
                      with stop, as its end. The same operation id again answers what became of it.",
            request: Some(schemas.subschema_for::<v1::SavepointRequest>().to_value()),
            answer: ("application/json", schemas.subschema_for::<v1::Operation>().to_value()),
            refusable: true,
        },
    }
}

/// What a field is when it is absent is the same for all of them, and said once.
fn without_defaults(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            // A property of that name is a schema, an annotation is not.
            if fields.get("type").is_some() || fields.get("$ref").is_some() {
                fields.remove("default");
            }
            fields.values_mut().for_each(without_defaults);
        }
        Value::Array(items) => items.iter_mut().for_each(without_defaults),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Set, the kept text is written anew.
    const WRITE: &str = "MILLSTREAM_WRITE_OPENAPI";

    #[test]
    fn the_text_in_the_documentation_is_the_one_that_is_served() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/user/openapi.json");
        let served = format!("{:#}\n", document());
        if std::env::var_os(WRITE).is_some() {
            std::fs::write(&path, &served).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(kept == served, "docs/user/openapi.json is out of date: run this test with {WRITE}=1");
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_call_of_the_protocol_has_a_route() {
        let document = document();
        let text = document.to_string();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        for reference in text.split("#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(schemas.contains_key(name), "{name}");
        }
        let protocol = include_str!("../../../api/proto/millstream/operations/v1/operations.proto");
        let calls = protocol.lines().filter_map(|line| line.trim().strip_prefix("rpc ")?.split('(').next());
        let calls: Vec<&str> = calls.map(|call| call.strip_prefix("Get").unwrap_or(call)).collect();
        let routes: Vec<String> = Route::ALL.iter().map(|route| format!("{route:?}")).collect();
        assert!(calls.len() >= 4 && calls.iter().all(|call| routes.iter().any(|r| r == call)), "{calls:?}");
        assert!(!text.contains("\"default\":0"), "values of absent fields are said once");
    }
}
