//! `open_loop PORT RATE SECONDS CONNECTIONS TOKEN-FILE`: requests arrive at a fixed mean rate (Poisson) whatever the server does.
//!
//! A latency counts from the arrival, so that a server that stalls cannot hide it by keeping the load waiting. One thread sends,
//! and each connection has one that reads, so that a request costs the load two wake-ups and no search. Only `std` is used: `rustc -O`
//! builds it. Prints `RESULT count failed p50 p99`, in microseconds. What this program itself takes is in every figure alike:
//! compare differences.
//!
//! A whole answer has a `Content-Length`; anything but status 200 counts as failed.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Result, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

/// The warm-up time, in which arrivals are not counted.
const WARM_UP: Duration = Duration::from_millis(300);
/// The timeout for responses at the end.
const PATIENCE: Duration = Duration::from_secs(5);

struct Load {
    connections: Vec<TcpStream>,
    request: Vec<u8>,
    counted_from: Instant,
    state: Mutex<State>,
}

struct State {
    idle: VecDeque<usize>,
    /// The arrival times of requests for which no connection was free.
    waiting: VecDeque<Instant>,
    /// The arrival time of each connection's request.
    arrived: Vec<Instant>,
    took: Vec<Duration>,
    failed: usize,
}

impl Load {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics with the state in its hands")
    }

    fn arrival(&self, at: Instant) -> Result<()> {
        let mut state = self.state();
        let Some(free) = state.idle.pop_front() else {
            state.waiting.push_back(at);
            return Ok(());
        };
        state.arrived[free] = at;
        drop(state);
        self.send(free)
    }

    fn send(&self, connection: usize) -> Result<()> {
        (&self.connections[connection]).write_all(&self.request)
    }

    /// Reads responses until the connection ends.
    fn read(&self, connection: usize) -> Result<()> {
        let mut buffer = Vec::with_capacity(8_192);
        let mut part = [0; 8_192];
        loop {
            let read = (&self.connections[connection]).read(&mut part)?;
            if read == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            buffer.extend_from_slice(&part[..read]);
            let Some(good) = answer(&buffer) else { continue };
            buffer.clear();
            let mut state = self.state();
            let arrived = state.arrived[connection];
            if !good {
                state.failed += 1;
            } else if arrived >= self.counted_from {
                state.took.push(arrived.elapsed());
            }
            match state.waiting.pop_front() {
                Some(next) => {
                    state.arrived[connection] = next;
                    drop(state);
                    self.send(connection)?;
                }
                None => state.idle.push_back(connection),
            }
        }
    }
}

/// Returns whether a complete response has status 200; `None` while it is incomplete.
fn answer(bytes: &[u8]) -> Option<bool> {
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let text = std::str::from_utf8(&bytes[..head]).ok()?;
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    })?;
    (bytes.len() >= head + 4 + length).then(|| text.starts_with("HTTP/1.1 200 "))
}

/// Xorshift, the same arrivals in every run.
struct Random(u64);

impl Random {
    /// Returns an exponentially distributed time with this mean.
    fn exponential(&mut self, mean: f64) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let uniform = ((self.0 >> 11) as f64 + 1.0) / (1_u64 << 53) as f64;
        Duration::from_secs_f64(-uniform.ln() * mean)
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [port, rate, seconds, connections, tokens] = arguments.as_slice() else {
        panic!("open_loop PORT RATE SECONDS CONNECTIONS TOKEN-FILE");
    };
    let number = |text: &str| text.parse::<f64>().unwrap_or_else(|_| panic!("{text} is not a number"));
    let tokens = std::fs::read_to_string(tokens).expect("the file with tokens");
    let token = tokens.lines().next().expect("a token");
    // Of this thread, which sends: its sleeps would be up to 50 µs too long.
    std::fs::write("/proc/self/timerslack_ns", "1").expect("the timers made exact");

    let count = number(connections) as usize;
    let begin = Instant::now();
    let load = Arc::new(Load {
        connections: (0..count)
            .map(|_| {
                let connection = TcpStream::connect(format!("127.0.0.1:{port}")).expect("a connection");
                connection.set_nodelay(true).expect("TCP_NODELAY");
                connection
            })
            .collect(),
        request: format!("GET /orders/42?x=1 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n").into_bytes(),
        counted_from: begin + WARM_UP,
        state: Mutex::new(State {
            idle: (0..count).collect(),
            waiting: VecDeque::new(),
            arrived: vec![begin; count],
            took: Vec::new(),
            failed: 0,
        }),
    });
    for connection in 0..count {
        let load = load.clone();
        thread::spawn(move || {
            if let Err(error) = load.read(connection) {
                eprintln!("connection {connection}: {error}");
                std::process::exit(1);
            }
        });
    }

    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mean, end) = (1.0 / number(rate), begin + WARM_UP + Duration::from_secs_f64(number(seconds)));
    let mut due = Instant::now();
    while due < end {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        load.arrival(due).expect("a request sent");
        due += random.exponential(mean);
    }
    while load.state().idle.len() < count && end.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(10));
    }
    let mut state = load.state();
    let unanswered = count - state.idle.len() + state.waiting.len();
    state.took.sort_unstable();
    let percentile =
        |percent: usize| state.took.get(state.took.len() * percent / 100).map_or(0.0, |took| took.as_secs_f64() * 1e6);
    println!("RESULT {} {} {:.1} {:.1}", state.took.len(), state.failed + unanswered, percentile(50), percentile(99));
}
