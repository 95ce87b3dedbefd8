//! The tools of the tests: a tenant that issues tokens, an upstream that records requests, a gateway, and a caller.

mod authority;
mod caller;
mod gateway;
mod protobuf;
mod raw_upstream;
mod test_bed;
mod upstream;
mod wait;

pub(crate) use authority::{Authority, Identity, client_of, self_signed, tls_of};
pub(crate) use caller::{Answer, RawConnection};
pub(crate) use gateway::{Call, Gateway, SEEN_CODES};
pub(crate) use protobuf::{Fields, Written};
pub(crate) use raw_upstream::{RawUpstream, Step};
pub(crate) use test_bed::{ORDERS_TOKEN, TestBed, config};
pub(crate) use upstream::{Received, Upstream};
pub(crate) use wait::{LONGEST_WAIT, eventually};
