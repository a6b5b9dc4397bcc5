//! Runs programs.
//!
//! Each gets a process group of its own, so that it and what it started can be killed
//! together. The leader is reaped only by `wait` or on drop; until then its number, and
//! so the group's, cannot pass to a stranger, and killing is safe.

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{ChildStderr, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use crate::model::{Error, ErrorKind, Result, SecretRef};
use crate::ports::process::{STDERR_KEPT_BYTES, Wiring};
use crate::ports::{Cancel, Child, CommandSpec, Ended, Process};

/// After its time is over a program is asked to end, and killed after this much more.
const TERM_GRACE: Duration = Duration::from_secs(3);
/// How often a running program's owner is asked whether it wants to stop.
const CANCEL_POLL: Duration = Duration::from_millis(50);
/// How long to wait, once a program has ended, for others who still hold its standard error.
const STDERR_GRACE: Duration = Duration::from_secs(1);

/// Our variables that say where keys and passphrases are: no program that we run needs to know.
const WITHHELD: [&str; 6] = [
    "MUSTER_IDENTITY",
    "MUSTER_KEYS",
    "MUSTER_PASSPHRASE_FROM",
    "MUSTER_S3_ACCESS_KEY_ID",
    "MUSTER_S3_SECRET_ACCESS_KEY",
    "MUSTER_S3_SESSION_TOKEN",
];

/// More variables that programs do not inherit: they hold keys or passphrases of ours.
static WITHHELD_TOO: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// From now on no program inherits the variable that `reference` names, if it names one. A program
/// for which it is set on purpose has it all the same.
pub fn withhold(reference: &SecretRef) {
    if let SecretRef::Env(name) = reference {
        lock(&WITHHELD_TOO).insert(name.clone());
    }
}

/// Groups that were started and not waited for.
static LIVE: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Kills everything that is running on our behalf; for when we end at once.
pub(super) fn kill_all_groups() {
    for group in lock(&LIVE).iter().filter_map(|group| Pid::from_raw(*group)) {
        // It may be gone already.
        let _ = kill_process_group(group, Signal::KILL);
    }
}

#[cfg(test)]
pub(super) fn live_groups() -> Vec<i32> {
    lock(&LIVE).iter().copied().collect()
}

/// Starts real programs.
///
/// A program's time counts until [`wait`](Child::wait) has returned, so it also bounds
/// reading its output. Over it, the group gets SIGTERM, and SIGKILL three seconds later.
/// What a program that ended well has left running (a daemon it started) is left alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealProcess;

impl Process for RealProcess {
    fn spawn(&self, spec: &CommandSpec, wiring: Wiring) -> Result<Box<dyn Child>> {
        let what = "start the program";
        let [program, arguments @ ..] = spec.argv.as_slice() else {
            return Err(Error::internal(what, "the command line is empty"));
        };
        let mut command = Command::new(program);
        command.args(arguments).process_group(0).stderr(Stdio::piped());
        for name in WITHHELD.into_iter().map(str::to_owned).chain(lock(&WITHHELD_TOO).iter().cloned()) {
            command.env_remove(name);
        }
        command.envs(spec.env.iter().map(|(name, value)| (name, value.expose())));
        if let Some(dir) = &spec.dir {
            command.current_dir(dir);
        }
        match wiring {
            Wiring::ReadOutput => command.stdin(Stdio::null()).stdout(Stdio::piped()),
            Wiring::WriteInput => command.stdin(Stdio::piped()).stdout(io::stderr()),
            Wiring::Neither => command.stdin(Stdio::null()).stdout(io::stderr()),
        };

        // Held until the group is listed, so that an end at once does not miss it.
        let mut live = lock(&LIVE);
        let mut child = command.spawn().map_err(|error| {
            let is_missing = error.kind() == io::ErrorKind::NotFound;
            let mut shown = Error::io(what, program.as_str(), error).with_kind(ErrorKind::Config);
            if is_missing {
                shown = match &spec.dir {
                    Some(dir) => shown.hint(format!(
                        "is it installed and on PATH, and is there a folder {}?",
                        dir.display()
                    )),
                    None => shown.hint("is it installed and on PATH?"),
                };
            }
            shown
        })?;
        let pid = Pid::from_child(&child);
        live.insert(pid.as_raw_nonzero().get());
        drop(live);

        let shared = Arc::new(Shared {
            program: program.clone(),
            pid,
            state: Mutex::new(State { is_reaped: false, timed_out: false }),
            changed: Condvar::new(),
            tail: Mutex::new(Tail::default()),
            tail_ended: Condvar::new(),
        });
        // From here on, dropping it kills the group.
        let mut running = Running { stdin: child.stdin.take(), stdout: child.stdout.take(), shared, child };
        if let Some(stderr) = running.child.stderr.take() {
            let shared = running.shared.clone();
            start_thread("stderr", move || shared.drain(stderr))?;
        }
        if let Some(secs) = spec.timeout_secs {
            let shared = running.shared.clone();
            // A time beyond reckoning never comes.
            if let Some(deadline) = Instant::now().checked_add(Duration::from_secs(secs)) {
                start_thread("timeout", move || shared.watch(deadline))?;
            }
        }
        if let Some(cancel) = spec.cancel.clone() {
            let shared = running.shared.clone();
            start_thread("cancel", move || shared.end_when(&cancel))?;
        }
        Ok(Box::new(running))
    }
}

fn start_thread(name: &str, run: impl FnOnce() + Send + 'static) -> Result<()> {
    let started = thread::Builder::new().name(name.to_owned()).spawn(run);
    started.map(drop).map_err(|error| Error::io("start a thread", name, error))
}

struct Running {
    child: std::process::Child,
    stdin: Option<std::process::ChildStdin>,
    stdout: Option<std::process::ChildStdout>,
    shared: Arc<Shared>,
}

/// What the child's handle and its threads have in common.
struct Shared {
    program: String,
    pid: Pid,
    state: Mutex<State>,
    changed: Condvar,
    tail: Mutex<Tail>,
    tail_ended: Condvar,
}

struct State {
    is_reaped: bool,
    timed_out: bool,
}

/// The end of the standard error so far.
#[derive(Default)]
struct Tail {
    bytes: VecDeque<u8>,
    is_ended: bool,
}

impl Shared {
    fn drain(&self, mut from: ChildStderr) {
        let mut buffer = [0; 8 << 10];
        loop {
            match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(len) => {
                    let mut tail = lock(&self.tail);
                    tail.bytes.extend(&buffer[..len]);
                    let excess = tail.bytes.len().saturating_sub(STDERR_KEPT_BYTES);
                    tail.bytes.drain(..excess);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        lock(&self.tail).is_ended = true;
        self.tail_ended.notify_all();
    }

    /// Ends the program when its time is over.
    fn watch(&self, deadline: Instant) {
        if self.is_over_by(deadline) {
            return;
        }
        {
            let mut state = lock(&self.state);
            if state.is_reaped {
                return;
            }
            state.timed_out = true;
        }
        self.end();
    }

    /// Ends the program when somebody asks to stop.
    fn end_when(&self, cancel: &Cancel) {
        while !self.is_over_by(Instant::now() + CANCEL_POLL) {
            if cancel.is_cancelled() {
                return self.end();
            }
        }
    }

    /// Asks the group to end, and kills it when it does not.
    fn end(&self) {
        self.signal(&lock(&self.state), Signal::TERM);
        let killing = Instant::now() + TERM_GRACE;
        while !self.leader_has_ended() && Instant::now() < killing {
            if self.is_over_by(Instant::now() + Duration::from_millis(20)) {
                return;
            }
        }
        self.signal(&lock(&self.state), Signal::KILL);
    }

    /// Waits until the program was waited for, or `moment` has come.
    fn is_over_by(&self, moment: Instant) -> bool {
        let mut state = lock(&self.state);
        while !state.is_reaped {
            let left = moment.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn leader_has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        !matches!(waitid(WaitId::Pid(self.pid), options), Ok(None))
    }

    /// Sends a signal to the whole group, unless its number may be somebody else's by now.
    fn signal(&self, state: &State, signal: Signal) {
        if !state.is_reaped {
            // All of them may have ended already.
            let _ = kill_process_group(self.pid, signal);
        }
    }

    fn forget(&self, state: &mut State) {
        lock(&LIVE).remove(&self.pid.as_raw_nonzero().get());
        state.is_reaped = true;
        self.changed.notify_all();
    }

    /// The standard error's end, when nobody holds it any more or soon after.
    fn stderr(&self) -> Vec<u8> {
        let tail = lock(&self.tail);
        let (mut tail, _) = self
            .tail_ended
            .wait_timeout_while(tail, STDERR_GRACE, |tail| !tail.is_ended)
            .unwrap_or_else(PoisonError::into_inner);
        tail.bytes.make_contiguous().to_vec()
    }
}

impl Child for Running {
    fn take_stdout(&mut self) -> Option<Box<dyn Read + Send>> {
        self.stdout.take().map(|stdout| Box::new(stdout) as _)
    }

    fn take_stdin(&mut self) -> Option<Box<dyn Write + Send>> {
        self.stdin.take().map(|stdin| Box::new(Input(stdin)) as _)
    }

    /// Input and output that nobody took are closed first, so that neither side waits
    /// for the other.
    fn wait(&mut self) -> Result<Ended> {
        drop(self.stdin.take());
        drop(self.stdout.take());
        let failed = |error| Error::io("wait for the program", self.shared.program.as_str(), error);
        // Without reaping, so that the time limit still works meanwhile.
        if !lock(&self.shared.state).is_reaped {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            rustix::io::retry_on_intr(|| waitid(WaitId::Pid(self.shared.pid), options))
                .map_err(|errno| failed(errno.into()))?;
        }
        let (status, timed_out) = {
            let mut state = lock(&self.shared.state);
            if state.timed_out {
                // Its leader ended in time to hear SIGTERM; others may not have.
                self.shared.signal(&state, Signal::KILL);
            }
            if !state.is_reaped {
                self.shared.forget(&mut state);
            }
            (self.child.wait().map_err(failed)?, state.timed_out)
        };
        let stderr = self.shared.stderr();
        Ok(Ended { code: status.code(), signal: status.signal(), timed_out, stderr })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut state = lock(&self.shared.state);
        if !state.is_reaped {
            self.shared.signal(&state, Signal::KILL);
            self.shared.forget(&mut state);
            // It was killed; there is nobody to tell how it ended.
            let _ = self.child.wait();
        }
    }
}

/// A program's standard input, which says in words when the program has stopped reading.
/// How it ended, which is the real reason, is what `wait` then tells.
struct Input(std::process::ChildStdin);

fn in_words(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => io::Error::new(error.kind(), "the program stopped reading its input"),
        _ => error,
    }
}

impl Write for Input {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(in_words)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(in_words)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::Secret;

    fn shell(line: &str) -> CommandSpec {
        CommandSpec { argv: ["sh", "-c", line].map(str::to_owned).into(), ..CommandSpec::default() }
    }

    fn run(spec: &CommandSpec) -> (Vec<u8>, Ended) {
        let mut child = RealProcess.spawn(spec, Wiring::ReadOutput).unwrap();
        let mut output = Vec::new();
        child.take_stdout().unwrap().read_to_end(&mut output).unwrap();
        assert!(child.take_stdout().is_none());
        assert!(child.take_stdin().is_none());
        (output, child.wait().unwrap())
    }

    /// The process is gone, or a zombie that somebody else must reap, within some time.
    pub(in super::super) fn assert_gone(pid: Pid) {
        let path = format!("/proc/{}/stat", pid.as_raw_nonzero());
        for _ in 0..500 {
            let state = std::fs::read_to_string(&path).unwrap_or_default();
            let state = state.rsplit_once(") ").map_or("", |(_, rest)| rest);
            if state.is_empty() || state.starts_with(['Z', 'X']) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("process {} still runs", pid.as_raw_nonzero());
    }

    #[test]
    fn output_status_and_stderr_come_back() {
        let (output, ended) = run(&shell("echo out; echo err >&2; exit 7"));
        assert_eq!(output, b"out\n");
        assert_eq!((ended.code, ended.signal, ended.timed_out), (Some(7), None, false));
        assert_eq!(ended.stderr, b"err\n");
        assert_eq!(ended.describe(), "ended with exit status 7");
        let (_, ended) = run(&shell("kill -KILL $$"));
        assert_eq!((ended.code, ended.signal), (None, Some(9)));
    }

    #[test]
    fn input_is_written_and_its_end_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let mut spec = shell("cat > got");
        spec.dir = Some(dir.path().to_owned());
        let mut child = RealProcess.spawn(&spec, Wiring::WriteInput).unwrap();
        assert!(child.take_stdout().is_none());
        let mut stdin = child.take_stdin().unwrap();
        let sent = vec![b'x'; 1 << 20];
        stdin.write_all(&sent).unwrap();
        drop(stdin);
        assert!(child.wait().unwrap().is_success());
        assert_eq!(std::fs::read(dir.path().join("got")).unwrap(), sent);
    }

    #[test]
    fn a_program_that_stops_reading_is_a_broken_pipe_and_its_status_is_told() {
        let mut child = RealProcess.spawn(&shell("exit 5"), Wiring::WriteInput).unwrap();
        let mut stdin = child.take_stdin().unwrap();
        let error = stdin.write_all(&vec![0; 1 << 20]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(error.to_string(), "the program stopped reading its input");
        assert_eq!(child.wait().unwrap().code, Some(5));
    }

    #[test]
    fn input_that_nobody_took_is_closed() {
        let mut child = RealProcess.spawn(&shell("cat"), Wiring::WriteInput).unwrap();
        assert!(child.wait().unwrap().is_success());
    }

    #[test]
    fn the_tail_of_a_long_stderr_is_kept_and_never_blocks() {
        let (output, ended) = run(&shell("seq 100000 >&2; echo last >&2; echo done"));
        assert_eq!(output, b"done\n");
        assert_eq!(ended.stderr.len(), STDERR_KEPT_BYTES);
        assert!(ended.stderr.ends_with(b"100000\nlast\n"));
    }

    #[test]
    fn time_over_kills_the_whole_group() {
        let mut spec = shell("sleep 600 & echo $!; wait");
        spec.timeout_secs = Some(1);
        let start = Instant::now();
        let (output, ended) = run(&spec);
        assert!(ended.timed_out && !ended.is_success());
        assert_eq!(ended.describe(), "timed out and was killed");
        assert!(start.elapsed() < Duration::from_secs(60));
        let inner = String::from_utf8(output).unwrap().trim().parse().unwrap();
        assert_gone(Pid::from_raw(inner).unwrap());
    }

    #[test]
    fn a_program_deaf_to_sigterm_is_killed() {
        let mut spec = shell("trap '' TERM; sleep 600 & sleep 600");
        spec.timeout_secs = Some(1);
        let start = Instant::now();
        let (_, ended) = run(&spec);
        assert!(ended.timed_out);
        assert_eq!(ended.signal, Some(9));
        assert!(start.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn in_time_is_not_timed_out() {
        let mut spec = shell("echo x");
        spec.timeout_secs = Some(u64::MAX);
        assert!(run(&spec).1.is_success());
        spec.timeout_secs = Some(600);
        assert!(run(&spec).1.is_success());
    }

    #[test]
    fn dropping_kills_the_whole_group() {
        let mut child = RealProcess.spawn(&shell("sleep 600 & echo $!; wait"), Wiring::ReadOutput).unwrap();
        let mut stdout = child.take_stdout().unwrap();
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            let mut byte = [0];
            stdout.read_exact(&mut byte).unwrap();
            line.push(byte[0]);
        }
        drop(child);
        let inner = String::from_utf8(line).unwrap().trim().parse().unwrap();
        assert_gone(Pid::from_raw(inner).unwrap());
        // Nobody is left who could write.
        assert_eq!(stdout.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn what_a_good_program_leaves_running_neither_holds_us_up_nor_dies() {
        let mut child = RealProcess.spawn(&shell("sleep 600 & echo $! >&2"), Wiring::Neither).unwrap();
        let ended = child.wait().unwrap();
        assert!(ended.is_success());
        drop(child);
        let left = String::from_utf8(ended.stderr).unwrap().trim().parse().unwrap();
        let left = Pid::from_raw(left).unwrap();
        rustix::process::test_kill_process(left).unwrap();
        rustix::process::kill_process(left, Signal::KILL).unwrap();
    }

    #[test]
    fn secrets_stand_in_the_environment_of_the_child_alone() {
        let mut spec = shell("printf %s \"$MUSTER_TEST_PW\"; tr '\\0' ' ' < /proc/$$/cmdline >&2");
        spec.env = vec![("MUSTER_TEST_PW".into(), Secret::new("hunter2".into()))];
        let (output, ended) = run(&spec);
        assert_eq!(output, b"hunter2");
        assert!(!String::from_utf8(ended.stderr).unwrap().contains("hunter2"));
        assert!(std::env::var_os("MUSTER_TEST_PW").is_none());
        assert!(!format!("{spec:?}").contains("hunter2"));
    }

    #[test]
    fn a_missing_program_is_named_with_a_hint() {
        let spec = CommandSpec { argv: vec!["no-such-program-here".into()], ..CommandSpec::default() };
        let error = RealProcess.spawn(&spec, Wiring::Neither).err().unwrap();
        assert!(error.to_string().contains("no-such-program-here"), "{error}");
        assert!(error.remedy().unwrap().contains("PATH"));
        assert!(RealProcess.spawn(&CommandSpec::default(), Wiring::Neither).is_err());
    }
}
