//! One file per command.

pub mod certificate;
pub mod dev_tenant;
