//! The load of scripts/bench: as many connections as it is told ask the same thing over HTTP/1.1, each the next time when it was
//! answered. One file without dependencies, which rustc builds alone in seconds: cargo would build the server once more for it.
//!
//! ```text
//! load wait ADDRESS PATH [--header TEXT].. [--holds TEXT]
//! load run ADDRESS METHOD PATH [--connections N] [--seconds N] [--warm-up N] [--calls N] [--of N] [--from N] [--header TEXT]..
//!          [--bearers FILE] [--spread N] [--body TEXT] [--holds TEXT] [--session TEXT]
//! load stdio [--connections N] [--seconds N] [--warm-up N] [--body TEXT] [--holds TEXT] [--session TEXT] -- PROGRAM [ARGUMENT]..
//! ```
//!
//! `wait` asks until the answer is 200 and holds the text. `{n}` in path and body becomes a number: one of the first `--of`, in a mixed order, or else each from `--from` on once.
//! The first connection shows the token in the first line of `--bearers`, and so on; `{s}` becomes its number, less than `--spread`.
//! With `--calls` it is a number of requests and not a time that is measured, without a warm-up. An answer that does not hold
//! `--holds` is refused. With `--session` each connection begins with that body, an `initialize` of MCP, and then names the session
//! that it was given. `stdio` asks a program the same line by line, with as many requests under way as there would be connections.
//! `run` prints a line: requests answered in the time measured, of them refused, requests a second, and microseconds of the 50th and
//! 99th of 100 requests.
#![allow(clippy::print_stdout)]

use std::collections::VecDeque;
use std::env;
use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long one answer may take before the connection counts as broken.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// How long `wait` waits, and how often it asks.
const WAIT_MAX: Duration = Duration::from_secs(60);
const WAIT_EVERY: Duration = Duration::from_millis(1);
/// A connection that fails so often in a row gives up.
const BROKEN_MAX: u32 = 3;
/// What ends the opening of a session of MCP.
const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match begun(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn begun(arguments: &[String]) -> Result<()> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["wait", address, path, options @ ..] => wait(parsed(address)?, path, options),
        ["run", address, method, path, options @ ..] => {
            Run::of(parsed(address)?, method, path, options)?.done()
        }
        ["stdio", options @ ..] => stdio(options),
        _ => Err(wrong(
            "usage: load wait ADDRESS PATH [OPTION VALUE].. | load run ADDRESS METHOD PATH [OPTION VALUE].. | load stdio [OPTION VALUE].. -- PROGRAM [ARGUMENT]..",
        )),
    }
}

fn wrong(says: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidInput, says.into())
}

fn parsed<T: std::str::FromStr>(text: &str) -> Result<T> {
    text.parse()
        .map_err(|_| wrong(format!("{text} is not what belongs there")))
}

/// Until this answers with 200 and what is waited for.
fn wait(address: SocketAddr, path: &str, options: &[&str]) -> Result<()> {
    let (mut headers, mut wanted) = (String::new(), String::new());
    for pair in options.chunks(2) {
        match *pair {
            ["--header", value] => headers += &format!("{value}\r\n"),
            ["--holds", value] => wanted = value.to_owned(),
            _ => return Err(wrong(format!("unknown option: {}", pair.join(" ")))),
        }
    }
    let begun = Instant::now();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{headers}\r\n");
    let mut connection = None;
    let mut last = String::new();
    while begun.elapsed() < WAIT_MAX {
        match asked(&mut connection, address, request.as_bytes()) {
            Ok(answer) if answer.status == 200 && answer.body().contains(&wanted) => return Ok(()),
            Ok(answer) => last = answer.shown(),
            Err(error) => last = error.to_string(),
        }
        thread::sleep(WAIT_EVERY);
    }
    Err(Error::new(
        ErrorKind::TimedOut,
        format!("{address}{path} did not come to {wanted:?}; it said last: {last}"),
    ))
}

/// What is asked, how often, and for how long.
struct Run {
    address: SocketAddr,
    method: String,
    path: String,
    headers: String,
    /// One for each connection, in turn; none: nobody shows one.
    bearers: Vec<String>,
    /// How many names the connections are spread over.
    spread: u64,
    body: String,
    /// What an answer has to hold.
    holds: String,
    /// What begins a session of MCP; none: there are no sessions.
    session: Option<String>,
    connections: u64,
    seconds: u64,
    warm_up: u64,
    /// So many requests, whatever time they take; none: the time counts.
    calls: Option<u64>,
    /// Numbers below it, in a mixed order; none: each from `next` on once.
    of: Option<u64>,
    next: AtomicU64,
    /// How many were sent; only counted when there is to be a number of them.
    sent: AtomicU64,
}

