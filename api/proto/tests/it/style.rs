//! The rules every later addition must keep: comments, unique request and response types, request ids, headers,
//! enum prefixes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use prost_types::source_code_info::Location;
use prost_types::{DescriptorProto, FileDescriptorProto, FileDescriptorSet};

/// Paths within a descriptor (descriptor.proto): where messages, enums, services and their parts are numbered.
const MESSAGE: i32 = 4;
const ENUM: i32 = 5;
const SERVICE: i32 = 6;
const FIELD: i32 = 2;

fn sources() -> FileDescriptorSet {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let mut files: Vec<_> =
        std::fs::read_dir(root.join("hanse/v1")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    protox::compile(files, [root]).unwrap()
}

#[test]
fn everything_is_commented() {
    let mut missing = Vec::new();
    for file in &sources().file {
        let commented: BTreeSet<Vec<i32>> = file
            .source_code_info
            .iter()
            .flat_map(|info| &info.location)
            .filter(|place: &&Location| place.leading_comments.as_deref().is_some_and(|text| !text.trim().is_empty()))
            .map(|place| place.path.clone())
            .collect();
        let mut demand = |path: Vec<i32>, name: String| {
            if !commented.contains(&path) {
                missing.push(format!("{}: {name}", file.name()));
            }
        };
        for (at, message) in (0..).zip(&file.message_type) {
            demand(vec![MESSAGE, at], message.name().to_owned());
            for (inner, field) in (0..).zip(&message.field) {
                demand(vec![MESSAGE, at, FIELD, inner], format!("{}.{}", message.name(), field.name()));
            }
        }
        for (at, kind) in (0..).zip(&file.enum_type) {
            demand(vec![ENUM, at], kind.name().to_owned());
            for (inner, value) in (0..).zip(&kind.value) {
                demand(vec![ENUM, at, 2, inner], value.name().to_owned());
            }
        }
        for (at, service) in (0..).zip(&file.service) {
            demand(vec![SERVICE, at], service.name().to_owned());
            for (inner, method) in (0..).zip(&service.method) {
                demand(vec![SERVICE, at, 2, inner], format!("{}.{}", service.name(), method.name()));
            }
        }
    }
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn requests_and_responses_keep_the_rules() {
    let set = sources();
    let messages: BTreeMap<String, &DescriptorProto> = set
        .file
        .iter()
        .flat_map(|file: &FileDescriptorProto| &file.message_type)
        .map(|message| (format!(".hanse.v1.{}", message.name()), message))
        .collect();
    let mut seen = BTreeSet::new();
    for service in set.file.iter().flat_map(|file| &file.service) {
        assert!(service.name().ends_with("Service"), "{}", service.name());
        for method in &service.method {
            let name = method.name();
            assert_eq!(method.input_type(), format!(".hanse.v1.{name}Request"));
            assert_eq!(method.output_type(), format!(".hanse.v1.{name}Response"));
            assert!(seen.insert(name.to_owned()), "{name}: request and response belong to one method");
            let number = |message: &str, field: &str| {
                messages[message].field.iter().find(|found| found.name() == field).map(|found| found.number())
            };
            assert_eq!(number(method.output_type(), "header"), Some(1), "{name}Response.header");
            let reads = ["Get", "List", "Watch", "WhoAmI", "Scan", "Call", "Export", "Preflight", "Check", "Plan"];
            let is_read = reads.iter().any(|verb| name.starts_with(verb));
            let expected = if is_read { None } else { Some(1) };
            assert_eq!(number(method.input_type(), "request_id"), expected, "{name}Request.request_id");
            if name.starts_with("List") {
                assert_eq!(number(method.input_type(), "page_size"), Some(1), "{name}");
                assert_eq!(number(method.input_type(), "page_token"), Some(2), "{name}");
                assert_eq!(number(method.output_type(), "next_page_token"), Some(3), "{name}");
            }
        }
    }
}

#[test]
fn enums_keep_the_rules() {
    for kind in sources().file.iter().flat_map(|file| &file.enum_type) {
        let mut prefix = String::new();
        for letter in kind.name().chars() {
            if letter.is_uppercase() && !prefix.is_empty() {
                prefix.push('_');
            }
            prefix.extend(letter.to_uppercase());
        }
        assert_eq!(kind.value[0].name(), format!("{prefix}_UNSPECIFIED"));
        assert_eq!(kind.value[0].number(), 0);
        for value in &kind.value {
            assert!(value.name().starts_with(&format!("{prefix}_")), "{}", value.name());
        }
    }
}
