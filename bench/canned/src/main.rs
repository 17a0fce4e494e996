//! A CQL server that costs next to nothing, so that what a benchmark measures is the client.
//!
//! It is a caching proxy: the first time it sees a request it asks a real server, and from then on it replays that
//! answer with the stream id put in. An EXECUTE is keyed by its statement, not by its bound values, so every execution
//! of a statement gets the reply of the first one. What changes the *form* of a reply is part of the key (whether
//! metadata was skipped, the page size, the paging state): clients that ask differently never see one another's replies.
//!
//! Only RESULT messages are kept. An ERROR (UNPREPARED among them) and a schema change always go to the real server again,
//! and so does every request with a frame flag (tracing, custom payload) and every BATCH. The handshake is answered
//! here: protocol v4 only, no compression offered. There is no authentication.
//!
//! One thread serves one connection, reading and writing in turns: everything that one read brought is answered by one
//! write. Each connection has its own map of replies, filled from a shared one, so a hit takes no lock.
//!
//! Usage: canned LISTEN UPSTREAM, for example `canned 127.0.0.1:0 127.0.0.1:9042`; it prints the address it listens on. For
//! each line on standard input it prints how many EXECUTE requests it has answered, by which a benchmark knows that a
//! client really spoke to it; at the end of the input it ends, so that it never outlives the benchmark.

use std::collections::HashMap;
use std::io::{BufRead, Error, ErrorKind, Read, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

const HEADER: usize = 9;
const VERSION: u8 = 4;

const ERROR: u8 = 0x00;
const STARTUP: u8 = 0x01;
const READY: u8 = 0x02;
const OPTIONS: u8 = 0x05;
const SUPPORTED: u8 = 0x06;
const QUERY: u8 = 0x07;
const RESULT: u8 = 0x08;
const PREPARE: u8 = 0x09;
const EXECUTE: u8 = 0x0A;
const REGISTER: u8 = 0x0B;

const PROTOCOL_ERROR: u32 = 0x000A;
const RESULT_SCHEMA_CHANGE: [u8; 4] = [0, 0, 0, 5];

// The flags of <query_parameters>, section 4.1.4 of the v4 specification.
const VALUES: u8 = 0x01;
const SKIP_METADATA: u8 = 0x02;
const PAGE_SIZE: u8 = 0x04;
const PAGING_STATE: u8 = 0x08;
const TIMESTAMP: u8 = 0x20;
const NAMES: u8 = 0x40;

type Reply = Arc<[u8]>;
type Replies = HashMap<Vec<u8>, Reply>;

/// What all connections share: the replies seen so far and the one connection to the real server.
struct Shared {
    replies: Mutex<Replies>,
    upstream: Mutex<TcpStream>,
    executed: AtomicU64,
}

/// Reads a request body front to back; `None` where it ends too early.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, size: usize) -> Option<&'a [u8]> {
        let taken = self.0.get(..size)?;
        self.0 = &self.0[size..];
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    fn short(&mut self) -> Option<usize> {
        let b = self.take(2)?;
        Some(u16::from_be_bytes([b[0], b[1]]) as usize)
    }

    fn int(&mut self) -> Option<i32> {
        let b = self.take(4)?;
        Some(i32::from_be_bytes([b[0], b[1], b[2], b[3]]))
    }

    /// A [value]: a negative length stands for null or unset and has no bytes.
    fn value(&mut self) -> Option<&'a [u8]> {
        let size = self.int()?;
        self.take(size.max(0) as usize)
    }
}

