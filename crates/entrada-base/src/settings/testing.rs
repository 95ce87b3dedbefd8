//! Parts of a config, for tests.

#![allow(missing_docs, missing_debug_implementations, clippy::unwrap_used, reason = "helpers of tests alone")]

use std::path::Path;

use serde::de::DeserializeOwned;

/// Reads a part of a config from YAML.
pub fn part<T: DeserializeOwned>(yaml: &str) -> T {
    let mut findings = Vec::new();
    let node = super::yaml::read(yaml, 0, &mut findings, &mut Vec::new());
    assert!(findings.is_empty(), "{yaml}");
    super::deserialize::settings(&node).expect("a part of a config")
}

/// Writes files below a folder.
pub fn write_all(folder: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(&path, text).expect("written");
        // As an operator leaves them: some hold secrets, which `check` looks at.
        #[cfg(unix)]
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("its owner's");
    }
}
