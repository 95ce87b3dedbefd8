//! The system's own syslog: datagrams to a socket of this machine.

use std::io;
#[cfg(unix)]
use std::os::unix::net::UnixDatagram;

use super::{SyslogFormat, outflow::Writer};

/// Returns the writer of datagrams to this socket. The socket is opened with the first record, and again after a failure: a syslog
/// server may be restarted at any time.
#[cfg(unix)]
pub(super) fn writer(path: &str, format: SyslogFormat) -> Writer {
    let path = path.to_owned();
    let mut socket: Option<UnixDatagram> = None;
    let mut message = Vec::new();
    Box::new(move |lines| {
        let mut lost = 0;
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            message.clear();
            format.write(line, &mut message);
            let mut sent = socket.as_ref().map_or(Err(io::ErrorKind::NotConnected.into()), |socket| socket.send(&message));
            if sent.is_err() {
                let opened = open(&path)?;
                sent = opened.send(&message);
                socket = Some(opened);
            }
            lost += u64::from(sent.is_err());
        }
        Ok(lost)
    })
}

#[cfg(unix)]
fn open(path: &str) -> io::Result<UnixDatagram> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{path}: {error}"));
    let socket = UnixDatagram::unbound()?;
    socket.connect(path).map_err(named)?;
    Ok(socket)
}

#[cfg(not(unix))]
pub(super) fn writer(_: &str, _: SyslogFormat) -> Writer {
    Box::new(|_| Err(io::ErrorKind::Unsupported.into()))
}
