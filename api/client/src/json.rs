//! Messages of the contract as JSON: the form of `-o json`, stable and complete.
//!
//! Works from the contract's descriptor, so that a new field appears without a line of code. Names are those of the
//! proto files (snake_case); every field is present (`null` for an absent message or optional number) except the
//! branches of a oneof that are not taken; whole numbers are numbers, enum values are names without their prefix,
//! bytes are 0x-hex, except `artifact`, which is the text that is voted on.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use prost::Message;
use prost::bytes::Buf as _;
use prost::encoding::{WireType, decode_key, decode_varint};
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};
use serde_json::{Map, Value, json};

use crate::call::Call;

/// The one bytes field that holds text.
const TEXT_FIELD: &str = "artifact";

/// Returns the response of a call as JSON.
pub fn response<C: Call>(response: &C::Response) -> Value {
    message(C::RESPONSE, response)
}

/// Returns a message of `hanse.v1` as JSON, or `null` if the contract has no message of that name.
pub fn message(name: &str, message: &impl Message) -> Value {
    let types = Types::get();
    // Bytes we have just encoded ourselves always decode; a name that is not in the contract is the only mistake left.
    types.decode(&format!(".hanse.v1.{name}"), &message.encode_to_vec()).unwrap_or(Value::Null)
}

/// The contract's types by full name.
struct Types {
    messages: BTreeMap<String, DescriptorProto>,
    enums: BTreeMap<String, EnumDescriptorProto>,
}

impl Types {
    fn get() -> &'static Types {
        static TYPES: OnceLock<Types> = OnceLock::new();
        TYPES.get_or_init(|| {
            let set = FileDescriptorSet::decode(hanse_proto::FILE_DESCRIPTOR_SET)
                .expect("the build wrote the descriptor of this very contract");
            let mut types = Types { messages: BTreeMap::new(), enums: BTreeMap::new() };
            for file in set.file {
                let package = format!(".{}", file.package());
                file.message_type.into_iter().for_each(|message| types.add(&package, message));
                for kind in file.enum_type {
                    types.enums.insert(format!("{package}.{}", kind.name()), kind);
                }
            }
            types
        })
    }

    fn add(&mut self, parent: &str, message: DescriptorProto) {
        let name = format!("{parent}.{}", message.name());
        for nested in &message.nested_type {
            self.add(&name, nested.clone());
        }
        self.messages.insert(name, message);
    }

    /// Returns the object of an encoded message; `None` if it is not of this type.
    fn decode(&self, name: &str, mut bytes: &[u8]) -> Option<Value> {
        let descriptor = self.messages.get(name)?;
        let mut object = Map::new();
        for field in descriptor.field.iter().filter(|field| field.oneof_index.is_none() || field.proto3_optional()) {
            object.insert(field.name().to_owned(), self.absent(field));
        }
        while bytes.has_remaining() {
            let (tag, wire) = decode_key(&mut bytes).ok()?;
            let field = descriptor.field.iter().find(|field| u32::try_from(field.number()) == Ok(tag))?;
            self.take(field, wire, &mut bytes, &mut object)?;
        }
        Some(Value::Object(object))
    }

    /// Returns what stands for a field that was not sent.
    fn absent(&self, field: &FieldDescriptorProto) -> Value {
        if self.map_entry(field).is_some() {
            return json!({});
        }
        if field.label() == Label::Repeated {
            return json!([]);
        }
        if field.proto3_optional() {
            return Value::Null;
        }
        match field.r#type() {
            Type::String => json!(""),
            Type::Bytes => bytes_value(field, &[]),
            Type::Bool => json!(false),
            Type::Message => Value::Null,
            Type::Enum => self.enum_value(field, 0),
            _ => json!(0),
        }
    }

    fn take(
        &self,
        field: &FieldDescriptorProto,
        wire: WireType,
        bytes: &mut &[u8],
        object: &mut Map<String, Value>,
    ) -> Option<()> {
        let name = field.name().to_owned();
        if let WireType::LengthDelimited = wire {
            let length = usize::try_from(decode_varint(bytes).ok()?).ok()?;
            let (mut part, rest) = bytes.split_at_checked(length)?;
            *bytes = rest;
            let value = match field.r#type() {
                Type::String => json!(std::str::from_utf8(part).ok()?),
                Type::Bytes => bytes_value(field, part),
                Type::Message => self.decode(field.type_name(), part)?,
                _ => {
                    let list = object.get_mut(&name)?.as_array_mut()?;
                    while part.has_remaining() {
                        list.push(self.number(field, decode_varint(&mut part).ok()?));
                    }
                    return Some(());
                }
            };
            if self.map_entry(field).is_some() {
                let key = match value.get("key")? {
                    Value::String(key) => key.clone(),
                    other => other.to_string(),
                };
                object.get_mut(&name)?.as_object_mut()?.insert(key, value.get("value")?.clone());
            } else if field.label() == Label::Repeated {
                object.get_mut(&name)?.as_array_mut()?.push(value);
            } else {
                object.insert(name, value);
            }
            return Some(());
        }
        // The contract has no fixed-width numbers, so everything else is a varint.
        let WireType::Varint = wire else { return None };
        let value = self.number(field, decode_varint(bytes).ok()?);
        if field.label() == Label::Repeated {
            object.get_mut(&name)?.as_array_mut()?.push(value);
        } else {
            object.insert(name, value);
        }
        Some(())
    }

    fn number(&self, field: &FieldDescriptorProto, raw: u64) -> Value {
        match field.r#type() {
            Type::Bool => json!(raw != 0),
            Type::Enum => self.enum_value(field, raw.cast_signed() as i32),
            Type::Int32 => json!(raw.cast_signed() as i32),
            Type::Int64 => json!(raw.cast_signed()),
            _ => json!(raw),
        }
    }

    /// Returns the value's name without its prefix, or its number if this client is older than the server.
    fn enum_value(&self, field: &FieldDescriptorProto, number: i32) -> Value {
        let Some(kind) = self.enums.get(field.type_name()) else { return json!(number) };
        let prefix = kind.value.first().map_or("", |first| first.name().trim_end_matches("UNSPECIFIED"));
        match kind.value.iter().find(|value| value.number() == number) {
            Some(value) => json!(value.name().strip_prefix(prefix).unwrap_or(value.name())),
            None => json!(number.to_string()),
        }
    }

    fn map_entry(&self, field: &FieldDescriptorProto) -> Option<&DescriptorProto> {
        let entry = self.messages.get(field.type_name())?;
        entry.options.as_ref().is_some_and(|options| options.map_entry()).then_some(entry)
    }
}

