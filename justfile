# Commands for those who work on entrada; `just` lists them. Without just: CONTRIBUTING.md has the plain commands.

# Lists these recipes.
default:
    @just --list

# Checks that everything compiles.
check:
    cargo check --all-targets

# Formats and lints, as CI does.
lint:
    cargo fmt --all
    cargo clippy --locked --all-targets -- -D warnings

# Runs all tests, or those whose name contains the filter.
test filter="":
    cargo test --locked {{filter}}

# Runs stories with a whole gateway: `just story reload::`.
story filter="":
    cargo test --locked --test it {{filter}}

# Writes anew what is generated: reference pages and the JSON Schema.
bless:
    ENTRADA_BLESS=1 cargo test --locked --test it reference

# Shows what the program does, with nothing else around.
demo:
    cargo run --release -- demo

# Serves a config.
run config="config/entrada.yaml":
    cargo run -- run --config {{config}}

# Opens the documentation of the code.
docs:
    cargo doc --no-deps --open

# Counts what a request costs in instructions and allocations.
counts:
    cargo build --locked --release
    python3 benches/instructions.py
    cargo test --locked --test allocations -- --nocapture

# Runs steps of CI; all of them without a name.
ci *steps:
    .ci/run {{steps}}

# Puts the pre-commit hook into this clone.
hook:
    ln -sf ../../contrib/pre-commit "$(git rev-parse --git-path hooks)/pre-commit"
