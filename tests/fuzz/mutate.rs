//! Damage to bytes.

use crate::random::Random;

const BYTES: &[u8] = &[0, 1, 0x7f, 0x80, 0xff, b'"', b'\\', b'{', b'}', b'[', b',', b'\n', b'-'];
const NUMBERS: &[i64] =
    &[0, 1, -1, 127, 255, 0x7fff, 0xffff, i32::MAX as i64, i32::MIN as i64, u32::MAX as i64];

/// One to a few changes: bits, bytes, numbers, pieces cut out, doubled, moved or cut off. One change
/// is the most frequent: more of them are found out by the first.
pub fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    let changes = if random.one_in(2) { 1 } else { 1 + random.below(6) };
    for _ in 0..changes {
        change(random, bytes);
    }
}

fn change(random: &mut Random, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        bytes.push(random.pick(BYTES));
        return;
    }
    let at = random.below(bytes.len());
    let length = 1 + random.below((bytes.len() - at).min(64));
    match random.below(12) {
        0..3 => bytes[at] ^= 1 << random.below(8),
        3 => bytes[at] = random.next() as u8,
        4 => bytes[at] = random.pick(BYTES),
        5 => bytes.insert(at, random.pick(BYTES)),
        6 => drop(bytes.drain(at..at + length)),
        7 => {
            let piece = bytes[at..at + length].to_vec();
            let to = random.below(bytes.len() + 1);
            bytes.splice(to..to, piece);
        }
        8 => bytes.truncate(at),
        9 => {
            let number = random.of(NUMBERS).to_le_bytes();
            let width = random.pick(&[2, 4, 8]);
            for (byte, number) in bytes[at..].iter_mut().zip(number).take(width) {
                *byte = number;
            }
        }
        10 => bytes[at..at + length].fill(random.pick(BYTES)),
        _ => {
            let to = random.below(bytes.len());
            bytes.swap(at, to);
        }
    }
}

/// The same in the last `tail` bytes: where footers are.
pub fn mutate_tail(random: &mut Random, bytes: &mut Vec<u8>, tail: usize) {
    let mut end = bytes.split_off(bytes.len().saturating_sub(tail));
    mutate(random, &mut end);
    bytes.append(&mut end);
}