fn bytes_value(field: &FieldDescriptorProto, bytes: &[u8]) -> Value {
    if field.name() == TEXT_FIELD {
        return json!(String::from_utf8_lossy(bytes));
    }
    json!(format!("0x{}", hex::encode(bytes)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use hanse_proto::v1 as pb;
    use serde_json::{Value, json};

    #[test]
    fn every_kind_of_field() {
        let chain = pb::Chain {
            chain: "supply-1".to_owned(),
            state: pb::ChainState::Running.into(),
            height: u64::MAX,
            state_since_ms: -5,
            spec: Some(pb::ChainSpec {
                parameters: BTreeMap::from([("block_time_ms".to_owned(), 500)]),
                nodes: vec![pb::NodeSpec { owner: "acme".to_owned() }],
                ..pb::ChainSpec::default()
            }),
            ..pb::Chain::default()
        };
        let value = super::message("Chain", &chain);
        assert_eq!(value["state"], "RUNNING");
        assert_eq!(value["height"], json!(u64::MAX));
        assert_eq!(value["state_since_ms"], -5);
        assert_eq!(value["operation"], "", "what was not sent is there too");
        assert_eq!(value["spec"]["parameters"], json!({ "block_time_ms": 500 }));
        assert_eq!(value["spec"]["nodes"], json!([{ "owner": "acme" }]));
        assert_eq!(value["spec"]["alloc"], json!({}));
    }

    #[test]
    fn absent_messages_oneofs_bytes_and_unknown_enum_values() {
        let host = super::message("Host", &pb::Host { state: 99, ..pb::Host::default() });
        assert_eq!(host["facts"], Value::Null);
        assert_eq!(host["state"], "99");
        assert!(host.get("ssh").is_none() && host.get("local").is_none());
        let proposal =
            super::message("Proposal", &pb::Proposal { artifact: b"{\"version\":1}".to_vec(), ..Default::default() });
        assert_eq!(proposal["artifact"], "{\"version\":1}");
        assert_eq!(proposal["outcome"], "UNSPECIFIED");
        let call = super::message(
            "CallContractResponse",
            &pb::CallContractResponse { output: vec![0, 255], ..Default::default() },
        );
        assert_eq!(call["output"], "0x00ff");
        let line = pb::UsageLine { rate_micro_per_node_hour: Some(0), ..Default::default() };
        assert_eq!(super::message("UsageLine", &line)["rate_micro_per_node_hour"], 0);
        assert_eq!(super::message("UsageLine", &pb::UsageLine::default())["rate_micro_per_node_hour"], Value::Null);
        assert_eq!(super::message("NoSuch", &line), Value::Null);
    }
}
