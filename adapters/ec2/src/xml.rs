//! Answers as trees: what a query API says is small, and a field that one cloud leaves out is simply not there.
//!
//! What this never does: resolve an entity of a document's own, or keep more than [`NODES_MAX`] elements.

use quick_xml::Reader;
use quick_xml::events::Event;

/// Elements of one answer; a page of a hundred instances has some ten thousand.
const NODES_MAX: usize = 200_000;
/// How deep they may lie.
const DEPTH_MAX: usize = 64;

/// One element.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Node {
    name: String,
    text: String,
    children: Vec<Node>,
}

impl Node {
    /// Reads a document; returns its root, or `None` if it is none.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut reader = Reader::from_str(text);
        let mut open = vec![Self::default()];
        let mut count = 0;
        loop {
            match reader.read_event().ok()? {
                Event::Start(start) => {
                    count += 1;
                    if count > NODES_MAX || open.len() > DEPTH_MAX {
                        return None;
                    }
                    let name = start.local_name().as_ref().to_owned();
                    open.push(Self { name, ..Self::default() });
                }
                Event::Empty(it) => {
                    count += 1;
                    let name = it.local_name().as_ref().to_owned();
                    (count <= NODES_MAX).then_some(())?;
                    open.last_mut()?.children.push(Self { name, ..Self::default() });
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

    /// The first element at `path` (`a/b/c`) below this one.
    pub(crate) fn at(&self, path: &str) -> Option<&Self> {
        path.split('/').try_fold(self, |node, name| node.children.iter().find(|child| child.name == name))
    }

    /// The text at `path`; empty if there is none.
    pub(crate) fn text(&self, path: &str) -> &str {
        self.at(path).map_or("", |node| node.text.as_str())
    }

    /// The items of the list at `path`.
    pub(crate) fn items(&self, path: &str) -> impl Iterator<Item = &Self> {
        self.at(path).into_iter().flat_map(|node| node.children.iter()).filter(|node| node.name == "item")
    }

    /// The first element of this name anywhere below this one, or this one.
    pub(crate) fn find(&self, name: &str) -> Option<&Self> {
        if self.name == name { Some(self) } else { self.children.iter().find_map(|child| child.find(name)) }
    }

    /// Its own text.
    pub(crate) fn own_text(&self) -> &str {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn lists_texts_and_entities_are_read() {
        let text = "<?xml version='1.0'?><a xmlns='x'><set><item><id> 1 </id></item><item><id>&lt;2&#33;&gt;</id></item></set><e/></a>";
        let root = Node::parse(text.as_bytes()).unwrap();
        let ids: Vec<&str> = root.items("set").map(|item| item.text("id")).collect();
        assert_eq!((root.name.as_str(), ids), ("a", vec!["1", "<2!>"]));
        assert_eq!((root.text("e"), root.text("set/none"), root.find("id").unwrap().own_text()), ("", "", "1"));
    }

    #[test]
    fn what_is_no_document_is_none() {
        let deep = format!("{}{}", "<a>".repeat(100), "</a>".repeat(100));
        for text in ["", "no", "<a>", "<a></b>", "<a>&nope;</a>", "<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>", &deep] {
            assert_eq!(Node::parse(text.as_bytes()), None, "{text}");
        }
    }
}
