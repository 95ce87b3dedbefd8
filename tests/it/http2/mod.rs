//! Tests of HTTP/2 towards callers: a client's abuse of a connection, frame by frame.

mod deadlines;
mod endings;
mod floods;
mod heads;
mod interim;
pub(crate) mod raw;
mod unseen;
mod unsent;
mod uploads;
mod websocket;
