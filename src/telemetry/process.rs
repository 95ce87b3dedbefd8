//! Metrics of the process itself, by the names that Prometheus' clients use.

use super::exposition::MetricsText;

/// The revision that the program was built from, where the build names one.
const REVISION: &str = match option_env!("ENTRADA_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

/// Writes the build, and what the system knows of the process.
pub fn write_process(text: &mut MetricsText) {
    text.family("entrada_build_info", "gauge", "The program's version and revision; always 1.");
    text.sample("entrada_build_info", &[("version", env!("CARGO_PKG_VERSION")), ("revision", REVISION)], 1);
    #[cfg(target_os = "linux")]
    if let Some(process) = linux::Process::read() {
        process.write(text);
    }
}

/// The figures that Linux gives in `/proc`.
#[cfg(target_os = "linux")]
mod linux {
    use std::fs;

    use super::MetricsText;

    #[derive(Debug, PartialEq)]
    pub(super) struct Process {
        cpu_seconds: f64,
        threads: u64,
        virtual_bytes: u64,
        resident_bytes: u64,
        start_seconds: Option<f64>,
        open_files: Option<u64>,
        most_files: Option<u64>,
    }

    impl Process {
        pub(super) fn read() -> Option<Self> {
            let mut process = Self::parse(&fs::read_to_string("/proc/self/stat").ok()?)?;
            let boot = fs::read_to_string("/proc/stat").ok();
            let boot =
                boot.as_deref().and_then(|stat| stat.lines().find_map(|line| line.strip_prefix("btime ")?.parse::<f64>().ok()));
            process.start_seconds = process.start_seconds.zip(boot).map(|(since_boot, boot)| boot + since_boot);
            process.open_files = fs::read_dir("/proc/self/fd").ok().map(|files| files.count() as u64);
            process.most_files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
            Some(process)
        }

        /// Reads `/proc/self/stat`: the fields after the program's name, which may hold anything.
        #[expect(clippy::cast_precision_loss, reason = "seconds since the start of a process are small")]
        pub(super) fn parse(stat: &str) -> Option<Self> {
            let (_, fields) = stat.rsplit_once(") ")?;
            let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
            // The numbers of proc_pid_stat(5), of which the name is the second.
            let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
            let ticks = rustix::param::clock_ticks_per_second() as f64;
            Some(Self {
                cpu_seconds: (field(14)? + field(15)?) as f64 / ticks,
                threads: field(20)?,
                start_seconds: field(22).map(|since_boot| since_boot as f64 / ticks),
                virtual_bytes: field(23)?,
                resident_bytes: field(24)? * rustix::param::page_size() as u64,
                open_files: None,
                most_files: None,
            })
        }

        pub(super) fn write(&self, text: &mut MetricsText) {
            text.single(
                "process_cpu_seconds_total",
                "counter",
                "CPU time, of the system on its behalf included.",
                self.cpu_seconds,
            );
            text.single("process_resident_memory_bytes", "gauge", "Memory that is resident.", self.resident_bytes);
            text.single("process_virtual_memory_bytes", "gauge", "Memory that is mapped.", self.virtual_bytes);
            text.single("process_threads", "gauge", "Threads.", self.threads);
            text.family("process_start_time_seconds", "gauge", "When the process was started, in seconds since 1970.");
            if let Some(start) = self.start_seconds {
                text.sample("process_start_time_seconds", &[], start);
            }
            text.family("process_open_fds", "gauge", "Open files and sockets.");
            if let Some(open) = self.open_files {
                text.sample("process_open_fds", &[], open);
            }
            text.family("process_max_fds", "gauge", "Files and sockets that may be open.");
            if let Some(most) = self.most_files {
                text.sample("process_max_fds", &[], most);
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn the_line_of_the_system_is_read_whatever_the_programs_name_is() {
            let stat =
                "42 (a) b (c) S 1 42 42 0 -1 4194560 900 0 0 0 250 150 0 0 20 0 7 0 1000 1048576 25 18446744073709551615 1 1";

            let process = Process::parse(stat).unwrap();

            let ticks = rustix::param::clock_ticks_per_second() as f64;
            assert_eq!((process.threads, process.virtual_bytes), (7, 1 << 20));
            assert!((process.cpu_seconds - 400.0 / ticks).abs() < 1e-9, "{process:?}");
            assert_eq!(process.resident_bytes, 25 * rustix::param::page_size() as u64);
            assert_eq!(Process::parse("no line"), None);
        }

        #[test]
        fn this_process_has_memory_files_and_a_start() {
            let process = Process::read().unwrap();

            assert!(process.resident_bytes > 1 << 20 && process.threads > 0, "{process:?}");
            assert!(process.open_files.is_some_and(|open| open > 0) && process.start_seconds.is_some_and(|start| start > 1e9));
        }
    }
}