/// Write the cache key of a request into `key`. Returns whether it may be cached at all, `None` if it is malformed.
fn write_key(opcode: u8, body: &[u8], key: &mut Vec<u8>) -> Option<bool> {
    key.clear();
    key.push(opcode);
    let mut cursor = Cursor(body);
    match opcode {
        PREPARE => key.extend_from_slice(body),
        QUERY => {
            // Everything counts but the timestamp, which is last and new in every request.
            let size = cursor.int()?;
            cursor.take(size.max(0) as usize)?;
            cursor.short()?;
            let stamp = if cursor.byte()? & TIMESTAMP != 0 { 8 } else { 0 };
            key.extend_from_slice(body.get(..body.len().checked_sub(stamp)?)?);
        }
        EXECUTE => {
            let size = cursor.short()?;
            key.extend_from_slice(cursor.take(size)?);
            cursor.short()?;
            let flags = cursor.byte()?;
            key.push(flags & (SKIP_METADATA | PAGE_SIZE | PAGING_STATE));
            if flags & (PAGE_SIZE | PAGING_STATE) == 0 {
                return Some(true);
            }
            if flags & VALUES != 0 {
                for _ in 0..cursor.short()? {
                    if flags & NAMES != 0 {
                        let size = cursor.short()?;
                        cursor.take(size)?;
                    }
                    cursor.value()?;
                }
            }
            if flags & PAGE_SIZE != 0 {
                key.extend_from_slice(cursor.take(4)?);
            }
            if flags & PAGING_STATE != 0 {
                key.extend_from_slice(cursor.value()?);
            }
        }
        _ => return Some(false),
    }
    Some(true)
}

fn frame(opcode: u8, stream: [u8; 2], body: &[u8], direction: u8) -> Vec<u8> {
    let mut frame = vec![direction | VERSION, 0, stream[0], stream[1], opcode];
    frame.extend_from_slice(&(body.len() as u32).to_be_bytes());
    frame.extend_from_slice(body);
    frame
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn protocol_error(stream: [u8; 2], message: &str) -> Vec<u8> {
    let mut body = PROTOCOL_ERROR.to_be_bytes().to_vec();
    put_string(&mut body, message);
    frame(ERROR, stream, &body, 0x80)
}

fn supported(stream: [u8; 2]) -> Vec<u8> {
    let entries: [(&str, &[&str]); 3] =
        [("CQL_VERSION", &["3.4.7"]), ("COMPRESSION", &[]), ("PROTOCOL_VERSIONS", &["4/v4"])];
    let mut body = (entries.len() as u16).to_be_bytes().to_vec();
    for (name, values) in entries {
        put_string(&mut body, name);
        body.extend_from_slice(&(values.len() as u16).to_be_bytes());
        values.iter().for_each(|value| put_string(&mut body, value));
    }
    frame(SUPPORTED, stream, &body, 0x80)
}

fn read_frame(socket: &mut TcpStream) -> Result<Vec<u8>> {
    let mut frame = vec![0u8; HEADER];
    socket.read_exact(&mut frame)?;
    let size = u32::from_be_bytes([frame[5], frame[6], frame[7], frame[8]]) as usize;
    frame.resize(HEADER + size, 0);
    socket.read_exact(&mut frame[HEADER..])?;
    Ok(frame)
}

fn connect_upstream(address: &str) -> Result<TcpStream> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    socket.write_all(&frame(STARTUP, [0, 0], b"\x00\x01\x00\x0bCQL_VERSION\x00\x053.0.0", 0))?;
    match read_frame(&mut socket)?[4] {
        READY => Ok(socket),
        _ => Err(Error::new(ErrorKind::Unsupported, "the server wants authentication, or speaks no v4")),
    }
}

fn ask_upstream(shared: &Shared, request: &[u8]) -> Result<Vec<u8>> {
    let mut request = request.to_vec();
    request[2..4].fill(0);
    let mut upstream = shared.upstream.lock().unwrap();
    upstream.write_all(&request)?;
    loop {
        let reply = read_frame(&mut upstream)?;
        if reply[2..4] == [0, 0] {
            return Ok(reply);
        }
    }
}

/// A flagged reply (warnings, tracing) belongs to one request, and so do errors and schema changes.
fn is_cacheable(reply: &[u8]) -> bool {
    reply[1] == 0 && reply[4] == RESULT && reply.get(HEADER..HEADER + 4) != Some(&RESULT_SCHEMA_CHANGE)
}

/// One connection: its own view of the replies, and buffers that are used again.
struct Connection {
    shared: Arc<Shared>,
    replies: Replies,
    key: Vec<u8>,
    executed: u64,
}

