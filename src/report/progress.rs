//! How far a command is. On a terminal a line that redraws itself, elsewhere log lines.
//!
//! Workers only add to atomics; one thread of its own looks at them and draws.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::model::Bytes;

use super::human::{count, duration, eta_secs, noun_for, plain};

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgressMode {
    /// A line at the bottom of the terminal.
    Bar,
    /// A log line every so many seconds.
    Log {
        /// Seconds between two lines.
        every_secs: u64,
    },
    /// Not at all.
    Quiet,
}

/// Seconds between two log lines unless something else is wanted.
pub const LOG_EVERY_SECS: u64 = 30;
/// How often the terminal's line is drawn.
const DRAW_EVERY: Duration = Duration::from_millis(100);
/// Over how many seconds the rate is smoothed.
const RATE_WINDOW_SECS: f64 = 5.0;

/// Counts what is done. Clones count together; any thread may add.
#[derive(Clone)]
pub struct Progress(Arc<Shared>);

struct Shared {
    counters: Arc<Counters>,
    mode: ProgressMode,
    ticker: Mutex<Option<Ticker>>,
}

#[derive(Default)]
struct Counters {
    items: AtomicU64,
    bytes: AtomicU64,
    /// 0 stands for unknown.
    total_items: AtomicU64,
    total_bytes: AtomicU64,
    stage: Mutex<Stage>,
}

#[derive(Clone)]
struct Stage {
    name: String,
    number: u64,
    began: Instant,
}

impl Default for Stage {
    fn default() -> Self {
        Self { name: String::new(), number: 0, began: Instant::now() }
    }
}

/// The thread that draws; it ends when the sender goes.
struct Ticker {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Progress {
    /// A progress display. Its thread starts with the first stage.
    pub fn new(mode: ProgressMode) -> Self {
        Self(Arc::new(Shared { counters: Arc::default(), mode, ticker: Mutex::new(None) }))
    }

    /// One that shows nothing.
    pub fn quiet() -> Self {
        Self::new(ProgressMode::Quiet)
    }

    /// Begins a stage; counts begin at zero.
    pub fn stage(&self, name: &str, total_items: Option<u64>, total_bytes: Option<u64>) {
        let counters = &self.0.counters;
        {
            let mut stage = lock(&counters.stage);
            *stage = Stage { name: plain(name), number: stage.number + 1, began: Instant::now() };
            counters.items.store(0, Ordering::Relaxed);
            counters.bytes.store(0, Ordering::Relaxed);
        }
        self.set_total(total_items, total_bytes);
        self.start();
    }

