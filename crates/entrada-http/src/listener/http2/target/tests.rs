use proptest::prelude::*;

use super::*;

const END: u8 = END_HEADERS;

fn frame(kind: u8, flags: u8, stream: u32, length: usize) -> Frame {
    Frame { kind, flags, stream, length: u32::try_from(length).unwrap(), word: 0 }
}

/// Sends a block as one frame; returns whether its target has a fragment.
fn sends(targets: &mut Targets, stream: u32, block: &[u8]) -> bool {
    targets.frame(frame(HEADERS, END, stream, block.len()));
    targets.payload(block);
    targets.has_fragment(stream)
}

fn bytes(hexadecimal: &str) -> Vec<u8> {
    let digits: Vec<_> = hexadecimal.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// Encodes with the Huffman code.
fn coded(text: &[u8]) -> Vec<u8> {
    let code = |letter: u8| {
        let length = usize::from(LENGTHS[usize::from(letter)]);
        let codes = CODES[length];
        let nth = LETTERS[codes.begin..].iter().position(|other| *other == u16::from(letter)).unwrap();
        (codes.first + u32::try_from(nth).unwrap(), length)
    };
    let bits: String = text.iter().map(|letter| code(*letter)).map(|(code, length)| format!("{code:0length$b}")).collect();
    let padded = format!("{bits}{}", "1".repeat((8 - bits.len() % 8) % 8));
    padded.as_bytes().chunks(8).map(|byte| u8::from_str_radix(std::str::from_utf8(byte).unwrap(), 2).unwrap()).collect()
}

fn number(first: u8, prefix: u8, value: usize) -> Vec<u8> {
    let mask = (1 << prefix) - 1;
    if value < mask {
        return vec![first | u8::try_from(value).unwrap()];
    }
    let mut bytes = vec![first | u8::try_from(mask).unwrap()];
    let mut left = value - mask;
    while left >= 128 {
        bytes.push(u8::try_from(left % 128).unwrap() | 128);
        left /= 128;
    }
    bytes.push(u8::try_from(left).unwrap());
    bytes
}

fn string(text: &[u8], is_coded: bool) -> Vec<u8> {
    let text = if is_coded { coded(text) } else { text.to_vec() };
    [number(if is_coded { 0x80 } else { 0 }, 7, text.len()), text].concat()
}

/// A field with the name in full.
fn field(first: u8, name: &[u8], value: &[u8], is_coded: bool) -> Vec<u8> {
    [vec![first], string(name, is_coded), string(value, is_coded)].concat()
}

#[test]
fn the_examples_of_the_rfc_are_followed() {
    // RFC 7541, appendices C.3 and C.4: the same three requests, without and with the Huffman code, and the tables that they leave.
    for blocks in [
        [
            "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "8286 84be 5808 6e6f 2d63 6163 6865",
            "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
        ],
        [
            "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            "8286 84be 5886 a8eb 1064 9cbf",
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        ],
    ] {
        let mut targets = Targets::default();
        for (block, size, stream) in blocks.iter().zip([57, 110, 164]).zip([1, 3, 5]).map(|((block, size), id)| (block, size, id))
        {
            assert!(!sends(&mut targets, stream, &bytes(block)), "{block}");
            assert_eq!(targets.table.size, size, "{block}");
        }
        assert_eq!(targets.table.entries.len(), 3);
    }
}

#[test]
fn a_fragment_is_found_however_it_is_written() {
    let path = |first: u8, value: &[u8], coded: bool| [vec![first], string(value, coded)].concat();
    let mut stream = 1;
    for coded in [false, true] {
        for (name, block, expected) in [
            ("indexed name", path(0x44, b"/a#b", coded), true),
            ("indexed name, not kept", path(0x05, b"/a#b", coded), true),
            ("indexed name, never kept", path(0x14, b"/#", coded), true),
            ("named", field(0x40, b":path", b"/a#", coded), true),
            ("named, not kept", field(0x00, b":path", b"/a#", coded), true),
            ("none", path(0x44, b"/a?b=c%23", coded), false),
            ("another field", field(0x40, b":paths", b"/a#", coded), false),
            ("a part of the name", field(0x40, b":pat", b"/a#", coded), false),
            ("before another one", [path(0x04, b"/#", coded), path(0x04, b"/", coded)].concat(), true),
        ] {
            let mut targets = Targets::default();
            assert_eq!(sends(&mut targets, stream, &block), expected, "{name}, coded: {coded}");
            assert!(!targets.lost, "{name}");
            stream += 2;
        }
    }
}

#[test]
fn a_fragment_in_the_dynamic_table_is_found_until_it_is_evicted() {
    let mut targets = Targets::default();
    assert!(sends(&mut targets, 1, &[vec![0x44], string(b"/a#b", true)].concat()));
    assert!(!sends(&mut targets, 3, &[0x82, 0x84]), "another request of the connection");
    assert!(sends(&mut targets, 5, &[0xbe]), "the entry itself");
    assert!(sends(&mut targets, 7, &[vec![0x7e], string(b"/#", false)].concat()), "its name");
    assert!(!sends(&mut targets, 9, &[vec![0x7e], string(b"/", false)].concat()));
    assert!(sends(&mut targets, 11, &[0xc0]), "it is the third now");

    // A table of no entries, and one of 4096 bytes again.
    assert!(!sends(&mut targets, 13, &[0x20, 0x3f, 0xe1, 0x1f, 0x82]));

    assert!(targets.table.entries.is_empty() && !targets.lost);
    assert!(sends(&mut targets, 15, &[0xbe]), "nothing is there: the reading is lost, and every target refused");
}

#[test]
fn blocks_come_in_parts() {
    let block = [vec![0x82, 0x04], string(b"/a#b", true)].concat();
    let (one, other) = block.split_at(4);
    let mut targets = Targets::default();
    // Padded by two bytes, with a priority.
    let padded = [&[2, 0, 0, 0, 0, 0][..], one, &[0, 0]].concat();

    targets.frame(frame(HEADERS, PADDED | PRIORITY, 1, padded.len()));
    padded.chunks(3).for_each(|part| targets.payload(part));
    targets.frame(frame(CONTINUATION, 0, 1, 0));
    targets.frame(frame(CONTINUATION, END, 1, other.len()));
    other.chunks(1).for_each(|part| targets.payload(part));

    assert!(targets.has_fragment(1) && !targets.has_fragment(3) && !targets.lost);
}

#[test]
fn a_connection_at_rest_keeps_little_of_a_long_block() {
    let mut targets = Targets::default();

    assert!(!sends(&mut targets, 1, &[0x82; 200_000]));

    assert!(targets.block.is_empty() && targets.block.capacity() <= KEPT);
    targets.frame(frame(HEADERS, 0, 3, 2 << 20));
    (0..20).for_each(|_| targets.payload(&[0x82; 100_000]));
    assert!(targets.lost && targets.block.capacity() == 0);
}

#[test]
fn what_cannot_be_read_refuses_the_rest_of_the_connection() {
    for (name, flags, block) in [
        ("an index of nothing", END, &[0x80][..]),
        ("an index beyond the table", END, &[0xbe]),
        ("a number without an end", END, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ("a text that is cut off", END, &[0x04, 0x05, b'/']),
        ("a table that is too large", END, &[0x3f, 0xe2, 0x1f]),
        ("the end of a text within it", END, &[0x04, 0x84, 0xff, 0xff, 0xff, 0xff]),
        ("more padding than frame", END | PADDED, &[9, 0x82]),
    ] {
        let mut targets = Targets::default();
        targets.frame(frame(HEADERS, flags, 1, block.len()));
        targets.payload(block);

        assert!(targets.lost && targets.has_fragment(1) && targets.has_fragment(3), "{name}");
    }
}

#[test]
fn every_letter_is_decoded() {
    let all: Vec<u8> = (0..=255).collect();
    let mut decoded = Vec::new();
    decode(&coded(&all), |letter| decoded.push(letter)).unwrap();
    assert_eq!(decoded, all);
}

proptest! {
    #[test]
    fn no_block_panics(blocks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..20)) {
        let mut targets = Targets::default();
        for (stream, block) in (1..).step_by(2).zip(&blocks) {
            sends(&mut targets, stream, block);
            prop_assert!(targets.table.size <= TABLE && targets.table.entries.len() <= TABLE / ENTRY);
        }
    }
}

/// Decodes bit by bit, as the RFC has it.
fn bit_by_bit(bytes: &[u8]) -> Option<Vec<u8>> {
    let (mut text, mut code, mut length) = (Vec::new(), 0_u32, 0_usize);
    for bit in bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)) {
        code = code << 1 | u32::from(bit);
        length += 1;
        let codes = CODES.get(length)?;
        let Some(nth) = code.checked_sub(codes.first).filter(|nth| *nth < codes.count) else { continue };
        text.push(u8::try_from(LETTERS[codes.begin + nth as usize]).ok()?);
        (code, length) = (0, 0);
    }
    Some(text)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// Any bytes, those of the long codes (which begin with ones) more often than chance has them.
    #[test]
    fn a_code_is_read_as_bit_by_bit(
        bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(0xFF_u8), 0xF8..=0xFF_u8], 0..40)
    ) {
        let mut text = Vec::new();
        let read = decode(&bytes, |letter| text.push(letter)).map(|()| text);
        prop_assert_eq!(read, bit_by_bit(&bytes));
    }

    #[test]
    fn any_text_is_read_from_its_code(text in proptest::collection::vec(any::<u8>(), 0..60)) {
        let mut read = Vec::new();
        prop_assert_eq!(decode(&coded(&text), |letter| read.push(letter)), Some(()));
        prop_assert_eq!(read, text);
    }
}
