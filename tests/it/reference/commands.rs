//! `docs/commands.md`.

use clap::{Arg, Command, CommandFactory as _};

use super::{cell, hold_blocks, read, rows};

const PAGE: &str = "docs/commands.md";

/// Returns the executable commands, by the words that call them.
fn commands() -> Vec<(String, Command)> {
    fn gather(words: &str, command: &Command, into: &mut Vec<(String, Command)>) {
        let mut below = command.get_subcommands().filter(|command| command.get_name() != "help").peekable();
        if below.peek().is_none() {
            into.push((words.to_owned(), command.clone()));
        }
        below.for_each(|command| gather(&format!("{words} {}", command.get_name()), command, into));
    }
    let mut program = entrada::cli::Arguments::command();
    program.build();
    let mut commands = Vec::new();
    gather("entrada", &program, &mut commands);
    commands
}

fn names(argument: &Arg) -> String {
    let value = || {
        let names = argument.get_value_names().unwrap_or_default();
        names.iter().map(|name| format!("<{name}>")).collect::<Vec<_>>().join(" ")
    };
    let value = if argument.get_action().takes_values() { value() } else { String::new() };
    match (argument.get_long(), argument.is_required_set()) {
        (Some(long), required) => {
            let required = if required { " (required)" } else { "" };
            format!("`{}`{required}", format!("--{long} {value}").trim_end())
        }
        (None, true) => format!("`{value}` (required)"),
        (None, false) => format!("`[{}]`", value.trim_matches(['<', '>'])),
    }
}

fn default(argument: &Arg) -> String {
    if !argument.get_action().takes_values() {
        return String::new();
    }
    let defaults: Vec<_> = argument.get_default_values().iter().map(|value| format!("`{}`", value.to_string_lossy())).collect();
    let environment = argument.get_env().map(|name| format!("`${}`", name.to_string_lossy()));
    environment.into_iter().chain(defaults).collect::<Vec<_>>().join(", else ")
}

fn help(argument: &Arg) -> String {
    let mut text = cell(&argument.get_help().map(ToString::to_string).unwrap_or_default());
    let values: Vec<_> = argument.get_possible_values().iter().map(|value| format!("`{}`", value.get_name())).collect();
    if argument.get_action().takes_values() && !values.is_empty() {
        text.push_str(&format!(": {}", values.join(", ")));
    }
    text
}

#[test]
fn commands_and_their_arguments_are_the_programs() {
    let mut blocks = Vec::new();
    for (words, command) in commands() {
        let mut text = format!("{}.\n", command.get_about().map(ToString::to_string).unwrap_or_default());
        let arguments = command.get_arguments().filter(|argument| !argument.is_hide_set());
        let arguments: Vec<_> = arguments.filter(|argument| !matches!(argument.get_id().as_str(), "help" | "version")).collect();
        if !arguments.is_empty() {
            text.push_str("\n| argument | default | what it does |\n| --- | --- | --- |\n");
        }
        for argument in arguments {
            text.push_str(&format!("| {} | {} | {} |\n", names(argument), default(argument), help(argument)));
        }
        blocks.push((words, text));
    }

    hold_blocks(PAGE, &blocks);
}

#[test]
fn every_command_has_its_exit_codes() {
    let told = rows(&read(PAGE), "## Exit codes");
    let told: Vec<_> = told.iter().map(|row| row[0].trim_matches('`').to_owned()).collect();

    for (words, _) in commands() {
        assert!(told.contains(&words), "{PAGE}: write a row of exit codes for `{words}`");
    }
}