    /// Says that so many more items and bytes are done.
    pub fn add(&self, items: u64, bytes: u64) {
        // Relaxed: these are figures for the eye and order nothing.
        self.0.counters.items.fetch_add(items, Ordering::Relaxed);
        self.0.counters.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Sets what there is to do, once that is known or better known.
    pub fn set_total(&self, items: Option<u64>, bytes: Option<u64>) {
        self.0.counters.total_items.store(items.unwrap_or(0), Ordering::Relaxed);
        self.0.counters.total_bytes.store(bytes.unwrap_or(0), Ordering::Relaxed);
    }

    /// Items and bytes done in this stage.
    pub fn done(&self) -> (u64, u64) {
        (self.0.counters.items.load(Ordering::Relaxed), self.0.counters.bytes.load(Ordering::Relaxed))
    }

    /// Says something that stays on the screen, or in the log.
    pub fn note(&self, text: &str) {
        match self.0.mode {
            ProgressMode::Bar => above_bars(|| eprintln!("{}", plain(text))),
            ProgressMode::Log { .. } => tracing::info!("{}", plain(text)),
            ProgressMode::Quiet => {}
        }
    }

    /// Ends the display. Later stages start it again.
    pub fn finish(&self) {
        let ticker = lock(&self.0.ticker).take();
        if let Some(Ticker { stop, thread }) = ticker {
            drop(stop);
            // A drawing thread that panicked has drawn its last; the work goes on.
            let _ = thread.join();
        }
    }

    fn start(&self) {
        let mut ticker = lock(&self.0.ticker);
        if ticker.is_some() || self.0.mode == ProgressMode::Quiet {
            return;
        }
        let (stop, stopped) = mpsc::channel();
        let counters = Arc::clone(&self.0.counters);
        let mode = self.0.mode;
        let thread = std::thread::Builder::new().name("progress".to_owned()).spawn(move || match mode {
            ProgressMode::Bar => draw(&counters, &stopped),
            ProgressMode::Log { every_secs } => {
                log(&counters, &stopped, Duration::from_secs(every_secs.max(1)))
            }
            ProgressMode::Quiet => {}
        });
        // Without a thread there is no display; the work matters more.
        *ticker = thread.ok().map(|thread| Ticker { stop, thread });
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(Ticker { stop, thread }) = lock(&self.ticker).take() {
            drop(stop);
            let _ = thread.join();
        }
    }
}

/// Runs `write`, which prints to standard error, without tearing the progress line.
pub fn above_bars<T>(write: impl FnOnce() -> T) -> T {
    match BARS.get() {
        Some(bars) => bars.suspend(write),
        None => write(),
    }
}

static BARS: OnceLock<MultiProgress> = OnceLock::new();

fn draw(counters: &Counters, stopped: &mpsc::Receiver<()>) {
    let bars = BARS.get_or_init(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr()));
    let bar = bars.add(ProgressBar::new(0));
    let mut meter = Meter::default();
    while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(DRAW_EVERY) {
        let view = meter.look(counters);
        bar.set_style(style(view.has_total()));
        bar.set_length(view.bar().1);
        bar.set_position(view.bar().0);
        bar.set_message(view.describe());
        bar.tick();
    }
    bar.finish_and_clear();
    bars.remove(&bar);
}

fn style(has_total: bool) -> ProgressStyle {
    let template = if has_total { "{bar:16} {wide_msg}" } else { "{spinner} {wide_msg}" };
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
        .progress_chars("=> ")
}

fn log(counters: &Counters, stopped: &mpsc::Receiver<()>, every: Duration) {
    let mut meter = Meter::default();
    while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(every) {
        tracing::info!("{}", meter.look(counters).describe());
    }
}

/// Turns counters into a smoothed rate.
#[derive(Default)]
struct Meter {
    last: Option<(u64, Instant, u64, u64)>,
    bytes_per_sec: f64,
    items_per_sec: f64,
}

impl Meter {
    fn look(&mut self, counters: &Counters) -> View {
        let stage = lock(&counters.stage).clone();
        let (items, bytes) = (counters.items.load(Ordering::Relaxed), counters.bytes.load(Ordering::Relaxed));
        self.learn(&stage, Instant::now(), items, bytes);
        View {
            items,
            bytes,
            total_items: counters.total_items.load(Ordering::Relaxed),
            total_bytes: counters.total_bytes.load(Ordering::Relaxed),
            bytes_per_sec: self.bytes_per_sec,
            items_per_sec: self.items_per_sec,
            elapsed_secs: stage.began.elapsed().as_secs_f64(),
            stage: stage.name,
        }
    }

    fn learn(&mut self, stage: &Stage, now: Instant, items: u64, bytes: u64) {
        let (since, items_before, bytes_before) = match self.last {
            Some((number, at, items, bytes)) if number == stage.number => (at, items, bytes),
            // A new stage: its average so far is the best first guess.
            _ => {
                (self.bytes_per_sec, self.items_per_sec) = (0.0, 0.0);
                (stage.began, 0, 0)
            }
        };
        let secs = now.saturating_duration_since(since).as_secs_f64();
        if secs <= 0.0 {
            return;
        }
        let is_first = self.last.is_none_or(|(number, ..)| number != stage.number);
        let weight = if is_first { 1.0 } else { 1.0 - (-secs / RATE_WINDOW_SECS).exp() };
        let blend = |old: f64, done: u64| old + weight * (done as f64 / secs - old);
        self.bytes_per_sec = blend(self.bytes_per_sec, bytes.saturating_sub(bytes_before));
        self.items_per_sec = blend(self.items_per_sec, items.saturating_sub(items_before));
        self.last = Some((stage.number, now, items, bytes));
    }
}

/// What is to be shown at one moment.
struct View {
    stage: String,
    items: u64,
    bytes: u64,
    total_items: u64,
    total_bytes: u64,
    bytes_per_sec: f64,
    items_per_sec: f64,
    elapsed_secs: f64,
}

impl View {
    fn has_total(&self) -> bool {
        self.total_bytes > 0 || self.total_items > 0
    }

