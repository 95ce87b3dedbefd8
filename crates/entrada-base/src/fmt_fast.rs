//! Numbers and addresses as text for what is written with every request, without the machinery of `fmt`.

use std::{
    io::Write,
    net::{IpAddr, SocketAddr},
};

/// Writes a number in decimal.
pub fn decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
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

/// Fills the room with the last digits of a number in hexadecimal, in lower case.
pub fn hexadecimal(room: &mut [u8], mut number: u128) {
    for digit in room.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 15) as usize];
        number >>= 4;
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
            for ip in [IpAddr::from(Ipv4Addr::from(four)), IpAddr::from(Ipv6Addr::from(wide))] {
                prop_assert_eq!(written(|out| address(out, ip)), ip.to_string());
                let socket = SocketAddr::new(ip, port);
                prop_assert_eq!(written(|out| socket_address(out, socket)), socket.to_string());
            }
        }
    }

    #[test]
    fn writes_the_ends_of_the_range() {
        assert_eq!(written(|out| decimal(out, 0)), "0");
        assert_eq!(written(|out| decimal(out, u64::MAX)), u64::MAX.to_string());
    }
}
