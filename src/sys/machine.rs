//! What this machine has, and what we use of it.

/// How many threads may run at once: affinity and control groups are heeded.
pub fn usable_cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The most memory that this process has had resident, in bytes, where the system tells.
pub fn peak_rss_bytes() -> Option<u64> {
    status_bytes("VmHWM:")
}

/// The memory that this process has resident now, in bytes, where the system tells.
pub fn rss_bytes() -> Option<u64> {
    status_bytes("VmRSS:")
}

fn status_bytes(field: &str) -> Option<u64> {
    kib_of(&std::fs::read_to_string("/proc/self/status").ok()?, field)?.checked_mul(1024)
}

fn kib_of(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.trim().strip_suffix("kB")?.trim_end().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_lines_are_read() {
        let status = "Name:\tx\nVmHWM:\t    1234 kB\nVmRSS:\t  99 kB\n";
        assert_eq!(kib_of(status, "VmHWM:"), Some(1234));
        assert_eq!(kib_of(status, "VmRSS:"), Some(99));
        assert_eq!(kib_of(status, "VmNone:"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_peak_is_not_below_what_is_used() {
        assert!(peak_rss_bytes().unwrap() > 100 << 10);
        assert!(rss_bytes().unwrap() > 100 << 10);
        assert!(usable_cores() >= 1);
    }
}
