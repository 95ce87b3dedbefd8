//! Numbers and addresses as text for what is written with every request, without the machinery of `fmt`.

use std::{
    io::Write,
    net::{IpAddr, SocketAddr},
};

/// The decimal digits of the numbers below 100, two each.
static DECIMAL: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut number = 0;
    while number < pairs.len() {
        pairs[number] = [b'0' + number as u8 / 10, b'0' + number as u8 % 10];
        number += 1;
    }
    pairs
};

/// Writes a number in decimal.
// A request comes here several times, and each inlined copy would take room in the first-level cache.
#[inline(never)]
pub fn decimal(out: &mut Vec<u8>, mut number: u64) {
    // Many a number of a record is 0.
    if number < 10 {
        return out.push(b'0' + number as u8);
    }
    let mut digits = [0; 20];
    let mut at = digits.len();
    while number >= 10 {
        at -= 2;
        digits[at..at + 2].copy_from_slice(&DECIMAL[(number % 100) as usize]);
        number /= 100;
    }
    if number > 0 {
        at -= 1;
        digits[at] = b'0' + number as u8;
    }
    out.extend_from_slice(&digits[at..]);
}

/// Fills the room with the last digits of a number in decimal.
pub fn decimal_digits(room: &mut [u8], mut number: u64) {
    let (first, pairs) = room.as_rchunks_mut();
    for pair in pairs.iter_mut().rev() {
        *pair = DECIMAL[(number % 100) as usize];
        number /= 100;
    }
    if let [digit] = first {
        *digit = DECIMAL[(number % 100) as usize][1];
    }
}

/// Writes a number below 256 in decimal.
fn octet(out: &mut Vec<u8>, number: u8) {
    if number >= 100 {
        out.push(b'0' + number / 100);
    }
    if number >= 10 {
        out.push(b'0' + number / 10 % 10);
    }
    out.push(b'0' + number % 10);
}

/// Returns a number in hexadecimal, in lower case, with all its digits.
#[inline(never)]
pub const fn hexadecimal(number: u128) -> [u8; 32] {
    let mut digits = [0; 32];
    let (eights, _) = digits.as_chunks_mut();
    let mut index = 0;
    while index < eights.len() {
        eights[index] = eight_digits((number >> (96 - 32 * index)) as u32);
        index += 1;
    }
    digits
}

/// Returns a number in hexadecimal, in lower case: all digits at once.
const fn eight_digits(number: u32) -> [u8; 8] {
    const ONES: u64 = u64::MAX / 0xFF;
    // Each digit in a byte of its own.
    let mut digits = number as u64;
    digits = (digits << 16 | digits) & 0x0000_FFFF_0000_FFFF;
    digits = (digits << 8 | digits) & 0x00FF_00FF_00FF_00FF;
    digits = (digits << 4 | digits) & 0x0F0F_0F0F_0F0F_0F0F;
    // A digit above 9 reaches the next bit when 6 is added.
    let letters = (digits + 6 * ONES) >> 4 & ONES;
    (digits + b'0' as u64 * ONES + (b'a' - b'9' - 1) as u64 * letters).to_be_bytes()
}

/// Writes an address as `Display` does.
#[inline(never)]
pub fn address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            for (index, number) in address.octets().into_iter().enumerate() {
                if index > 0 {
                    out.push(b'.');
                }
                octet(out, number);
            }
        }
        // Writing to a vector cannot fail.
        IpAddr::V6(address) => drop(write!(out, "{address}")),
    }
}

/// Writes address and port as `Display` does.
pub fn socket_address(out: &mut Vec<u8>, socket: SocketAddr) {
    match socket {
        SocketAddr::V4(socket) => {
            address(out, (*socket.ip()).into());
            out.push(b':');
            decimal(out, socket.port().into());
        }
        SocketAddr::V6(socket) => drop(write!(out, "{socket}")),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    proptest! {
        #[test]
        fn reads_as_fmt_would_write_it(number in any::<u64>(), wide in any::<u128>(), four in any::<u32>(), port in any::<u16>()) {
            prop_assert_eq!(written(|out| decimal(out, number)), number.to_string());
            let digits = hexadecimal(wide);
            prop_assert_eq!(std::str::from_utf8(&digits).unwrap(), format!("{wide:032x}"));
            let mut odd = [0; 7];
            decimal_digits(&mut odd, number);
            prop_assert_eq!(std::str::from_utf8(&odd).unwrap(), format!("{:07}", number % 10_000_000));
            for ip in [IpAddr::from(Ipv4Addr::from(four)), IpAddr::from(Ipv6Addr::from(wide))] {
                prop_assert_eq!(written(|out| address(out, ip)), ip.to_string());
                let socket = SocketAddr::new(ip, port);
                prop_assert_eq!(written(|out| socket_address(out, socket)), socket.to_string());
            }
        }
    }

    #[test]
    fn writes_the_ends_of_the_range() {
        for number in (0..=10_010).chain([99_999, 100_000, 1_000_000]) {
            assert_eq!(written(|out| decimal(out, number)), number.to_string());
        }
        assert_eq!(written(|out| decimal(out, u64::MAX)), u64::MAX.to_string());
    }
}
