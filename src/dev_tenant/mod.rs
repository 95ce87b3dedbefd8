//! The development tenant.
