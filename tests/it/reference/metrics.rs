//! `docs/metrics.md`.

use super::{cell, hold_blocks};
use crate::metrics::{busy, families};

#[tokio::test]
async fn every_metric_is_documented_with_its_type_and_labels() {
    let (_tenant, _upstream, gateway, _folder) = busy().await;
    let text = gateway.metrics().await;

    let mut table = "| metric | type | labels | meaning |\n| --- | --- | --- | --- |\n".to_owned();
    for (name, (kind, labels)) in families(&text) {
        let help = text.lines().find_map(|line| line.strip_prefix(&format!("# HELP {name} "))).unwrap();
        let labels: Vec<_> = labels.iter().filter(|label| *label != "le").map(|label| format!("`{label}`")).collect();
        table.push_str(&format!("| `{name}` | {kind} | {} | {} |\n", labels.join(", "), cell(help)));
    }

    hold_blocks("docs/metrics.md", &[("Families".to_owned(), table)]);
}