/// What one connection saw in the time that is measured.
#[derive(Default)]
struct Seen {
    took_us: Vec<u32>,
    refused: u64,
    first_refusal: Option<String>,
}

impl Seen {
    fn note(&mut self, begun: Instant, measured: Instant, refusal: Option<String>) {
        match refusal {
            None if begun >= measured => self
                .took_us
                .push(u32::try_from(begun.elapsed().as_micros()).unwrap_or(u32::MAX)),
            None => {}
            // Only what is right in the warm-up may be left out.
            Some(refusal) => {
                self.refused += u64::from(begun >= measured);
                self.first_refusal.get_or_insert(refusal);
            }
        }
    }
}

impl Run {
    fn of(address: SocketAddr, method: &str, path: &str, options: &[&str]) -> Result<Run> {
        let mut run = Run {
            address,
            method: method.to_owned(),
            path: path.to_owned(),
            headers: String::new(),
            bearers: Vec::new(),
            spread: 1,
            body: String::new(),
            holds: String::new(),
            session: None,
            connections: 32,
            seconds: 5,
            warm_up: 1,
            calls: None,
            of: None,
            next: AtomicU64::new(1),
            sent: AtomicU64::new(0),
        };
        for pair in options.chunks(2) {
            match *pair {
                ["--connections", value] => run.connections = parsed(value)?,
                ["--seconds", value] => run.seconds = parsed(value)?,
                ["--warm-up", value] => run.warm_up = parsed(value)?,
                ["--of", value] => run.of = Some(parsed(value)?),
                ["--from", value] => run.next = AtomicU64::new(parsed(value)?),
                ["--header", value] => run.headers += &format!("{value}\r\n"),
                ["--bearers", file] => {
                    let tokens = std::fs::read_to_string(file)?;
                    run.bearers = tokens.lines().map(str::to_owned).collect();
                }
                ["--spread", value] => run.spread = parsed(value)?,
                ["--body", value] => run.body = value.to_owned(),
                ["--holds", value] => run.holds = value.to_owned(),
                ["--session", value] => run.session = Some(value.to_owned()),
                ["--calls", value] => {
                    run.calls = Some(parsed(value)?);
                    run.warm_up = 0;
                }
                _ => return Err(wrong(format!("unknown option: {}", pair.join(" ")))),
            }
        }
        Ok(run)
    }

    fn done(&self) -> Result<()> {
        let start = Barrier::new(self.connections as usize);
        let begun = Instant::now();
        let seen: Vec<Seen> = thread::scope(|scope| {
            let connections: Vec<_> = (0..self.connections)
                .map(|number| {
                    let start = &start;
                    scope.spawn(move || self.one(number, start))
                })
                .collect();
            let ended = connections.into_iter().map(|one| one.join());
            ended.map(|seen| seen.unwrap_or_default()).collect()
        });
        let seconds = match self.calls {
            Some(_) => begun.elapsed().as_secs_f64(),
            None => self.seconds as f64,
        };
        self.tell(seen, seconds);
        Ok(())
    }

    fn tell(&self, seen: Vec<Seen>, seconds: f64) {
        let refused: u64 = seen.iter().map(|one| one.refused).sum();
        if let Some(first) = seen.iter().find_map(|one| one.first_refusal.as_ref()) {
            eprintln!(
                "load: {refused} times no answer or another than 2xx to {} {}, such as: {first}",
                self.method, self.path
            );
        }
        let mut took_us: Vec<u32> = seen.into_iter().flat_map(|one| one.took_us).collect();
        took_us.sort_unstable();
        let at = |part: f64| {
            let index = (took_us.len() as f64 * part) as usize;
            took_us
                .get(index.min(took_us.len().saturating_sub(1)))
                .copied()
                .unwrap_or(0)
        };
        let a_second = took_us.len() as f64 / seconds;
        println!(
            "{} {refused} {a_second:.1} {} {}",
            took_us.len(),
            at(0.5),
            at(0.99)
        );
    }

