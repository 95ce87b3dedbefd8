//! The command line: one file per command.
//!
//! Exit codes: 0 success, 1 a negative result, 2 wrong usage or cannot start.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub mod audit;
pub mod certificate;
pub mod check;
pub mod claims_mapping;
pub mod completions;
pub mod config_file;
mod credentials;
pub mod demo;
pub mod dev_tenant;
pub mod diff;
pub mod doctor;
pub mod explain;
pub mod health;
pub mod import;
mod platform;
pub mod run;
pub mod schema;
pub mod test;
pub mod token;

/// The arguments of the program.
#[derive(Debug, Parser)]
#[command(name = "entrada", version, about = "An authenticating reverse proxy for Microsoft Entra ID", propagate_version = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the routes of a config
    Run(run::RunArguments),
    /// Show it at work: a tenant, two backends and a gateway in one process
    Demo(demo::DemoArguments),
    /// Report every problem of a config, without serving it
    Check(check::CheckArguments),
    /// Run the test cases of a config, without a network
    Test(test::TestArguments),
    /// Print the JSON Schema of the config
    Schema(schema::SchemaArguments),
    /// Simulate Entra on this machine: metadata, keys and tokens for development and tests
    DevTenant(dev_tenant::DevTenantArguments),
    /// Make certificates for app registrations, and show the content of one
    Certificate(certificate::CertificateArguments),
    /// Print the claims-mapping policy for a claim
    ClaimsMapping(claims_mapping::ClaimsMappingArguments),
    /// Show the content of a token and the check it fails, or acquire one of the gateway's own
    Token(token::TokenArguments),
    /// Explain the decision on one request: each step, and the fact that would turn it
    Explain(Box<explain::ExplainArguments>),
    /// Verify files of audit records, show them, or decide their requests once more
    Audit(audit::AuditArguments),
    /// Compare two configs: who gains access, who loses it, and what changes otherwise
    Diff(diff::DiffArguments),
    /// Examine each credential, and report the broken link of its chain and its cure
    Doctor(doctor::DoctorArguments),
    /// Import policies and estates of Azure API Management
    Import(import::ImportArguments),
    /// Ask a running gateway whether it is ready, as the health check of a container
    Health(health::HealthArguments),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArguments),
}

impl Arguments {
    /// Runs the command.
    ///
    /// # Errors
    /// Returns the error that stopped it; the program then exits with 2.
    pub fn execute(self) -> anyhow::Result<ExitCode> {
        // Every command that handles keys and tokens is one too many to remember: it holds for all.
        crate::base::process_limits::forbid_core_files();
        match self.command {
            Command::Run(arguments) => run::run(&arguments),
            Command::Demo(arguments) => demo::run(&arguments),
            Command::Check(arguments) => check::run(&arguments),
            Command::Test(arguments) => test::run(&arguments),
            Command::Schema(arguments) => schema::run(&arguments),
            Command::DevTenant(arguments) => dev_tenant::run(&arguments),
            Command::Certificate(arguments) => certificate::run(&arguments),
            Command::ClaimsMapping(arguments) => claims_mapping::run(&arguments),
            Command::Token(arguments) => token::run(&arguments),
            Command::Explain(arguments) => explain::run(&arguments),
            Command::Audit(arguments) => audit::run(&arguments),
            Command::Diff(arguments) => diff::run(&arguments),
            Command::Doctor(arguments) => doctor::run(&arguments),
            Command::Import(arguments) => import::run(&arguments),
            Command::Health(arguments) => health::run(&arguments),
            Command::Completions(arguments) => completions::run(&arguments),
        }
    }
}
