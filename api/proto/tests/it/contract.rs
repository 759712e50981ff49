//! Every service, method, message, field number and enum value as one text file beside this test: a breaking change
//! of the contract shows up as a diff in review.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};

/// Set to write the golden file anew instead of comparing.
const BLESS: &str = "HANSE_BLESS";

#[test]
fn contract_is_frozen() {
    let set = FileDescriptorSet::decode(hanse_proto::FILE_DESCRIPTOR_SET).unwrap();
    let found = describe(&set);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/contract.golden");
    if std::env::var_os(BLESS).is_some() {
        std::fs::write(&path, &found).unwrap();
    }
    let frozen = std::fs::read_to_string(&path).unwrap_or_default();
    if let Some((frozen, found)) = frozen.lines().zip(found.lines()).find(|(frozen, found)| frozen != found) {
        panic!("the contract changed: frozen {frozen:?}, now {found:?}; {BLESS}=1 writes it anew");
    }
    assert_eq!(frozen.lines().count(), found.lines().count(), "lines were added or removed; {BLESS}=1 writes it anew");
}

/// What builds of each cluster version offered and understood, frozen: a console or script of then still works now.
#[test]
fn the_contract_of_each_version_is_still_kept() {
    let found = describe(&FileDescriptorSet::decode(hanse_proto::FILE_DESCRIPTOR_SET).unwrap());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/api");
    for version in ["v1", "v2", "v3", "v4", "v5", "v6"] {
        let path = folder.join(format!("{version}.txt"));
        // A new version adds a file; an existing one is never written again.
        if std::env::var_os(BLESS).is_some() && !path.exists() {
            std::fs::write(&path, &found).unwrap();
        }
        let frozen = std::fs::read_to_string(&path).unwrap();
        let (now, then) = (placed(&found), placed(&frozen));
        let gone: Vec<_> = then.difference(&now).collect();
        assert!(gone.is_empty(), "{version} had what is no longer there: {gone:#?}");
    }
}

/// Each line with the message it stands in.
fn placed(description: &str) -> BTreeSet<String> {
    let mut message = "";
    let mut lines = BTreeSet::new();
    for line in description.lines() {
        if !line.starts_with(' ') {
            message = line;
        }
        lines.insert(if line == message { line.to_owned() } else { format!("{message}:{line}") });
    }
    lines
}

fn describe(set: &FileDescriptorSet) -> String {
    let mut text = String::new();
    for file in &set.file {
        writeln!(text, "file {} package {}", file.name(), file.package()).unwrap();
        for service in &file.service {
            for method in &service.method {
                let stream = if method.server_streaming() { "stream " } else { "" };
                let (input, output) = (method.input_type(), method.output_type());
                writeln!(text, "rpc {}/{} {input} -> {stream}{output}", service.name(), method.name()).unwrap();
            }
        }
        for message in &file.message_type {
            describe_message(&mut text, message.name(), message);
        }
        for kind in &file.enum_type {
            for value in &kind.value {
                writeln!(text, "enum {}.{} = {}", kind.name(), value.name(), value.number()).unwrap();
            }
        }
    }
    text
}

fn describe_message(text: &mut String, name: &str, message: &DescriptorProto) {
    writeln!(text, "message {name}").unwrap();
    for field in &message.field {
        writeln!(text, "  {} {} = {}", kind(field), field.name(), field.number()).unwrap();
    }
    for range in &message.reserved_range {
        writeln!(text, "  reserved {}..{}", range.start(), range.end()).unwrap();
    }
    for nested in &message.nested_type {
        describe_message(text, &format!("{name}.{}", nested.name()), nested);
    }
}

fn kind(field: &FieldDescriptorProto) -> String {
    let label = match field.label() {
        Label::Repeated => "repeated ",
        Label::Optional | Label::Required if field.proto3_optional() => "optional ",
        Label::Optional | Label::Required => "",
    };
    match field.r#type() {
        Type::Message | Type::Enum => format!("{label}{}", field.type_name()),
        scalar => format!("{label}{}", scalar.as_str_name().trim_start_matches("TYPE_").to_lowercase()),
    }
}