impl Connection {
    /// Append the reply to one whole request frame to `out`.
    fn answer(&mut self, request: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let (version, flags, stream, opcode) = (request[0], request[1], [request[2], request[3]], request[4]);
        if version != VERSION {
            let text = format!("Invalid or unsupported protocol version ({version}); supported versions are (4/v4)");
            out.extend_from_slice(&protocol_error(stream, &text));
            return Ok(());
        }
        match opcode {
            OPTIONS => out.extend_from_slice(&supported(stream)),
            STARTUP | REGISTER => out.extend_from_slice(&frame(READY, stream, &[], 0x80)),
            _ if flags & 0x01 != 0 => out.extend_from_slice(&protocol_error(stream, "compression was not offered")),
            _ => {
                let at = out.len();
                self.replay(request, flags == 0, out)?;
                self.executed += u64::from(opcode == EXECUTE);
                out[at + 2..at + 4].copy_from_slice(&stream);
            }
        }
        Ok(())
    }

    fn replay(&mut self, request: &[u8], plain: bool, out: &mut Vec<u8>) -> Result<()> {
        let mut key = std::mem::take(&mut self.key);
        let known = write_key(request[4], &request[HEADER..], &mut key)
            .ok_or_else(|| Error::new(ErrorKind::InvalidData, "a request that ends too early"))?;
        let cacheable = plain && known;
        if cacheable {
            if let Some(reply) = self.replies.get(&key) {
                out.extend_from_slice(reply);
                self.key = key;
                return Ok(());
            }
        }
        let shared = self.shared.clone();
        let hit = if cacheable { shared.replies.lock().unwrap().get(&key).cloned() } else { None };
        let reply: Reply = match hit {
            Some(reply) => reply,
            None => ask_upstream(&shared, request)?.into(),
        };
        out.extend_from_slice(&reply);
        if cacheable && is_cacheable(&reply) {
            shared.replies.lock().unwrap().insert(key.clone(), reply.clone());
            self.replies.insert(key.clone(), reply);
        }
        self.key = key;
        Ok(())
    }
}

fn serve(mut client: TcpStream, shared: Arc<Shared>) -> Result<()> {
    client.set_nodelay(true)?;
    let mut connection = Connection { shared, replies: HashMap::new(), key: Vec::new(), executed: 0 };
    let mut chunk = vec![0u8; 1 << 18];
    let mut input: Vec<u8> = Vec::with_capacity(1 << 20);
    let mut out: Vec<u8> = Vec::with_capacity(1 << 20);
    loop {
        let size = client.read(&mut chunk)?;
        if size == 0 {
            return Ok(());
        }
        input.extend_from_slice(&chunk[..size]);
        let mut start = 0;
        while let Some(h) = input.get(start..start + HEADER) {
            let end = start + HEADER + u32::from_be_bytes([h[5], h[6], h[7], h[8]]) as usize;
            let Some(request) = input.get(start..end) else { break };
            connection.answer(request, &mut out)?;
            start = end;
        }
        input.drain(..start);
        // Counted before the replies go out: who has them all finds them all counted.
        connection.shared.executed.fetch_add(std::mem::take(&mut connection.executed), Ordering::SeqCst);
        client.write_all(&out)?;
        out.clear();
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, upstream] = arguments.as_slice() else {
        eprintln!("usage: canned LISTEN UPSTREAM");
        std::process::exit(2);
    };
    let shared = Arc::new(Shared {
        replies: Mutex::new(HashMap::new()),
        upstream: Mutex::new(connect_upstream(upstream)?),
        executed: AtomicU64::new(0),
    });
    let listener = TcpListener::bind(listen)?;
    println!("{}", listener.local_addr()?);
    let counted = shared.clone();
    std::thread::spawn(move || {
        for _ in std::io::stdin().lock().lines() {
            println!("{}", counted.executed.load(Ordering::SeqCst));
        }
        std::process::exit(0);
    });
    for client in listener.incoming() {
        let (client, shared) = (client?, shared.clone());
        std::thread::spawn(move || {
            if let Err(error) = serve(client, shared) {
                if error.kind() != ErrorKind::ConnectionReset && error.kind() != ErrorKind::BrokenPipe {
                    eprintln!("canned: {error}");
                }
            }
        });
    }
    Ok(())
}
