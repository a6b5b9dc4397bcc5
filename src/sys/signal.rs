//! Stopping when asked to.

use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::model::{Error, Result};
use crate::ports::Cancel;

use super::process::kill_all_groups;

/// Exit status after a second signal, as a shell gives it for Ctrl-C.
pub const EXIT_INTERRUPTED: i32 = 130;

/// Sets `cancel`, and calls `on_first`, at the first SIGINT, SIGTERM or SIGHUP. The
/// second kills all programs that we started and ends this process at once, with status
/// 130. A signal that was ignored when we were started (`nohup`) stays ignored. To be
/// called once, by `main`.
pub fn cancel_on_signals(cancel: Cancel, on_first: impl FnOnce() + Send + 'static) -> Result<()> {
    static INSTALLED: AtomicBool = AtomicBool::new(false);
    let what = "listen for signals";
    if INSTALLED.swap(true, Ordering::SeqCst) {
        return Err(Error::internal(what, "that was done already"));
    }
    let ignored = ignored_signals();
    let wanted = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| !is_in(ignored, *signal));
    let mut signals = Signals::new(wanted).map_err(|error| Error::io(what, "this process", error))?;
    let wait = move || {
        let mut signals = signals.forever();
        if signals.next().is_some() {
            cancel.cancel();
            on_first();
        }
        if signals.next().is_some() {
            kill_all_groups();
            signal_hook::low_level::exit(EXIT_INTERRUPTED);
        }
    };
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(wait)
        .map_err(|error| Error::io(what, "this process", error))?;
    Ok(())
}

/// The kernel's mask of the signals that this process ignores; none where it does not tell.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

fn is_in(mask: u64, signal: i32) -> bool {
    mask >> (signal - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use rustix::process::{Pid, Signal, kill_process};

    use super::*;
    use crate::ports::process::Wiring;
    use crate::ports::{CommandSpec, Process};
    use crate::sys::RealProcess;

    const CHILD: &str = "MUSTER_TEST_SIGNAL_CHILD";

    /// Does nothing in an ordinary run: the test below starts this very program again
    /// with a variable set, to have a process that it may send signals to.
    #[test]
    fn child_of_the_signal_test() {
        if std::env::var_os(CHILD).is_none() {
            return;
        }
        let cancel = Cancel::default();
        cancel_on_signals(cancel.clone(), || println!("\nfirst")).unwrap();
        assert!(cancel_on_signals(cancel.clone(), || ()).is_err());
        let spec = CommandSpec { argv: ["sleep", "600"].map(str::to_owned).into(), ..CommandSpec::default() };
        let _sleeper = RealProcess.spawn(&spec, Wiring::Neither).unwrap();
        println!("\nready {}", super::super::process::live_groups()[0]);
        while !cancel.is_cancelled() {
            std::thread::sleep(Duration::from_millis(5));
        }
        println!("\ncancelled");
        std::thread::sleep(Duration::from_secs(600));
    }

    #[test]
    fn the_first_signal_cancels_and_the_second_ends() {
        let me = std::env::current_exe().unwrap();
        let mut child = Command::new(me)
            .args(["--exact", "sys::signal::tests::child_of_the_signal_test", "--nocapture"])
            .env(CHILD, "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = Pid::from_child(&child);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let ready = lines.find(|line| line.starts_with("ready")).unwrap();
        let sleeper = Pid::from_raw(ready["ready ".len()..].parse().unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        assert!(lines.any(|line| line == "first" || line == "cancelled"));
        kill_process(pid, Signal::INT).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(EXIT_INTERRUPTED));
        crate::sys::process::tests::assert_gone(sleeper);
    }

    #[test]
    fn masks_count_signals_from_one() {
        assert!(is_in(0b10, SIGINT));
        assert!(!is_in(0b10, SIGHUP));
    }
}
