//! Tests of the transfer machine, with a client that loses what it is told to lose.

use std::ops::Deref;

use super::*;

const BOUNDS: Bounds = Bounds {
    mtu: 1500,
    has_block_size: true,
};

fn content(length: usize) -> Bytes {
    (0..length)
        .map(|at| (at * 7 % 251) as u8)
        .collect::<Vec<_>>()
        .into()
}

/// A transfer with its file.
struct Fed {
    transfer: Transfer,
    content: Bytes,
}

impl Fed {
    fn step(&mut self, mut step: Step) -> Step {
        while let Step::Read(span) = step {
            let start = span.offset as usize;
            let bytes = self.content.slice(start..start + span.length);
            step = self.transfer.read(span, Ok(bytes));
        }
        step
    }

    fn start(&mut self) -> Step {
        let step = self.transfer.start();
        self.step(step)
    }

    fn received(&mut self, incoming: Incoming) -> Step {
        let step = self.transfer.received(incoming);
        self.step(step)
    }

    fn timed_out(&mut self) -> Step {
        let step = self.transfer.timed_out();
        self.step(step)
    }
}

impl Deref for Fed {
    type Target = Transfer;

    fn deref(&self) -> &Transfer {
        &self.transfer
    }
}

fn transfer_of(length: usize, terms: Terms, agreed: &Options) -> Fed {
    Fed {
        transfer: Transfer::new(length as u64, terms, agreed),
        content: content(length),
    }
}

fn transfer(length: usize, block_size: u16, window: u16) -> Fed {
    let terms = Terms {
        block_size,
        window,
        retry: RETRY_FIRST,
    };
    transfer_of(length, terms, &Options::default())
}

fn packets(step: Step) -> Vec<Vec<u8>> {
    match step {
        Step::Send(packets) => packets,
        Step::Read(span) => panic!("{span:?}"),
        Step::End(end) => panic!("{end:?}"),
    }
}

fn block(packet: &[u8]) -> u16 {
    u16::from_be_bytes([packet[2], packet[3]])
}

/// Plays a client that acknowledges each window's end and drops the packets that `loses` names.
fn fetch(mut transfer: Fed, mut loses: impl FnMut(u64) -> bool) -> Vec<u8> {
    let window = usize::from(transfer.terms.window);
    let block_size = usize::from(transfer.terms.block_size);
    let (mut got, mut have, mut seen) = (Vec::new(), 0u64, 0u64);
    let mut step = transfer.start();
    loop {
        let sent = match step {
            Step::End(end) => {
                assert_eq!(end, End::Complete);
                return got;
            }
            step => packets(step),
        };
        let mut in_window = 0;
        let mut is_last = false;
        for packet in sent {
            seen += 1;
            if loses(seen) || block(&packet) != (have + 1) as u16 {
                continue;
            }
            have += 1;
            in_window += 1;
            got.extend(&packet[4..]);
            is_last = packet.len() - 4 < block_size;
        }
        let answers = is_last || in_window == window || in_window > 0;
        step = if answers {
            transfer.received(Incoming::Ack(have as u16))
        } else {
            transfer.timed_out()
        };
    }
}

#[test]
fn every_length_arrives_whole() {
    for length in [0, 1, 511, 512, 513, 1024, 5000] {
        for window in [1, 2, 16] {
            assert_eq!(
                fetch(transfer(length, 512, window), |_| false),
                content(length),
                "{length}/{window}"
            );
        }
    }
}

#[test]
fn block_numbers_roll_over() {
    let length = 8 * 70_000 + 3;
    assert_eq!(fetch(transfer(length, 8, 16), |_| false), content(length));
    assert_eq!(fetch(transfer(length, 8, 1), |_| false), content(length));
}

#[test]
fn lost_packets_come_again() {
    for window in [1, 4, 16] {
        let lossy = |seen: u64| seen.is_multiple_of(5);
        assert_eq!(
            fetch(transfer(40_000, 512, window), lossy),
            content(40_000),
            "{window}"
        );
    }
}

