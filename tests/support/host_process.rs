//! Runs real programs for tests of the command source.

use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use muster::model::{Error, Result};
use muster::ports::process::Wiring;
use muster::ports::{Child, CommandSpec, Ended, Process};

pub struct HostProcess;

struct HostChild {
    child: std::process::Child,
    stderr: Option<JoinHandle<Vec<u8>>>,
    deadline: Option<Instant>,
}

impl Process for HostProcess {
    fn spawn(&self, spec: &CommandSpec, wiring: Wiring) -> Result<Box<dyn Child>> {
        let mut command = Command::new(&spec.argv[0]);
        command.args(&spec.argv[1..]).process_group(0).stderr(Stdio::piped());
        command.envs(spec.env.iter().map(|(name, value)| (name, value.expose())));
        command.stdin(if wiring == Wiring::WriteInput { Stdio::piped() } else { Stdio::null() });
        command.stdout(if wiring == Wiring::ReadOutput { Stdio::piped() } else { Stdio::null() });
        if let Some(dir) = &spec.dir {
            command.current_dir(dir);
        }
        let mut child = command.spawn().map_err(|e| Error::io("start", spec.argv[0].clone(), e))?;
        let mut pipe = child.stderr.take().unwrap();
        let stderr = std::thread::spawn(move || {
            let mut all = Vec::new();
            let _ = pipe.read_to_end(&mut all);
            all
        });
        let deadline = spec.timeout_secs.map(|secs| Instant::now() + Duration::from_secs(secs));
        Ok(Box::new(HostChild { child, stderr: Some(stderr), deadline }))
    }
}

impl Child for HostChild {
    fn take_stdout(&mut self) -> Option<Box<dyn Read + Send>> {
        self.child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>)
    }

    fn take_stdin(&mut self) -> Option<Box<dyn Write + Send>> {
        self.child.stdin.take().map(|pipe| Box::new(pipe) as Box<dyn Write + Send>)
    }

    fn wait(&mut self) -> Result<Ended> {
        let mut timed_out = false;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if self.deadline.is_some_and(|deadline| Instant::now() > deadline) {
                timed_out = true;
                self.child.kill().unwrap();
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let stderr = self.stderr.take().map(|thread| thread.join().unwrap()).unwrap_or_default();
        Ok(Ended { code: status.code(), signal: status.signal(), timed_out, stderr })
    }
}

impl Drop for HostChild {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
