//! One TFTP transfer as a pure machine: it is told what came and when, and says what to send, or which bytes
//! of the file it needs for that.
//!
//! The window of RFC 7440 slides over 64-bit block numbers; the 16 bits on the wire are the nearest
//! match, so that files beyond 65,535 blocks roll over to 0. A repeated acknowledgement never makes
//! anything be sent again by itself (the sorcerer's apprentice), except when it shows a gap inside a
//! window. Lost packets come back by the clock, which starts at one second and doubles to eight, or at what the
//! client asked for (RFC 2349). One that has acknowledged nothing yet is gone after a minute, whatever it asked
//! for: anybody can ask under a made-up address. Afterwards a client is gone when it says nothing for a minute,
//! or for three turns of a slower clock.

use std::time::Duration;

use bytes::Bytes;

use super::packet::{self, BLOCK_SIZE_DEFAULT, Incoming, Options};

/// First retransmission time where the client asked for none.
const RETRY_FIRST: Duration = Duration::from_secs(1);

/// Longest time between retransmissions, unless the client asked for a longer one (RFC 2349).
const RETRY_LAST: Duration = Duration::from_secs(8);

/// After this long without a word the client is taken for gone; one that has acknowledged something and has a
/// slow clock is not before its chances.
pub const SILENCE_MAX: Duration = Duration::from_mins(1);

/// How often at least a client is sent something before it is taken for gone: of a slow clock, a minute holds
/// no second time.
const CHANCES_MIN: u32 = 3;

/// Most blocks in flight that larder agrees to.
pub const WINDOW_MAX: u16 = 64;

/// IPv4, UDP and TFTP headers of a data packet.
const HEADERS: u16 = 32;

/// Bytes of the file that are asked for at once, where a window does not need more.
const AHEAD: u64 = 32 * 1024;

/// What is negotiated for a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Bytes a block.
    pub block_size: u16,
    /// Blocks in flight.
    pub window: u16,
    /// First retransmission time.
    pub retry: Duration,
}

/// Bounds that the operator or the network sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Largest IP packet on the way to the client.
    pub mtu: u16,
    /// Whether block sizes are negotiated at all.
    pub has_block_size: bool,
}

/// Settles a transfer's terms and the options to acknowledge, given the file's length.
pub fn settle(asked: &Options, length: u64, bounds: Bounds) -> (Terms, Options) {
    let largest = bounds.mtu.saturating_sub(HEADERS).max(BLOCK_SIZE_DEFAULT);
    let block_size = asked
        .block_size
        .filter(|_| bounds.has_block_size)
        .map(|size| size.min(largest));
    let window = asked.window_size.map(|blocks| blocks.min(WINDOW_MAX));
    let agreed = Options {
        block_size,
        transfer_size: asked.transfer_size.map(|_asked| length),
        timeout_seconds: asked.timeout_seconds,
        window_size: window,
    };
    let terms = Terms {
        block_size: block_size.unwrap_or(BLOCK_SIZE_DEFAULT),
        window: window.unwrap_or(1),
        retry: asked
            .timeout_seconds
            .map_or(RETRY_FIRST, |seconds| Duration::from_secs(seconds.into())),
    };
    (terms, agreed)
}

/// How a transfer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The client acknowledged the last block.
    Complete,
    /// The client asked for the size alone, as firmware does before it loads.
    Probe,
    /// The client gave up, with its words.
    Aborted(String),
    /// The client fell silent.
    Vanished,
    /// The file could not be read to its end.
    Unreadable,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Send these packets (there may be none) and wait until the time given is over or something comes.
    Send(Vec<Vec<u8>>),
    /// Read these bytes of the file, and tell [`Transfer::read`].
    Read(Span),
    /// It is over.
    End(End),
}

/// A part of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Its first byte.
    pub offset: u64,
    /// How many there are.
    pub length: usize,
}

/// A transfer.
#[derive(Debug)]
pub struct Transfer {
    /// The file's length.
    length: u64,
    /// What of the file is at hand, from this offset on.
    at_hand: (u64, Bytes),
    terms: Terms,
    /// The acknowledgement of options, until the client has answered it.
    options_ack: Option<Vec<u8>>,
    /// Blocks that the client has, counted from 1.
    acknowledged: u64,
    /// Blocks that are sent.
    sent: u64,
    retry: Duration,
    silent: Duration,
    /// Whether the client has acknowledged anything, options included.
    is_answered: bool,
    /// Up to this block, something was sent twice: each copy is acknowledged, and the second acknowledgement
    /// shows no gap.
    doubled_until: Option<u64>,
}

impl Transfer {
    /// Starts a transfer of a file of this length; `agreed` options are acknowledged before the first block.
    pub fn new(length: u64, terms: Terms, agreed: &Options) -> Self {
        Self {
            length,
            at_hand: (0, Bytes::new()),
            terms,
            options_ack: (!agreed.is_empty()).then(|| packet::options_ack(agreed)),
            acknowledged: 0,
            sent: 0,
            retry: terms.retry,
            silent: Duration::ZERO,
            is_answered: false,
            doubled_until: None,
        }
    }

    /// The first packets.
    pub fn start(&mut self) -> Step {
        match &self.options_ack {
            Some(packet) => Step::Send(vec![packet.clone()]),
            None => self.fill_window(),
        }
    }

    /// How long to wait for the client before [`Self::timed_out`].
    pub fn wait(&self) -> Duration {
        if self.is_answered {
            return self.retry;
        }
        let left = SILENCE_MAX.saturating_sub(self.silent);
        self.retry.min(SILENCE_MAX / CHANCES_MIN).min(left)
    }