#[test]
fn a_repeated_acknowledgement_is_no_reason_to_send_twice() {
    let mut transfer = transfer(5000, 512, 1);
    packets(transfer.start());
    assert_eq!(packets(transfer.received(Incoming::Ack(1))).len(), 1);
    for _ in 0..100 {
        assert_eq!(packets(transfer.received(Incoming::Ack(1))).len(), 0);
        assert_eq!(packets(transfer.received(Incoming::Ack(0))).len(), 0);
    }
    assert_eq!(packets(transfer.received(Incoming::Ack(2))).len(), 1);
}

#[test]
fn a_gap_at_the_start_of_a_window_is_mended_once() {
    let mut transfer = transfer(50_000, 512, 8);
    packets(transfer.start());
    assert_eq!(packets(transfer.received(Incoming::Ack(8))).len(), 8);
    assert_eq!(packets(transfer.received(Incoming::Ack(8))).len(), 8);
    assert_eq!(packets(transfer.received(Incoming::Ack(8))).len(), 0);
    assert_eq!(packets(transfer.received(Incoming::Ack(12))).len(), 8);
}

#[test]
fn a_late_acknowledgement_does_not_double_the_rest() {
    let mut transfer = transfer(50_000, 512, 4);
    assert_eq!(packets(transfer.start()).len(), 4);
    assert_eq!(packets(transfer.timed_out()).len(), 4, "it was only late");
    assert_eq!(packets(transfer.received(Incoming::Ack(4))).len(), 4);
    assert_eq!(
        packets(transfer.received(Incoming::Ack(4))).len(),
        0,
        "the copy's"
    );
    assert_eq!(packets(transfer.received(Incoming::Ack(8))).len(), 4);
    // What was sent once is mended as ever.
    assert_eq!(packets(transfer.received(Incoming::Ack(8))).len(), 4);
    // Those packets were doubled, and their acknowledgements are two.
    assert_eq!(packets(transfer.received(Incoming::Ack(12))).len(), 4);
    assert_eq!(packets(transfer.received(Incoming::Ack(12))).len(), 0);
    assert_eq!(packets(transfer.received(Incoming::Ack(16))).len(), 4);
    assert_eq!(packets(transfer.received(Incoming::Ack(12))).len(), 0);
}

#[test]
fn options_that_were_acknowledged_twice_do_not_double_the_first_window() {
    let asked = Options {
        window_size: Some(4),
        ..Options::default()
    };
    let (terms, agreed) = settle(&asked, 50_000, BOUNDS);
    let mut transfer = transfer_of(50_000, terms, &agreed);
    packets(transfer.start());
    packets(transfer.timed_out());
    assert_eq!(packets(transfer.received(Incoming::Ack(0))).len(), 4);
    assert_eq!(packets(transfer.received(Incoming::Ack(0))).len(), 0);
}

#[test]
fn an_acknowledgement_from_the_future_is_ignored() {
    let mut transfer = transfer(50_000, 512, 2);
    packets(transfer.start());
    assert_eq!(packets(transfer.received(Incoming::Ack(3))).len(), 0);
    assert_eq!(packets(transfer.received(Incoming::Ack(40_000))).len(), 0);
    assert_eq!(transfer.bytes_acknowledged(), 0);
}

#[test]
fn an_abort_right_after_the_options_is_a_size_probe() {
    let asked = Options {
        transfer_size: Some(0),
        ..Options::default()
    };
    let (terms, agreed) = settle(&asked, 5000, BOUNDS);
    let mut probe = transfer_of(5000, terms, &agreed);
    assert_eq!(packets(probe.start()), [b"\0\x06tsize\x005000\0"]);
    let abort = Incoming::Error(8, "User aborted the transfer".into());
    assert_eq!(probe.received(abort.clone()), Step::End(End::Probe));
    let mut other = transfer(5000, 512, 1);
    packets(other.start());
    assert!(matches!(other.received(abort), Step::End(End::Aborted(_))));
}

#[test]
fn the_clock_backs_off_and_a_silent_client_is_given_up() {
    let mut transfer = transfer(5000, 512, 1);
    packets(transfer.start());
    let mut waits = Vec::new();
    loop {
        waits.push(transfer.wait().as_secs());
        if let Step::End(end) = transfer.timed_out() {
            assert_eq!(end, End::Vanished);
            break;
        }
    }
    assert_eq!(waits, [1, 2, 4, 8, 8, 8, 8, 8, 8, 5], "a minute in all");
}