    /// One connection, until the time is over.
    fn one(&self, number: u64, start: &Barrier) -> Seen {
        let mut seen = Seen::default();
        let mut mixed = Mixed(number + 1);
        let mut connection = None;
        let mut broken = 0;
        let session = self.open(number, &mut connection);
        start.wait();
        let session = match session {
            Ok(session) => session,
            Err(error) => {
                seen.refused += 1;
                seen.first_refusal = Some(error.to_string());
                return seen;
            }
        };
        let measured = Instant::now() + Duration::from_secs(self.warm_up);
        while self.goes_on(measured) && broken < BROKEN_MAX {
            let request = self.request(number, &session, &self.body, &mut mixed);
            let begun = Instant::now();
            let answer = asked(&mut connection, self.address, request.as_bytes());
            let refusal = match &answer {
                Ok(answer) if answer.is_good(&self.holds) => None,
                Ok(answer) => Some(answer.shown()),
                Err(error) => Some(error.to_string()),
            };
            broken = if answer.is_err() { broken + 1 } else { 0 };
            seen.note(begun, measured, refusal);
        }
        seen
    }

    /// Whether one more request is to be sent.
    fn goes_on(&self, measured: Instant) -> bool {
        match self.calls {
            Some(calls) => self.sent.fetch_add(1, Ordering::Relaxed) < calls,
            None => Instant::now() < measured + Duration::from_secs(self.seconds),
        }
    }

    /// Begins a session of MCP if there are to be any; the headers that name it.
    fn open(&self, number: u64, connection: &mut Option<Connection>) -> Result<String> {
        let Some(body) = &self.session else {
            return Ok(String::new());
        };
        let mut mixed = Mixed(0);
        let request = self.request(number, "", body, &mut mixed);
        let answer = asked(connection, self.address, request.as_bytes())?;
        let session = match answer.header("mcp-session-id") {
            Some(id) if answer.is_good("") => format!("Mcp-Session-Id: {id}\r\n"),
            _ => return Err(wrong(format!("no session: {}", answer.shown()))),
        };
        let request = self.request(number, &session, INITIALIZED, &mut mixed);
        let answer = asked(connection, self.address, request.as_bytes())?;
        match answer.is_good("") {
            true => Ok(session),
            false => Err(wrong(format!("no session: {}", answer.shown()))),
        }
    }

    fn request(&self, connection: u64, session: &str, body: &str, mixed: &mut Mixed) -> String {
        let n = match self.of {
            Some(of) => mixed.next() % of,
            None => self.next.fetch_add(1, Ordering::Relaxed),
        };
        let n = n.to_string();
        let (method, address, headers) = (&self.method, self.address, &self.headers);
        let s = (connection % self.spread.max(1)).to_string();
        let path = self.path.replace("{n}", &n).replace("{s}", &s);
        let body = body.replace("{n}", &n);
        let bearer = match self.bearers.len() {
            0 => String::new(),
            tokens => {
                let token = &self.bearers[connection as usize % tokens];
                format!("Authorization: Bearer {token}\r\n")
            }
        };
        let length = match body.len() {
            0 => String::new(),
            length => format!("Content-Length: {length}\r\n"),
        };
        format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\n{headers}{bearer}{session}{length}\r\n{body}"
        )
    }
}

/// The same load without HTTP: a program that answers line by line on its standard output.
fn stdio(options: &[&str]) -> Result<()> {
    let dashes = options.iter().position(|option| *option == "--");
    let (options, program) = options.split_at(dashes.ok_or_else(|| wrong("no -- PROGRAM"))?);
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let run = Run::of(nowhere, "", "", options)?;
    let mut child = Command::new(program.get(1).ok_or_else(|| wrong("no PROGRAM"))?)
        .args(&program[2..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let seen = lines(&run, &mut child);
    // It may have ended by itself.
    let _ = child.kill();
    let _ = child.wait();
    run.tell(vec![seen?], run.seconds as f64);
    Ok(())
}

/// Keeps as many requests under way as there would be connections; they are answered in the order in which they were asked.
fn lines(run: &Run, child: &mut Child) -> Result<Seen> {
    let mut seen = Seen::default();
    let (Some(mut to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(ErrorKind::NotConnected.into());
    };
    let mut from = BufReader::new(from);
    let mut line = String::new();
    if let Some(body) = &run.session {
        to.write_all(format!("{body}\n").as_bytes())?;
        from.read_line(&mut line)?;
        to.write_all(format!("{INITIALIZED}\n").as_bytes())?;
    }
    let measured = Instant::now() + Duration::from_secs(run.warm_up);
    let mut under_way = VecDeque::new();
    loop {
        while under_way.len() < run.connections as usize {
            let n = run.next.fetch_add(1, Ordering::Relaxed).to_string();
            under_way.push_back(Instant::now());
            to.write_all(format!("{}\n", run.body.replace("{n}", &n)).as_bytes())?;
        }
        line.clear();
        if from.read_line(&mut line)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let begun = under_way.pop_front().unwrap_or(measured);
        let refusal = (!line.contains(&run.holds)).then(|| line.chars().take(300).collect());
        seen.note(begun, measured, refusal);
        if !run.goes_on(measured) {
            return Ok(seen);
        }
    }
}

/// Numbers in an order that looks like chance and is the same each time: Knuth's generator, its upper half.
struct Mixed(u64);

impl Mixed {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }
}

fn asked<'a>(
    connection: &'a mut Option<Connection>,
    address: SocketAddr,
    request: &[u8],
) -> Result<Answer<'a>> {
    if connection.is_none() {
        *connection = Some(Connection::open(address)?);
    }
    let Some(open) = connection.as_mut() else {
        return Err(ErrorKind::NotConnected.into());
    };
    match open.read_answer(request) {
        Ok((status, length)) => {
            let open = connection.as_ref().ok_or(ErrorKind::NotConnected)?;
            Ok(Answer {
                status,
                bytes: &open.bytes[..length],
            })
        }
        Err(error) => {
            *connection = None;
            Err(error)
        }
    }
}

