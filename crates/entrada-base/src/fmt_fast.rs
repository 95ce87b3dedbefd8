//! Numbers and addresses as text for what is written with every request, without the machinery of `fmt`.

use std::{
    io::Write,
    net::{IpAddr, SocketAddr},
};

/// The decimal digits of the numbers below 100, two each.
static DECIMAL: [[u8; 2]; 100] = pairs(10);
/// The hexadecimal digits of the numbers below 256, two each.
static HEXADECIMAL: [[u8; 2]; 256] = pairs(16);

const fn pairs<const N: usize>(base: usize) -> [[u8; 2]; N] {
    let digits = b"0123456789abcdef";
    let mut pairs = [[0; 2]; N];
    let mut number = 0;
    while number < N {
        pairs[number] = [digits[number / base], digits[number % base]];
        number += 1;
    }
    pairs
}

/// Writes a number in decimal.
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

/// Fills the room, which is for 32 digits at most, with the last digits of a number in hexadecimal, in lower case.
pub fn hexadecimal(room: &mut [u8], number: u128) {
    debug_assert!(room.len() <= 32, "a number has no more digits");
    let bytes = number.to_le_bytes();
    let (first, pairs) = room.as_rchunks_mut();
    // Pair by pair, not as slices of two: these would be copied by a call each.
    for (pair, byte) in pairs.iter_mut().rev().zip(bytes) {
        *pair = HEXADECIMAL[usize::from(byte)];
    }
    if let ([digit], Some(byte)) = (first, bytes.get(pairs.len())) {
        *digit = HEXADECIMAL[usize::from(*byte)][1];
    }
}

/// Writes an address as `Display` does.
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
            let mut room = [0; 32];
            hexadecimal(&mut room, wide);
            prop_assert_eq!(std::str::from_utf8(&room).unwrap(), format!("{wide:032x}"));
            let mut odd = [0; 7];
            hexadecimal(&mut odd, wide);
            prop_assert_eq!(std::str::from_utf8(&odd).unwrap(), format!("{:07x}", wide & 0xFFF_FFFF));
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
