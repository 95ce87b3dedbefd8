//! Checks the links of pages.

use entrada::Reason;

use super::{read, root};

fn pages() -> Vec<String> {
    let mut pages = vec!["README.md".to_owned(), "CONTRIBUTING.md".to_owned(), "SECURITY.md".to_owned()];
    for entry in std::fs::read_dir(root().join("docs")).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        if name.ends_with(".md") {
            pages.push(format!("docs/{name}"));
        }
    }
    pages.sort();
    pages
}

/// Returns the anchor of a heading, as repository hosts make it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[test]
fn every_link_between_pages_leads_somewhere() {
    let mut broken = Vec::new();
    for page in pages() {
        let text = read(&page);
        let folder = root().join(&page).parent().unwrap().to_owned();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") || link.starts_with("mailto:") || link.contains(' ') {
                continue;
            }
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { root().join(&page) } else { folder.join(path) };
            if !target.exists() {
                broken.push(format!("{page}: {link}"));
            } else if !heading.is_empty() {
                let target = std::fs::read_to_string(target).unwrap();
                let headings = target.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#'));
                if !headings.map(anchor).any(|known| known == heading) {
                    broken.push(format!("{page}: {link} (no such heading)"));
                }
            }
        }
    }

    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn the_index_names_every_page() {
    let index = read("docs/README.md");
    for page in pages() {
        if let Some(name) = page.strip_prefix("docs/").filter(|name| *name != "README.md") {
            assert!(
                index.contains(&format!("| {name} |")) || index.contains(&format!("]({name})")),
                "docs/README.md: a row for {name}"
            );
        }
    }
}

#[test]
fn refusals_that_policies_name_exist() {
    for paragraph in read("docs/policies.md").split("\n\n").filter(|paragraph| paragraph.starts_with("Refuses with")) {
        for code in paragraph.split('`').skip(1).step_by(2).filter(|word| word.contains('-') && !word.contains('A')) {
            assert!(Reason::ALL.iter().any(|reason| reason.code() == code), "docs/policies.md: {code}");
        }
    }
}