struct Answer<'a> {
    status: u16,
    bytes: &'a [u8],
}

impl Answer<'_> {
    fn is_good(&self, holds: &str) -> bool {
        (200..300).contains(&self.status)
            && (holds.is_empty() || find(self.bytes, holds.as_bytes()).is_some())
    }

    fn header(&self, name: &str) -> Option<String> {
        let head = find(self.bytes, b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&self.bytes[..head]).into_owned();
        head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            (found.eq_ignore_ascii_case(name)).then(|| value.trim().to_owned())
        })
    }

    fn body(&self) -> String {
        let head = find(self.bytes, b"\r\n\r\n").map_or(0, |end| end + 4);
        String::from_utf8_lossy(&self.bytes[head..]).into_owned()
    }

    /// For a message: bounded.
    fn shown(&self) -> String {
        let body: String = self.body().chars().take(300).collect();
        format!("{} {body}", self.status)
    }
}

/// A connection that is kept.
struct Connection {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl Connection {
    fn open(address: SocketAddr) -> Result<Connection> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(Connection {
            stream,
            bytes: Vec::with_capacity(64 * 1024),
        })
    }

    /// Sends the request and reads its whole answer: its status, and how long it is.
    fn read_answer(&mut self, request: &[u8]) -> Result<(u16, usize)> {
        self.stream.write_all(request)?;
        self.bytes.clear();
        let head = loop {
            if let Some(end) = find(&self.bytes, b"\r\n\r\n") {
                break end + 4;
            }
            self.more()?;
        };
        let text = String::from_utf8_lossy(&self.bytes[..head]).to_ascii_lowercase();
        let status = text.get(9..12).and_then(|digits| digits.parse().ok());
        let status = status.ok_or_else(|| wrong("no answer of HTTP/1.1"))?;
        let header = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name))
                .map(str::trim)
        };
        if let Some(length) = header("content-length:") {
            let end = head + parsed::<usize>(length)?;
            while self.bytes.len() < end {
                self.more()?;
            }
        } else if header("transfer-encoding:") == Some("chunked") {
            self.chunks(head)?;
        } else if status != 204 {
            return Err(wrong("an answer without its length"));
        }
        Ok((status, self.bytes.len()))
    }

    fn chunks(&mut self, mut at: usize) -> Result<()> {
        loop {
            let line = loop {
                if let Some(length) = find(&self.bytes[at..], b"\r\n") {
                    break at + length;
                }
                self.more()?;
            };
            let digits = String::from_utf8_lossy(&self.bytes[at..line]).into_owned();
            let length = usize::from_str_radix(digits.trim(), 16)
                .map_err(|_| wrong("a chunk without its length"))?;
            at = line + 2 + length + 2;
            while self.bytes.len() < at {
                self.more()?;
            }
            if length == 0 {
                return Ok(());
            }
        }
    }

    fn more(&mut self) -> Result<()> {
        let mut part = [0; 16 * 1024];
        let length = self.stream.read(&mut part)?;
        if length == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.bytes.extend_from_slice(&part[..length]);
        Ok(())
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|part| part == wanted)
}
