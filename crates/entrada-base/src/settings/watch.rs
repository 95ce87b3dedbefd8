//! Watches the files of a config, and the certificates, keys and address lists that it names, for changes.
//!
//! The operating system watches folders, not files: editors and Kubernetes replace a file with a new one of the same name, and a
//! watch on the old file would never fire. Notifications may be missing (network file systems, too many watches), so the files
//! are also checked at intervals. Only the check decides; a notification makes it happen at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::{sync::Notify, time::Instant};

/// The interval of the checks without a notification.
const POLL: Duration = Duration::from_secs(10);
/// The quiet time before a change counts, so that related changes (a certificate and its key) arrive together.
const QUIET: Duration = Duration::from_millis(200);
/// The longest wait for a quiet moment in a folder that changes all the time.
const PATIENCE: Duration = Duration::from_secs(2);

/// Watches files and folders.
#[derive(Debug)]
pub struct Watch {
    seen: BTreeMap<PathBuf, Option<FileState>>,
    told: Arc<Notify>,
    watcher: Option<RecommendedWatcher>,
    folders: BTreeSet<PathBuf>,
    poll: Duration,
}

/// The identity of one state of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct FileState {
    changed: Option<SystemTime>,
    length: u64,
    node: u64,
}

impl FileState {
    /// Returns the state of the file, following links; `None` if it does not exist.
    fn of(path: &Path) -> Option<Self> {
        let data = std::fs::metadata(path).ok()?;
        #[cfg(unix)]
        let node = std::os::unix::fs::MetadataExt::ino(&data);
        #[cfg(not(unix))]
        let node = 0;
        Some(Self { changed: data.modified().ok(), length: data.len(), node })
    }
}

impl Watch {
    /// Watches these files and folders; for a folder, its list of files. They need not exist yet.
    pub fn new(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let told = Arc::new(Notify::new());
        // That somebody reads a file is no news, and we do ourselves.
        let is_news = |event: &notify::Result<notify::Event>| event.as_ref().map_or(true, |event| !event.kind.is_access());
        let tell = told.clone();
        let on_event = move |event| {
            if is_news(&event) {
                tell.notify_one();
            }
        };
        let watcher = notify::recommended_watcher(on_event)
            .inspect_err(
                |error| tracing::warn!(%error, "the system does not tell of changed files; they are looked at every {POLL:?}"),
            )
            .ok();
        let mut watch = Self { seen: BTreeMap::new(), told, watcher, folders: BTreeSet::new(), poll: POLL };
        watch.set(paths);
        watch
    }

    /// Watches these files and folders from now on.
    ///
    /// For those that were watched before, a change since [`changed`](Self::changed) last returned still counts: one that came
    /// while the config was being read is not lost.
    pub fn set(&mut self, paths: impl IntoIterator<Item = PathBuf>) {
        let mut before = std::mem::take(&mut self.seen);
        for path in paths {
            let stamp = before.remove(&path).unwrap_or_else(|| FileState::of(&path));
            self.seen.insert(path, stamp);
        }
        let wanted = self.seen.keys().flat_map(|path| folders(path)).collect::<BTreeSet<_>>();
        let Some(watcher) = &mut self.watcher else { return };
        for folder in self.folders.difference(&wanted) {
            // It may be gone already, which is as good.
            let _ = watcher.unwatch(folder);
        }
        let mut watched = BTreeSet::new();
        for folder in wanted {
            if self.folders.contains(&folder) || watcher.watch(&folder, RecursiveMode::NonRecursive).is_ok() {
                watched.insert(folder);
            } else {
                tracing::debug!(folder = %folder.display(), "the system does not watch this folder");
            }
        }
        self.folders = watched;
    }

    /// Waits until any of the files has changed, appeared or disappeared, and then for a quiet moment. Returns those files.
    ///
    /// Cancel safe: a change is found again after a drop.
    pub async fn changed(&mut self) -> Vec<PathBuf> {
        loop {
            let told = tokio::time::timeout(self.poll, self.told.notified()).await.is_ok();
            if told {
                self.calm().await;
            }
            let now = self.look().await;
            if now != self.seen {
                let before = std::mem::replace(&mut self.seen, now);
                return self
                    .seen
                    .iter()
                    .filter(|(path, state)| before.get(*path) != Some(state))
                    .map(|(path, _)| path.clone())
                    .collect();
            }
        }
    }

