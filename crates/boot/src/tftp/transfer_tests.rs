//! Tests of the transfer machine, with a client that loses what it is told to lose.

use bytes::Bytes;

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

fn transfer(length: usize, block_size: u16, window: u16) -> Transfer<Bytes> {
    let terms = Terms {
        block_size,
        window,
        retry: RETRY_FIRST,
    };
    Transfer::new(content(length), terms, &Options::default())
}

fn packets(step: Step) -> Vec<Vec<u8>> {
    match step {
        Step::Send(packets) => packets,
        Step::End(end) => panic!("{end:?}"),
    }
}

fn block(packet: &[u8]) -> u16 {
    u16::from_be_bytes([packet[2], packet[3]])
}

/// Plays a client that acknowledges each window's end and drops the packets that `loses` names.
fn fetch(mut transfer: Transfer<Bytes>, mut loses: impl FnMut(u64) -> bool) -> Vec<u8> {
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
            Step::Send(sent) => sent,
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
    let mut transfer = Transfer::new(content(50_000), terms, &agreed);
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
    let mut probe = Transfer::new(content(5000), terms, &agreed);
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
    assert_eq!(waits, [1, 2, 4, 8, 8, 8, 8, 8, 8, 8]);
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
fn a_slow_clock_is_not_agreed_to_so_that_lost_packets_come_back() {
    for (asked, agreed_to, first_wait) in [(8, Some(8), 8), (9, None, 1), (255, None, 1)] {
        let asked = Options {
            timeout_seconds: Some(asked),
            ..Options::default()
        };
        let (terms, agreed) = settle(&asked, 5000, BOUNDS);
        assert_eq!(agreed.timeout_seconds, agreed_to);
        let mut transfer = Transfer::new(content(5000), terms, &agreed);
        packets(transfer.start());
        assert_eq!(transfer.wait().as_secs(), first_wait);
        assert_eq!(packets(transfer.timed_out()).len(), 1, "sent again");
    }
}

/// A source whose file shrank.
struct Shrunk;

impl Source for Shrunk {
    fn length(&self) -> u64 {
        5000
    }

    fn read(&self, _: u64, _: usize, _: &mut Vec<u8>) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_file_that_shrinks_ends_the_transfer() {
    let terms = Terms {
        block_size: 512,
        window: 1,
        retry: RETRY_FIRST,
    };
    let mut transfer = Transfer::new(Shrunk, terms, &Options::default());
    assert_eq!(transfer.start(), Step::End(End::Unreadable));
}
