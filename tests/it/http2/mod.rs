//! HTTP/2 towards callers: what a client may do to a connection, frame by frame, and what it cannot keep.

mod deadlines;
mod endings;
mod floods;
mod heads;
mod interim;
mod raw;
mod uploads;
