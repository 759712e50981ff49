//! What a machine's first start is told, as cloud-init's NoCloud reads it: a small ISO 9660 image called `cidata`.
//!
//! Two files in one folder, plain level: what the kernel of any guest can mount. It holds the machine's host key if the platform
//! makes it, so its volume is readable to the hypervisor's owner alone.

use hanse_adapters_core::cloud::MachineWish;

/// Bytes of a sector.
const SECTOR: usize = 2_048;
/// What cloud-init looks for.
const LABEL: &str = "cidata";
/// Sectors before the first file: 16 of the system's, volume, end, both tables of paths, folder.
const FILES_AT: usize = 21;
/// Sectors of the smallest image: some readers look at eight behind the system's before they know what it is.
const SECTORS_LEAST: usize = 32;

/// The image for `wish`.
pub(crate) fn image(wish: &MachineWish, instance: &str) -> Vec<u8> {
    let told = if wish.user_data.is_empty() { "#cloud-config\n" } else { &wish.user_data };
    // In the order of their names, as the format wants it.
    iso(&[("meta-data", meta_data(wish, instance).as_bytes()), ("user-data", told.as_bytes())])
}

/// Text in JSON's quotes is YAML as well.
fn meta_data(wish: &MachineWish, instance: &str) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let mut text = format!("instance-id: {}\nlocal-hostname: {}\n", quoted(instance), quoted(&wish.key.machine));
    if !wish.login_key.is_empty() {
        text.push_str(&format!("public-keys:\n  - {}\n", quoted(wish.login_key.trim())));
    }
    text
}

/// An ISO 9660 image (ECMA-119) with these files in its root.
fn iso(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut at = FILES_AT;
    let mut folder = [record(&[0], FILES_AT - 1, SECTOR, true), record(&[1], FILES_AT - 1, SECTOR, true)].concat();
    let mut content = Vec::new();
    for (name, bytes) in files {
        folder.extend(record(format!("{name};1").as_bytes(), at, bytes.len(), false));
        content.extend_from_slice(bytes);
        content.resize(content.len().next_multiple_of(SECTOR), 0);
        at = FILES_AT + content.len() / SECTOR;
    }
    let mut image = vec![0; 16 * SECTOR];
    let sectors = at.max(SECTORS_LEAST);
    for sector in [volume(sectors), end(), paths(u32::to_le_bytes, [1, 0]), paths(u32::to_be_bytes, [0, 1]), folder] {
        image.extend(sector);
        image.resize(image.len().next_multiple_of(SECTOR), 0);
    }
    image.extend(content);
    image.resize(sectors * SECTOR, 0);
    image
}

fn number(value: usize) -> u32 {
    u32::try_from(value).expect("an image is small")
}

/// A number in both orders of bytes (7.3.3).
fn both32(value: usize) -> [u8; 8] {
    let (little, big) = (number(value).to_le_bytes(), number(value).to_be_bytes());
    [little[0], little[1], little[2], little[3], big[0], big[1], big[2], big[3]]
}

/// A directory record (9.1).
fn record(name: &[u8], at: usize, bytes: usize, is_folder: bool) -> Vec<u8> {
    let length = (33 + name.len()).next_multiple_of(2);
    let mut record = vec![u8::try_from(length).expect("names are short"), 0];
    record.extend(both32(at));
    record.extend(both32(bytes));
    // No date; flags; no interleaving; volume 1.
    record.extend([0; 7]);
    record.extend([if is_folder { 2 } else { 0 }, 0, 0, 1, 0, 0, 1]);
    record.push(u8::try_from(name.len()).expect("names are short"));
    record.extend_from_slice(name);
    record.resize(length, 0);
    record
}

/// A table of paths, which has the root alone (9.4).
fn paths(order: fn(u32) -> [u8; 4], parent: [u8; 2]) -> Vec<u8> {
    let mut table = vec![1, 0];
    table.extend(order(number(FILES_AT - 1)));
    table.extend(parent);
    table.extend([0, 0]);
    table
}

/// The primary volume descriptor (8.4).
fn volume(sectors: usize) -> Vec<u8> {
    let mut volume = vec![0; SECTOR];
    let mut put = |at: usize, bytes: &[u8]| volume[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"\x01CD001\x01");
    put(8, &[b' '; 64]);
    put(40, LABEL.as_bytes());
    put(80, &both32(sectors));
    for at in [120, 124] {
        put(at, &[1, 0, 0, 1]);
    }
    put(128, &[0, 8, 8, 0]);
    // The table has one record of ten bytes.
    put(132, &both32(10));
    put(140, &number(FILES_AT - 3).to_le_bytes());
    put(148, &number(FILES_AT - 2).to_be_bytes());
    put(156, &record(&[0], FILES_AT - 1, SECTOR, true));
    put(190, &[b' '; 623]);
    for at in [813, 830, 847, 864] {
        put(at, &[b'0'; 16]);
    }
    put(881, &[1]);
    volume
}

/// What ends the descriptors (8.3).
fn end() -> Vec<u8> {
    b"\xffCD001\x01".to_vec()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::process::Command;

    use super::*;

    /// Read by programs that others wrote.
    #[test]
    fn others_read_the_label_and_the_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seed.iso");
        for told in ["#cloud-config\n".to_owned(), "x".repeat(50_000)] {
            std::fs::write(&path, iso(&[("meta-data", b"a: 1\n"), ("user-data", told.as_bytes())])).unwrap();
            are_read(&path, &told);
        }
    }

    fn are_read(path: &std::path::Path, told: &str) {
        let label = Command::new("/usr/sbin/blkid")
            .args(["-p", "-o", "value", "-s", "LABEL", "-s", "TYPE"])
            .arg(path)
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&label.stdout), "cidata\niso9660\n", "{label:?}");
        let read = |name: &str| {
            let output = Command::new("bsdtar").arg("-xOf").arg(path).arg(name).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        assert_eq!((read("meta-data").as_str(), read("user-data").as_str()), ("a: 1\n", told));
    }
}