    /// Tells whether the client has acknowledged a block.
    pub fn is_heard(&self) -> bool {
        self.acknowledged > 0
    }

    /// Bytes that the client has.
    pub fn bytes_acknowledged(&self) -> u64 {
        (self.acknowledged * u64::from(self.terms.block_size)).min(self.length)
    }

    /// Blocks in the whole file; the last one is shorter than the others, if need be empty.
    fn blocks(&self) -> u64 {
        self.length / u64::from(self.terms.block_size) + 1
    }

    /// Takes what the client sent.
    pub fn received(&mut self, incoming: Incoming) -> Step {
        match incoming {
            Incoming::Ack(wire) => self.acked(wire),
            Incoming::Error(code, text) => Step::End(self.given_up(code, text)),
            Incoming::Read(_) | Incoming::Write | Incoming::OtherMode | Incoming::Unknown => {
                Step::Send(Vec::new())
            }
        }
    }

    /// Firmware asks for the size, reads the answer and breaks off, with code 8 or 0.
    fn given_up(&self, code: u16, text: String) -> End {
        if self.options_ack.is_some() && matches!(code, 0 | 8) {
            End::Probe
        } else if self.acknowledged >= self.blocks() {
            End::Complete
        } else {
            End::Aborted(text)
        }
    }

    /// Takes the same request again: until the first acknowledgement, the client has not seen the answer.
    pub fn asked_again(&mut self) -> Step {
        if self.acknowledged == 0 {
            self.resend()
        } else {
            Step::Send(Vec::new())
        }
    }

    fn acked(&mut self, wire: u16) -> Step {
        if self.options_ack.is_some() {
            if wire != 0 {
                return Step::Send(Vec::new());
            }
            self.options_ack = None;
            self.heard();
            return self.fill_window();
        }
        let ahead = u64::from(wire.wrapping_sub(self.acknowledged as u16));
        if ahead > self.sent - self.acknowledged {
            return Step::Send(Vec::new());
        }
        if ahead == 0 {
            return self.gap();
        }
        self.acknowledged += ahead;
        self.heard();
        if self.acknowledged >= self.blocks() {
            return Step::End(End::Complete);
        }
        if self.acknowledged < self.sent {
            // A block inside the window got lost: the client wants everything behind it (RFC 7440 §4).
            self.doubled_until = Some(self.sent);
            self.sent = self.acknowledged;
        }
        self.fill_window()
    }

    /// A repeated acknowledgement: in a window it shows that the first block got lost, which is mended
    /// once. With one block in flight, or behind what was sent twice, it is only an echo: sending anew for
    /// that would double every window to the end.
    fn gap(&mut self) -> Step {
        let is_echo = self
            .doubled_until
            .is_some_and(|until| self.acknowledged <= until);
        if self.terms.window == 1 || is_echo || self.sent == self.acknowledged {
            return Step::Send(Vec::new());
        }
        self.resend()
    }

    fn heard(&mut self) {
        self.is_answered = true;
        self.retry = self.terms.retry;
        self.silent = Duration::ZERO;
    }

    /// Takes that nothing came for [`Self::wait`].
    pub fn timed_out(&mut self) -> Step {
        self.silent += self.wait();
        let chances = if self.is_answered {
            self.terms.retry * CHANCES_MIN
        } else {
            Duration::ZERO
        };
        if self.silent >= SILENCE_MAX.max(chances) {
            return Step::End(End::Vanished);
        }
        self.retry = (self.retry * 2).min(RETRY_LAST.max(self.terms.retry));
        self.resend()
    }

    fn resend(&mut self) -> Step {
        self.doubled_until = Some(self.sent);
        if let Some(packet) = &self.options_ack {
            return Step::Send(vec![packet.clone()]);
        }
        self.sent = self.acknowledged;
        self.fill_window()
    }

    fn fill_window(&mut self) -> Step {
        let window = u64::from(self.terms.window);
        let last = self.blocks().min(self.acknowledged + window);
        let blocks: Option<Vec<&[u8]>> = (self.sent..last).map(|at| self.block(at)).collect();
        let Some(blocks) = blocks else {
            return Step::Read(self.span(self.sent, last));
        };
        let packet = |(number, block): (u64, &[u8])| {
            let mut packet = packet::data_head(number as u16).to_vec();
            packet.extend_from_slice(block);
            packet
        };
        let packets = (self.sent + 1..).zip(blocks).map(packet).collect();
        self.sent = self.sent.max(last);
        Step::Send(packets)
    }

    /// Takes what was read of the file.
    pub fn read(&mut self, asked: Span, bytes: std::io::Result<Bytes>) -> Step {
        match bytes {
            Ok(bytes) if bytes.len() >= asked.length => {
                self.at_hand = (asked.offset, bytes);
                self.fill_window()
            }
            Ok(_) | Err(_) => Step::End(End::Unreadable),
        }
    }

    /// Where in the file these blocks are, with some of what follows them.
    fn span(&self, first: u64, last: u64) -> Span {
        let size = u64::from(self.terms.block_size);
        let offset = (first * size).min(self.length);
        let end = (last * size).max(offset + AHEAD).min(self.length);
        Span {
            offset,
            length: (end - offset) as usize,
        }
    }

    /// A block, counted from 0; none if it is not at hand.
    fn block(&self, number: u64) -> Option<&[u8]> {
        let size = u64::from(self.terms.block_size);
        let (offset, end) = (number * size, ((number + 1) * size).min(self.length));
        let (start, bytes) = &self.at_hand;
        let place = |at: u64| usize::try_from(at.checked_sub(*start)?).ok();
        bytes.get(place(offset)?..place(end)?)
    }
}

#[cfg(test)]
#[path = "transfer_tests.rs"]
mod tests;
