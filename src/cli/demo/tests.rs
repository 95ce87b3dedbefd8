//! Tests that the demo's statements are true, and that it would notice if they were not.

use std::sync::Mutex;

use super::*;
use crate::cases::{Runner, Suite, mutation::Mutation};

/// Runs one demo at a time, since gateways start threads and listeners of their own.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn walked(broken: Option<usize>) -> Vec<Outcome> {
    let _guard = ONE_AT_A_TIME.lock();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("runtime");
    let environment = Environment::set(&runtime).expect("stage");
    let outcomes = runtime
        .block_on(async {
            environment.ready().await?;
            walk::walk(&environment, broken).await
        })
        .expect("walks");
    let farewell = environment.farewell();
    assert!(farewell.contains("curl -i http://127.0.0.1:") && farewell.contains("console"), "{farewell}");
    environment.strike();
    outcomes
}

#[test]
fn every_outcome_is_as_expected() {
    let outcomes = walked(None);

    let table = table::render(&outcomes, false);
    assert!(outcomes.len() >= 10 && outcomes.iter().all(Outcome::is_as_expected), "{table}");
    assert!(!table.contains('\x1b') && table::render(&outcomes, true).contains("\x1b[32m"));
}

#[test]
fn its_config_has_test_cases_that_notice_most_changes() {
    let _guard = ONE_AT_A_TIME.lock();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("runtime");
    let environment = Environment::set(&runtime).expect("stage");
    let suites = Suite::load(&environment.config_file()).expect("it has cases");
    let suite = &suites[0];
    let mut runner = Runner::new(&suite.document, suite.cases[0].now).expect("it can be compiled");

    for case in &suite.cases {
        let result = runner.run(case, false, &mut |_| ()).expect("it can be run");
        assert!(result.failure.is_none(), "{}: {:?}", case.name, result.failure);
    }
    let mutation = Mutation::run(suite, &mut runner).expect("it can be run");

    assert!(mutation.score() >= 90, "{:#?}", mutation.survivors().collect::<Vec<_>>());
    environment.strike();
}

/// Returns the exit code of the command, as a shell sees it.
fn exit_code(line: &[&str]) -> String {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        arguments: DemoArguments,
    }
    let _guard = ONE_AT_A_TIME.lock();
    let line = <Line as clap::Parser>::try_parse_from(["demo", "--once", "--format", "json"].iter().chain(line)).expect("parses");
    format!("{:?}", run(&line.arguments).expect("runs"))
}

#[test]
fn the_exit_code_tells_whether_all_was_as_expected() {
    assert_eq!(exit_code(&[]), format!("{:?}", ExitCode::SUCCESS));
    assert_eq!(exit_code(&["--break-expectation", "9"]), format!("{:?}", ExitCode::from(1)));
}

#[test]
fn a_broken_expectation_is_noticed() {
    let outcomes = walked(Some(1));

    assert_eq!(outcomes.iter().filter(|outcome| !outcome.is_as_expected()).count(), 1);
    assert!(table::render(&outcomes, false).contains("not as expected: the status should be 418"));
}