#[test]
fn terms_stay_within_the_mtu_and_the_bounds() {
    let asked = Options {
        block_size: Some(65464),
        window_size: Some(65535),
        ..Options::default()
    };
    let (terms, agreed) = settle(&asked, 5000, BOUNDS);
    assert_eq!((terms.block_size, terms.window), (1468, WINDOW_MAX));
    assert_eq!(
        (agreed.block_size, agreed.window_size),
        (Some(1468), Some(WINDOW_MAX))
    );
    let (terms, agreed) = settle(
        &asked,
        5000,
        Bounds {
            mtu: 1500,
            has_block_size: false,
        },
    );
    assert_eq!((terms.block_size, agreed.block_size), (512, None));
    let (terms, agreed) = settle(&Options::default(), 9, BOUNDS);
    assert_eq!(
        (terms.block_size, terms.window, agreed.is_empty()),
        (512, 1, true)
    );
}

#[test]
fn a_clock_is_the_clients_as_rfc_2349_has_it_and_a_slow_one_gets_its_chances() {
    for (asked, next, chances) in [(1, 2, 10), (8, 8, 8), (9, 9, 7), (255, 255, 3)] {
        let options = Options {
            timeout_seconds: Some(asked),
            ..Options::default()
        };
        let (terms, agreed) = settle(&options, 5000, BOUNDS);
        assert_eq!(agreed.timeout_seconds, Some(asked));
        let mut transfer = transfer_of(5000, terms, &agreed);
        packets(transfer.start());
        packets(transfer.received(Incoming::Ack(0)));
        assert_eq!(transfer.wait().as_secs(), u64::from(asked));
        let mut sent = 0;
        while let Step::Send(again) = transfer.timed_out() {
            sent += again.len();
            assert!(sent > 1 || transfer.wait().as_secs() == next);
        }
        assert_eq!(sent + 1, chances, "{asked}");
    }
}

#[test]
fn a_client_that_has_acknowledged_nothing_has_a_minute_whatever_it_asks_for() {
    for asked in [1, 9, 20, 21, 60, 255] {
        let options = Options {
            timeout_seconds: Some(asked),
            ..Options::default()
        };
        let (terms, agreed) = settle(&options, 5000, BOUNDS);
        let mut transfer = transfer_of(5000, terms, &agreed);
        packets(transfer.start());
        let (mut lives, mut sent) = (transfer.wait(), 1);
        while let Step::Send(again) = transfer.timed_out() {
            lives += transfer.wait();
            sent += again.len();
        }
        assert_eq!(lives, SILENCE_MAX, "{asked}");
        assert!(sent >= 3, "{asked}");
    }
}

#[test]
fn the_file_is_asked_for_in_large_pieces() {
    let mut transfer = Transfer::new(100_000, transfer(0, 512, 4).terms, &Options::default());
    let Step::Read(first) = transfer.start() else {
        panic!("nothing is at hand")
    };
    assert_eq!((first.offset, first.length), (0, 32 * 1024));
    let step = transfer.read(first, Ok(content(first.length)));
    assert_eq!(packets(step).len(), 4);
    for acknowledged in (4..64).step_by(4) {
        let step = transfer.received(Incoming::Ack(acknowledged));
        assert_eq!(packets(step).len(), 4, "{acknowledged}");
    }
    let Step::Read(second) = transfer.received(Incoming::Ack(64)) else {
        panic!("all is used up")
    };
    assert_eq!((second.offset, second.length), (64 * 512, 32 * 1024));
}

#[test]
fn a_file_that_shrinks_or_cannot_be_read_ends_the_transfer() {
    let failure = || Err(std::io::ErrorKind::TimedOut.into());
    for read in [Ok(Bytes::new()), failure()] {
        let mut transfer = transfer(5000, 512, 1).transfer;
        let Step::Read(span) = transfer.start() else {
            panic!("nothing is at hand")
        };
        assert_eq!(transfer.read(span, read), Step::End(End::Unreadable));
    }
}
