//! Addresses as Cosmos-SDK applications write them: Bech32 (BIP-173) of 20 bytes under the application's prefix.

const CHARSET: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];

/// Returns `data` under `prefix`, which must be lower-case ASCII.
pub(crate) fn encode(prefix: &str, data: &[u8]) -> String {
    let mut values = Vec::with_capacity(data.len() * 2);
    let (mut held, mut bits) = (0_u32, 0_u32);
    for byte in data {
        held = (held << 8 | u32::from(*byte)) & 0xfff;
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            values.push((held >> bits & 31) as u8);
        }
    }
    if bits > 0 {
        values.push((held << (5 - bits) & 31) as u8);
    }
    let mut checked: Vec<u8> = prefix.bytes().map(|b| b >> 5).collect();
    checked.push(0);
    checked.extend(prefix.bytes().map(|b| b & 31));
    checked.extend(&values);
    checked.extend([0; 6]);
    let checksum = polymod(&checked) ^ 1;
    values.extend((0..6).map(|n| (checksum >> (5 * (5 - n)) & 31) as u8));
    let text: String = values.iter().map(|value| char::from(CHARSET[usize::from(*value)])).collect();
    format!("{prefix}1{text}")
}

fn polymod(values: &[u8]) -> u32 {
    values.iter().fold(1_u32, |checksum, value| {
        let top = checksum >> 25;
        let next = (checksum & 0x01ff_ffff) << 5 ^ u32::from(*value);
        GENERATOR.iter().enumerate().fold(next, |sum, (bit, term)| if top >> bit & 1 == 1 { sum ^ term } else { sum })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The program under BIP-173's example of a version 0 witness, without its version; and an address of the sandbox.
    #[test]
    fn known_addresses() {
        let zero = encode("a", &[]);
        assert_eq!(zero, "a12uel5l", "BIP-173, first valid string");
        let digits: Vec<u8> = (0..32).collect();
        let packed = digits.chunks(8).flat_map(|eight| {
            let word = eight.iter().fold(0_u64, |word, five| word << 5 | u64::from(*five));
            word.to_be_bytes()[3..].to_vec()
        });
        let packed: Vec<u8> = packed.collect();
        assert_eq!(encode("abcdef", &packed), "abcdef1qpzry9x8gf2tvdw0s3jn54khce6mua7lmqqqxw", "BIP-173");
    }
}
