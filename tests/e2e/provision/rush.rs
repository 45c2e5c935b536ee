//! Many machines at once, as a program that takes little of the processor itself: scale.py compiles it.
//!
//!     rush scripts ADDRESS MACHINES FILE TIMES   boot.ipxe, ipxe and kickstart of every machine, as many
//!                                                times, and until there is such a file
//!     rush kernels ADDRESS MACHINES BYTES        boot.ipxe, ipxe and the kernel that it names
//!
//! Every machine is a thread with connections of its own, and all of them begin at once. Each error is a line;
//! `scripts` ends with `p99 MICROSECONDS times TIMES`: from a machine's first connection to its script.

use std::{
    env,
    error::Error,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::ExitCode,
    sync::{Barrier, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

type Failure = Box<dyn Error + Send + Sync>;

const PATIENCE: Duration = Duration::from_secs(120);
const STACK_BYTES: usize = 256 << 10;

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["scripts", address, machines, file, times] => measure(address, machines, file, times),
        ["kernels", address, machines, bytes] => draw(address, machines, bytes),
        _ => Err(
            "rush scripts ADDRESS MACHINES FILE TIMES | rush kernels ADDRESS MACHINES BYTES".into(),
        ),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("error {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(address: &str, machines: &str, file: &str, times: &str) -> Result<(), Failure> {
    let (machines, least) = (machines.parse()?, times.parse::<usize>()?);
    let (mut took, mut times) = (Vec::new(), 0);
    while times < least || !Path::new(file).exists() {
        took.extend(all_at_once(machines, |number| {
            one_morning(address, number)
        })?);
        times += 1;
    }
    took.sort();
    let p99 = took
        .get(took.len() * 99 / 100)
        .ok_or("no machine got its script")?;
    println!("p99 {} times {times}", p99.as_micros());
    Ok(())
}

fn draw(address: &str, machines: &str, bytes: &str) -> Result<(), Failure> {
    let bytes = bytes.parse()?;
    all_at_once(machines.parse()?, |number| kernel(address, number, bytes))?;
    Ok(())
}

/// One task for every machine; what those that succeeded took.
fn all_at_once(
    machines: usize,
    task: impl Fn(usize) -> Result<Duration, Failure> + Sync,
) -> Result<Vec<Duration>, Failure> {
    let (start, took) = (Barrier::new(machines), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for number in 0..machines {
            let (start, took, task) = (&start, &took, &task);
            let machine = move || {
                start.wait();
                match task(number) {
                    Ok(time) => took
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(time),
                    Err(error) => println!("error {error}"),
                }
            };
            let thread = thread::Builder::new().stack_size(STACK_BYTES);
            thread
                .spawn_scoped(scope, machine)
                .expect("the barrier needs every machine");
        }
    });
    Ok(took.into_inner()?)
}

/// A machine's morning but for its kernel: what its scripts took.
fn one_morning(address: &str, number: usize) -> Result<Duration, Failure> {
    let begun = Instant::now();
    scripts(address, number)?;
    let took = begun.elapsed();
    let who = format!("X-RHN-Provisioning-MAC-0: eth0 {}\r\n", mac(number));
    let kickstart = get(&mut connect(address)?, "/kickstart", &who)?;
    if kickstart != format!("network --hostname=n{number}\n").as_bytes() {
        return Err("another machine's kickstart".into());
    }
    Ok(took)
}

/// The kernel that the machine's script names, as fast as it comes.
fn kernel(address: &str, number: usize, bytes: usize) -> Result<Duration, Failure> {
    let script = scripts(address, number)?;
    let url = script
        .lines()
        .find_map(|line| line.strip_prefix("kernel http://"));
    let (host, path) = url
        .and_then(|url| url.split_once('/'))
        .ok_or("a script without kernel")?;
    let begun = Instant::now();
    let mut stream = connect(host)?;
    let (first, length) = ask(&mut stream, &format!("/{path}"), "")?;
    let (mut read, mut buffer) = (first.len(), vec![0; 64 << 10]);
    while read < length {
        match stream.read(&mut buffer)? {
            0 => break,
            more => read += more,
        }
    }
    if read != bytes {
        return Err(format!("{read} bytes of a kernel").into());
    }
    Ok(begun.elapsed())
}

/// boot.ipxe and ipxe, on a connection of their own.
fn scripts(address: &str, number: usize) -> Result<String, Failure> {
    let mut stream = connect(address)?;
    get(&mut stream, "/boot.ipxe", "")?;
    let script = get(&mut stream, &format!("/ipxe?mac={}", mac(number)), "")?;
    Ok(String::from_utf8(script)?)
}

fn mac(number: usize) -> String {
    format!("52:54:00:00:{:02x}:{:02x}", number >> 8, number & 255)
}

fn connect(address: &str) -> Result<TcpStream, Failure> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn get(stream: &mut TcpStream, path: &str, fields: &str) -> Result<Vec<u8>, Failure> {
    let (mut body, length) = ask(stream, path, fields)?;
    let begun = body.len();
    body.resize(length, 0);
    stream.read_exact(body.get_mut(begun..).ok_or("more than was announced")?)?;
    Ok(body)
}

/// Asks and reads the head; what came of the body with it, and the length of the whole body.
fn ask(stream: &mut TcpStream, path: &str, fields: &str) -> Result<(Vec<u8>, usize), Failure> {
    let host = stream.peer_addr()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n");
    stream.write_all(request.as_bytes())?;
    let (mut got, mut buffer) = (Vec::new(), [0; 4096]);
    let end = loop {
        if let Some(end) = got.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        match stream.read(&mut buffer)? {
            0 => return Err(format!("{path}: the head has no end").into()),
            read => got.extend_from_slice(&buffer[..read]),
        }
    };
    let head = String::from_utf8_lossy(&got[..end]).to_ascii_lowercase();
    if !head.starts_with("http/1.1 200") {
        return Err(format!("{path}: {}", head.lines().next().unwrap_or_default()).into());
    }
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    Ok((
        got.split_off(end + 4),
        length.ok_or("a body without length")?.parse()?,
    ))
}