    /// Waits for a quiet moment, but not for ever.
    async fn calm(&self) {
        let end = Instant::now() + PATIENCE;
        while let Some(rest) = end.checked_duration_since(Instant::now()) {
            if tokio::time::timeout(QUIET.min(rest), self.told.notified()).await.is_err() {
                return;
            }
        }
    }

    async fn look(&self) -> BTreeMap<PathBuf, Option<FileState>> {
        let paths: Vec<PathBuf> = self.seen.keys().cloned().collect();
        let look =
            move || paths.into_iter().map(|path| (FileState::of(&path), path)).map(|(stamp, path)| (path, stamp)).collect();
        // Only a runtime that is shutting down drops the task; then nothing is seen any more.
        tokio::task::spawn_blocking(look).await.unwrap_or_else(|_| self.seen.clone())
    }
}

/// Returns the folders in which a change of the path shows: its own, and those of its link targets.
fn folders(path: &Path) -> impl Iterator<Item = PathBuf> {
    let parent = |path: &Path| match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Some(PathBuf::from(".")),
        parent => parent.map(Path::to_owned),
    };
    let target = path.canonicalize().ok();
    let own = if path.is_dir() { Some(path.to_owned()) } else { parent(path) };
    own.into_iter().chain(target.as_deref().filter(|target| !target.is_dir()).and_then(parent))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits far longer than a notification takes, so that only a missing notification fails.
    async fn notices(watch: &mut Watch) -> bool {
        tokio::time::timeout(Duration::from_secs(60), watch.changed()).await.is_ok()
    }

    fn polling(paths: &[PathBuf]) -> Watch {
        Watch { watcher: None, poll: Duration::from_millis(5), ..Watch::new(paths.iter().cloned()) }
    }

    #[tokio::test]
    async fn notices_files_that_are_written_replaced_made_and_removed() {
        for told in [true, false] {
            let folder = tempfile::tempdir().expect("a folder");
            let file = folder.path().join("a.yaml");
            std::fs::write(&file, "one").expect("written");
            let mut watch = if told { Watch::new([file.clone()]) } else { polling(std::slice::from_ref(&file)) };

            std::fs::write(&file, "three").expect("written");
            assert!(notices(&mut watch).await, "written");

            std::fs::write(folder.path().join("new"), "three").expect("written");
            std::fs::rename(folder.path().join("new"), &file).expect("renamed");
            assert!(notices(&mut watch).await, "replaced");

            std::fs::remove_file(&file).expect("removed");
            assert!(notices(&mut watch).await, "removed");

            std::fs::write(&file, "four").expect("written");
            assert!(notices(&mut watch).await, "made");
        }
    }

    /// Replaces a link as Kubernetes does for config maps: the file is a link through a link that is replaced.
    #[cfg(unix)]
    #[tokio::test]
    async fn notices_links_that_are_turned() {
        use std::os::unix::fs::symlink;

        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        for version in ["..1", "..2"] {
            std::fs::create_dir(path(version)).expect("made");
            std::fs::write(path(version).join("a.yaml"), "same").expect("written");
        }
        symlink("..1", path("..data")).expect("linked");
        symlink("..data/a.yaml", path("a.yaml")).expect("linked");
        let mut watch = Watch::new([path("a.yaml")]);

        symlink("..2", path("..new")).expect("linked");
        std::fs::rename(path("..new"), path("..data")).expect("renamed");

        assert!(notices(&mut watch).await);
    }

    #[tokio::test]
    async fn notices_new_files_in_a_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut watch = Watch::new([folder.path().to_owned()]);

        std::fs::write(folder.path().join("b.yaml"), "").expect("written");

        assert!(notices(&mut watch).await);
    }

    #[tokio::test]
    async fn changes_while_the_config_is_read_again_are_not_lost() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a.yaml");
        std::fs::write(&file, "one").expect("written");
        let mut watch = Watch::new([file.clone()]);
        std::fs::write(&file, "two!").expect("written");
        assert!(notices(&mut watch).await);

        std::fs::write(&file, "three").expect("written");
        watch.set([file.clone(), folder.path().join("b.yaml")]);

        assert!(notices(&mut watch).await);
    }
}