    /// Position and length: bytes where their total is known, else items.
    fn bar(&self) -> (u64, u64) {
        let (done, total) = if self.total_bytes > 0 {
            (self.bytes, self.total_bytes)
        } else {
            (self.items, self.total_items)
        };
        (done.min(total), total)
    }

    fn eta(&self) -> Option<f64> {
        if self.total_bytes > 0 {
            eta_secs(self.bytes, self.total_bytes, self.bytes_per_sec)
        } else {
            eta_secs(self.items, self.total_items, self.items_per_sec)
        }
    }

    /// `backup app: 1.2 GiB of 4.0 GiB, 210.0 MiB/s, ETA 14s, 12,345 items, 12s`: a narrow
    /// terminal cuts off what matters least.
    fn describe(&self) -> String {
        let of = |done: String, total: u64, show: fn(u64) -> String| match total {
            0 => done,
            total => format!("{done} of {}", show(total)),
        };
        let size = |bytes: u64| Bytes(bytes).to_string();
        let mut parts = Vec::new();
        if self.bytes > 0 || self.total_bytes > 0 {
            parts.push(of(size(self.bytes), self.total_bytes, size));
            parts.push(format!("{}/s", Bytes(self.bytes_per_sec as u64)));
        }
        parts.extend(self.eta().map(|secs| format!("ETA {}", duration(secs))));
        if self.items > 0 || self.total_items > 0 {
            let last = if self.total_items > 0 { self.total_items } else { self.items };
            let shown = of(count(self.items), self.total_items, count);
            parts.push(format!("{shown} {}", noun_for(last, "item")));
        }
        parts.push(duration(self.elapsed_secs));
        format!("{}: {}", self.stage, parts.join(", "))
    }
}

/// A poisoned lock guards only figures for the eye.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> View {
        View {
            stage: "backup app".to_owned(),
            items: 12_345,
            bytes: 3 << 30,
            total_items: 0,
            total_bytes: 4 << 30,
            bytes_per_sec: (256u64 << 20) as f64,
            items_per_sec: 0.0,
            elapsed_secs: 12.0,
        }
    }

    #[test]
    fn a_line_has_rate_and_eta() {
        assert_eq!(
            view().describe(),
            "backup app: 3.0 GiB of 4.0 GiB, 256.0 MiB/s, ETA 4.0s, 12,345 items, 12s"
        );
        let unknown = View { total_bytes: 0, items: 0, ..view() };
        assert_eq!(unknown.describe(), "backup app: 3.0 GiB, 256.0 MiB/s, 12s");
        let over = View { bytes: 5 << 30, ..view() };
        assert_eq!((over.bar(), over.eta()), ((4 << 30, 4 << 30), Some(0.0)));
    }

    #[test]
    fn the_rate_follows_and_begins_anew_with_a_stage() {
        let began = Instant::now();
        let stage = Stage { name: String::new(), number: 1, began };
        let mut meter = Meter::default();
        meter.learn(&stage, began + Duration::from_secs(1), 10, 1000);
        assert_eq!((meter.bytes_per_sec, meter.items_per_sec), (1000.0, 10.0));
        for second in 2..60 {
            meter.learn(&stage, began + Duration::from_secs(second), 10, 1000 + (second - 1) * 500);
        }
        assert!((meter.bytes_per_sec - 500.0).abs() < 1.0);
        let next = Stage { number: 2, began: began + Duration::from_secs(60), ..stage };
        meter.learn(&next, began + Duration::from_secs(61), 0, 7);
        assert_eq!(meter.bytes_per_sec, 7.0);
    }

    #[test]
    fn many_threads_count_together() {
        let progress = Progress::quiet();
        progress.stage("x", None, None);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| progress.add(1, 2)));
            }
        });
        assert_eq!(progress.done(), (4000, 8000));
        progress.finish();
    }

    #[test]
    fn the_ticker_ends() {
        let progress = Progress::new(ProgressMode::Log { every_secs: 3600 });
        progress.stage("x", Some(1), None);
        progress.finish();
        progress.stage("y", None, None);
        drop(progress);
    }
}
