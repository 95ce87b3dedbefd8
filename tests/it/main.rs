//! The gateway as its users meet it: one binary, a module per station.

mod framing;
