//! What libvirt says, as trees, and what it is told, as text that no value can break out of.
//!
//! What this never does: resolve an entity of a document's own, or keep more than [`NODES_MAX`] elements.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

/// Elements of one document; a machine's has some hundred, a hypervisor's description some thousand.
const NODES_MAX: usize = 50_000;
/// How deep they may lie.
const DEPTH_MAX: usize = 64;

/// One element.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Node {
    name: String,
    text: String,
    attributes: Vec<(String, String)>,
    children: Vec<Node>,
}

impl Node {
    /// Reads a document; returns its root, or `None` if it is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut reader = Reader::from_str(text);
        let (mut open, mut count) = (vec![Self::default()], 0);
        loop {
            match reader.read_event().ok()? {
                Event::Start(start) => {
                    count += 1;
                    (count <= NODES_MAX && open.len() <= DEPTH_MAX).then_some(())?;
                    open.push(Self::begun(&start)?);
                }
                Event::Empty(it) => {
                    count += 1;
                    (count <= NODES_MAX).then_some(())?;
                    open.last_mut()?.children.push(Self::begun(&it)?);
                }
                Event::Text(text) => open.last_mut()?.text.push_str(&text),
                Event::CData(text) => open.last_mut()?.text.push_str(&text),
                Event::GeneralRef(entity) => {
                    let resolved = match entity.resolve_char_ref().ok()? {
                        Some(c) => c.to_string(),
                        None => quick_xml::escape::resolve_predefined_entity(&entity)?.to_owned(),
                    };
                    open.last_mut()?.text.push_str(&resolved);
                }
                Event::End(_) => {
                    let mut node = open.pop()?;
                    node.text = node.text.trim().to_owned();
                    open.last_mut()?.children.push(node);
                }
                Event::Eof => break,
                Event::Decl(_) | Event::Comment(_) | Event::PI(_) | Event::DocType(_) => {}
            }
        }
        let mut outer = open.pop().filter(|_| open.is_empty())?;
        outer.children.pop()
    }

    fn begun(start: &BytesStart<'_>) -> Option<Self> {
        let mut node = Self { name: start.local_name().as_ref().to_owned(), ..Self::default() };
        for attribute in start.attributes() {
            let attribute = attribute.ok()?;
            let value = quick_xml::escape::unescape(&attribute.value).ok()?.into_owned();
            node.attributes.push((attribute.key.as_ref().to_owned(), value));
        }
        Some(node)
    }

    /// The first element at `path` (`a/b/c`) below this one.
    pub(crate) fn at(&self, path: &str) -> Option<&Self> {
        path.split('/').try_fold(self, |node, name| node.children.iter().find(|child| child.name == name))
    }

    /// The text at `path`; empty if there is none.
    pub(crate) fn text(&self, path: &str) -> &str {
        self.at(path).map_or("", |node| node.text.as_str())
    }

    /// An attribute of the element at `path`; empty if there is none.
    pub(crate) fn attribute(&self, path: &str, name: &str) -> &str {
        self.at(path).map_or("", |node| node.own(name))
    }

    /// An attribute of this element; empty if there is none.
    pub(crate) fn own(&self, name: &str) -> &str {
        self.attributes.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str())
    }

    /// The elements of this name below the one at `path`.
    pub(crate) fn all(&self, path: &str, name: &str) -> impl Iterator<Item = &Self> {
        self.at(path).into_iter().flat_map(|node| node.children.iter()).filter(move |node| node.name == name)
    }

    /// The elements of this name right below this one.
    pub(crate) fn each(&self, name: &str) -> impl Iterator<Item = &Self> {
        self.children.iter().filter(move |node| node.name == name)
    }

    /// Whether it is of the namespace, which it says itself.
    pub(crate) fn is_in(&self, namespace: &str) -> bool {
        self.attributes.iter().any(|(key, value)| key.starts_with("xmlns") && value == namespace)
    }
}

/// A value as it may stand in an attribute or a text.
pub(crate) fn escape(text: &str) -> String {
    quick_xml::escape::escape(text).into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn elements_attributes_and_entities_are_read() {
        let text = "<?xml version='1.0'?><a><m:b xmlns:m='urn:x' k='1 &amp; &apos;2&apos;'/><c>&lt;<![CDATA[&]]></c><c> x </c></a>";
        let root = Node::parse(text).unwrap();
        assert!(root.at("b").unwrap().is_in("urn:x") && !root.at("b").unwrap().is_in("urn:y"));
        assert_eq!((root.attribute("b", "k"), root.text("c"), root.each("c").count()), ("1 & '2'", "<&", 2));
        let value = "<\"'&>";
        assert_eq!(Node::parse(&format!("<a b='{0}'>{0}</a>", escape(value))).unwrap().own("b"), value);
    }

    #[test]
    fn what_is_no_document_is_none() {
        let deep = format!("{}{}", "<a>".repeat(100), "</a>".repeat(100));
        for text in ["", "no", "<a>", "<a></b>", "<a>&nope;</a>", "<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>", &deep] {
            assert_eq!(Node::parse(text), None, "{text}");
        }
    }
}
