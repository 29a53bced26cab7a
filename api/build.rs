//! The messages of `proto/` as Rust types; no `protoc` is needed. Those of the operations API are JSON, too, with a schema:
//! field names in camelCase, enum values without their prefix.

use prost_build::Config;

/// `FieldDescriptorProto.Type` of enums and messages, as `descriptor.proto` numbers them.
const TYPE_MESSAGE: i32 = 11;
const TYPE_ENUM: i32 = 14;
/// `FieldDescriptorProto.Label` of repeated fields.
const LABEL_REPEATED: i32 = 3;

const OPERATIONS: &str = "millstream.operations.v1";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(
        ["millstream/control/v1/control.proto", "millstream/operations/v1/operations.proto"],
        ["proto"],
    )?;
    let mut config = Config::new();
    config.bytes(["."]);
    let derives = "#[derive(::serde::Serialize, ::serde::Deserialize, ::schemars::JsonSchema)]";
    for file in files.file.iter().filter(|file| file.package() == OPERATIONS) {
        for message in &file.message_type {
            let path = format!(".{OPERATIONS}.{}", message.name());
            config.message_attribute(&path, derives);
            // What a client asks for and the server does not know must not be passed over in silence.
            let unknown = if message.name().ends_with("Request") { ", deny_unknown_fields" } else { "" };
            config.message_attribute(&path, format!("#[serde(rename_all = \"camelCase\", default{unknown})]"));
            for field in &message.field {
                let path = format!("{path}.{}", field.name());
                let repeated = field.label == Some(LABEL_REPEATED);
                if field.r#type == Some(TYPE_ENUM) {
                    let name = field.type_name().rsplit('.').next().unwrap_or_default();
                    let text = format!("crate::proto::EnumText::<{name}>");
                    config
                        .field_attribute(&path, format!("#[serde(with = \"{text}\")] #[schemars(with = \"{name}\")]"));
                } else if !repeated && (field.proto3_optional() || field.r#type == Some(TYPE_MESSAGE)) {
                    config.field_attribute(&path, "#[serde(skip_serializing_if = \"Option::is_none\")]");
                }
            }
        }
        for enumeration in &file.enum_type {
            let path = format!(".{OPERATIONS}.{}", enumeration.name());
            config.enum_attribute(&path, derives);
            config.enum_attribute(&path, "#[serde(rename_all = \"SCREAMING_SNAKE_CASE\")]");
        }
    }
    config.compile_fds(files)?;
    Ok(())
}
