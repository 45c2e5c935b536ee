//! What is remembered of machines, and what is not.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};
use std::{fs, sync::Arc};

use super::*;

fn mac(last: u8) -> Mac {
    Mac::parse(&format!("52:54:00:00:00:{last:02x}")).unwrap()
}

#[test]
fn installed_survives_a_restart_and_reinstall_ends_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sub/machines");
    let machines = Machines::open(path.clone()).unwrap();
    machines.booted(&mac(1), "g", "p", true);
    assert_eq!(machines.state(&mac(1)), State::Installing);
    machines.done(&mac(1)).unwrap();
    drop(machines);
    let machines = Machines::open(path.clone()).unwrap();
    assert_eq!(machines.state(&mac(1)), State::Installed);
    assert_eq!(machines.all()[&mac(1)].profile, "p");
    let other_process = Machines::open(path).unwrap();
    other_process.reinstall(&mac(1)).unwrap();
    assert_eq!(
        machines.state(&mac(1)),
        State::New,
        "seen without a restart"
    );
}

#[test]
fn a_forgotten_machine_is_none_in_a_server_that_runs_and_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("machines");
    let server = Machines::open(path.clone()).unwrap();
    let address = "10.0.0.9".parse().unwrap();
    for number in [1, 2] {
        server.observe(&mac(number), Some(address), Step::Boot, "ipxe");
        server.done(&mac(number)).unwrap();
    }
    let command = Machines::open(path.clone()).unwrap();
    command.forget(&mac(2)).unwrap();
    let again = command.forget(&mac(2)).unwrap_err();
    assert!(matches!(again, Error::UnknownMachine(_)), "{again}");
    server.catch_up().unwrap();
    assert_eq!(server.all().keys().collect::<Vec<_>>(), [&mac(1)]);
    assert_eq!(server.at(address), None, "nobody is at its place");
    assert_eq!(Machines::open(path.clone()).unwrap().all().len(), 1);
    server.done(&mac(2)).unwrap();
    let known_again = Machines::open(path).unwrap();
    assert_eq!(known_again.state(&mac(2)), State::Installed);
}

#[test]
fn a_torn_or_foreign_line_loses_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("machines");
    let machines = Machines::open(path.clone()).unwrap();
    machines.done(&mac(1)).unwrap();
    let mut text = fs::read_to_string(&path).unwrap();
    text.push_str("garbage\n{\"mac\":\"52:54");
    fs::write(&path, text).unwrap();
    let machines = Machines::open(path.clone()).unwrap();
    machines.done(&mac(2)).unwrap();
    let machines = Machines::open(path).unwrap();
    assert_eq!(machines.state(&mac(1)), State::Installed);
    assert_eq!(machines.state(&mac(2)), State::Installed);
}

#[test]
fn equal_events_in_a_row_are_counted_and_the_timeline_is_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let machines = Machines::open(directory.path().join("machines")).unwrap();
    let address = "10.0.0.9".parse().ok();
    for _ in 0..3 {
        machines.observe(&mac(1), address, Step::Script, "boot.ipxe");
    }
    for number in 0..EVENTS_MAX {
        machines.observe(&mac(1), None, Step::Packages, &number.to_string());
    }
    assert_eq!(machines.at("10.0.0.9".parse().unwrap()), Some(mac(1)));
    let events = &machines.all()[&mac(1)].events;
    assert_eq!(events.len(), EVENTS_MAX);
    assert_eq!(events.front().map(|event| event.step), Some(Step::Packages));
}

#[test]
fn a_machine_that_does_not_install_once_stays_new() {
    let directory = tempfile::tempdir().unwrap();
    let machines = Machines::open(directory.path().join("machines")).unwrap();
    machines.booted(&mac(1), "g", "p", false);
    assert_eq!(machines.state(&mac(1)), State::New);
}

#[test]
fn what_cannot_be_written_down_is_an_error_and_not_believed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("machines");
    let machines = Machines::open(path.clone()).unwrap();
    // A folder in the file's place cannot be written to, not even by root.
    fs::create_dir(&path).unwrap();
    let error = machines.done(&mac(1)).unwrap_err();
    assert!(error.with_cause().contains("directory"), "{error:?}");
    assert_eq!(machines.state(&mac(1)), State::New);
    fs::remove_dir(&path).unwrap();
    machines.done(&mac(1)).unwrap();
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    machines.reinstall(&mac(1)).unwrap_err();
    assert_eq!(machines.state(&mac(1)), State::Installed);
}

#[test]
fn saying_it_again_writes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("machines");
    let machines = Machines::open(path.clone()).unwrap();
    for _ in 0..3 {
        machines.done(&mac(1)).unwrap();
    }
    assert_eq!(fs::read_to_string(path).unwrap().lines().count(), 1);
}

/// A hardware address of many.
fn numbered(number: usize) -> Mac {
    let [.., high, middle, low] = number.to_be_bytes();
    Mac::parse(&format!("52:54:01:{high:02x}:{middle:02x}:{low:02x}")).unwrap()
}

fn line(mac: &Mac, state: State) -> Line {
    let machine = Machine {
        state,
        since: 7,
        ..Machine::default()
    };
    Line::of(mac, &machine)
}

#[test]
fn installed_machines_are_bounded_too() {
    let directory = tempfile::tempdir().unwrap();
    let machines = Machines::open(directory.path().join("machines")).unwrap();
    for number in 0..=MACHINES_MAX {
        let line = line(&numbered(number), State::Installed);
        machines.table().believe(&line);
    }
    let refused = machines.done(&mac(1));
    assert!(matches!(refused, Err(Error::MachinesFull(_))));
    machines.observe(&mac(1), None, Step::Boot, "");
    assert_eq!(machines.all().len(), MACHINES_MAX);
    machines.reinstall(&numbered(0)).unwrap();
    machines.observe(&mac(1), None, Step::Boot, "");
    let all = machines.all();
    assert!(all.len() <= MACHINES_MAX && all.contains_key(&mac(1)));
}

#[test]
fn made_up_machines_make_way_for_each_other_and_never_for_what_is_installed() {
    let directory = tempfile::tempdir().unwrap();
    let machines = Machines::open(directory.path().join("machines")).unwrap();
    machines.done(&mac(1)).unwrap();
    for number in 0..MACHINES_MAX + 5 {
        machines.observe(&numbered(number), None, Step::Boot, "");
    }
    let all = machines.all();
    assert!(all.len() <= MACHINES_MAX);
    assert!(all.contains_key(&mac(1)) && all.contains_key(&numbered(MACHINES_MAX + 4)));
    assert!(!all.contains_key(&numbered(0)));
}

#[test]
fn the_server_keeps_the_journal_short_while_it_runs_and_loses_nobodys_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("machines");
    let server = Machines::keep(path.clone()).unwrap();
    server.done(&mac(1)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let command = Machines::open(path.clone()).unwrap();
    command.reinstall(&mac(1)).unwrap();
    let long = fs::read_to_string(&path)
        .unwrap()
        .repeat(journal::LINES_MAX);
    fs::write(&path, &long).unwrap();
    Machines::open(path.clone()).unwrap();
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        long,
        "reading changes nothing"
    );
    server.done(&mac(2)).unwrap();
    let short = fs::read_to_string(&path).unwrap();
    assert_eq!(short.lines().count(), 2, "{short}");
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    command.done(&mac(3)).unwrap();
    assert_eq!(server.state(&mac(3)), State::Installed);
    assert_eq!(server.state(&mac(1)), State::New);
    assert_eq!(command.state(&mac(2)), State::Installed);
}

#[test]
fn no_line_is_lost_between_a_server_that_compacts_and_commands_that_append() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("machines");
    let server = Arc::new(Machines::keep(path.clone()).unwrap());
    let appending = Machines::open(path.clone()).unwrap();
    let command = std::thread::spawn(move || {
        let begun = Instant::now();
        for number in 0..200 {
            // While the other writes it gives up after a while, as a machine's request would.
            while appending.state(&numbered(number)) != State::Installing {
                assert!(begun.elapsed() < Duration::from_mins(5), "{number}");
                appending.booted(&numbered(number), "g", "p", true);
            }
        }
    });
    for _ in 0..15 {
        // It gives way to whoever writes just then.
        let compacted = server.write_anew();
        let gave_way = |error: &Error| error.with_cause().contains("locked");
        assert!(
            compacted.as_ref().err().is_none_or(gave_way),
            "{compacted:?}"
        );
        std::thread::yield_now();
    }
    command.join().unwrap();
    let fresh = Machines::open(path).unwrap();
    let lost = (0..200).find(|number| fresh.state(&numbered(*number)) != State::Installing);
    assert_eq!(lost, None);
}

#[test]
fn a_machine_that_was_never_seen_is_not_installed_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("machines");
    let machines = Machines::open(path.clone()).unwrap();
    let unknown = machines.reinstall(&mac(1));
    assert!(
        matches!(unknown, Err(Error::UnknownMachine(_))),
        "{unknown:?}"
    );
    assert!(!path.exists());
    machines.observe(&mac(1), None, Step::Script, "boot.ipxe");
    machines.reinstall(&mac(1)).unwrap();
    assert!(!path.exists(), "it is new already");
}

#[test]
fn only_what_was_served_is_expected_to_be_done() {
    let directory = tempfile::tempdir().unwrap();
    let machines = Machines::open(directory.path().join("machines")).unwrap();
    machines.observe(&mac(1), None, Step::Refused, "done: …");
    assert!(!machines.is_expected(&mac(1)));
    machines.observe(&mac(1), None, Step::Kickstart, "kickstart");
    assert!(machines.is_expected(&mac(1)));
    machines.done(&mac(1)).unwrap();
    machines.reinstall(&mac(1)).unwrap();
    assert!(!machines.is_expected(&mac(1)), "not before it boots again");
}

#[test]
fn what_a_command_writes_does_not_move_a_machine_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("machines");
    let machines = Machines::open(path.clone()).unwrap();
    let at = |last: u8| IpAddr::from([10, 0, 0, last]);
    machines.observe(&mac(1), Some(at(1)), Step::Boot, "");
    machines.done(&mac(1)).unwrap();
    machines.observe(&mac(1), Some(at(2)), Step::Boot, "");
    Machines::open(path).unwrap().reinstall(&mac(1)).unwrap();
    assert_eq!(machines.state(&mac(1)), State::New);
    assert_eq!(
        (machines.at(at(1)), machines.at(at(2))),
        (None, Some(mac(1)))
    );
}

#[test]
fn an_ipv4_address_is_one_whichever_socket_heard_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("machines");
    let machines = Machines::open(path.clone()).unwrap();
    let plain: IpAddr = "10.0.0.9".parse().unwrap();
    let mapped: IpAddr = "::ffff:10.0.0.9".parse().unwrap();
    machines.observe(&mac(1), Some(mapped), Step::Boot, "");
    assert_eq!(machines.at(plain), Some(mac(1)));
    assert_eq!(machines.at(mapped), Some(mac(1)));
    machines.booted(&mac(1), "g", "p", true);
    drop(machines);
    let line = fs::read_to_string(&path).unwrap();
    assert!(line.contains("\"10.0.0.9\""), "{line}");
    fs::write(&path, line.replace("10.0.0.9", "::ffff:10.0.0.9")).unwrap();
    let machines = Machines::open(path).unwrap();
    assert_eq!(machines.all()[&mac(1)].address, Some(plain));
    assert_eq!(machines.at(plain), Some(mac(1)));
}

#[test]
fn a_former_address_is_nobodys() {
    let directory = tempfile::tempdir().unwrap();
    let machines = Machines::open(directory.path().join("machines")).unwrap();
    let at = |last: u8| IpAddr::from([10, 0, 0, last]);
    machines.observe(&mac(1), Some(at(1)), Step::Boot, "");
    machines.observe(&mac(1), Some(at(2)), Step::Boot, "");
    assert_eq!(
        (machines.at(at(1)), machines.at(at(2))),
        (None, Some(mac(1)))
    );
    machines.observe(&mac(2), Some(at(2)), Step::Boot, "");
    machines.observe(&mac(1), Some(at(3)), Step::Boot, "");
    assert_eq!(machines.at(at(2)), Some(mac(2)), "its next tenant's");
}

#[test]
fn a_journal_without_a_directory_lies_in_the_working_directory() {
    // A name that no other test and no file here has; the working directory is the crate's.
    let directory = tempfile::tempdir_in(".").unwrap();
    let name = format!("{}.jsonl", directory.path().file_name().unwrap().display());
    let machines = Machines::keep(PathBuf::from(&name)).unwrap();
    let done = machines.done(&mac(1));
    let written = machines.write_anew();
    let mode = fs::metadata(&name).map(|it| it.permissions().mode() & 0o777);
    fs::remove_file(&name).unwrap();
    done.unwrap();
    written.unwrap();
    assert_eq!(mode.unwrap(), 0o600, "nobody else can lock it");
}

#[test]
fn another_process_that_holds_the_lock_keeps_no_machine_from_its_answer() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("machines");
    let server = Machines::keep(path.clone()).unwrap();
    server.done(&mac(1)).unwrap();
    let held = Locked::at(&path, Instant::now()).unwrap();
    std::thread::scope(|scope| {
        let turn = server.turn.lock().unwrap();
        // Whoever waits for the lock has the turn, and nothing that a question needs.
        assert_eq!(
            scope.spawn(|| server.state(&mac(1))).join().unwrap(),
            State::Installed
        );
        drop(turn);
    });
    server.booted(&mac(2), "g", "p", true);
    assert_eq!(
        server.state(&mac(2)),
        State::New,
        "not remembered, and tried again"
    );
    drop(held);
    server.booted(&mac(2), "g", "p", true);
    assert_eq!(server.state(&mac(2)), State::Installing);
}

#[test]
fn an_open_journal_is_closed_to_others_and_a_pipe_is_none() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("machines");
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    Machines::keep(path.clone()).unwrap();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    let pipe = directory.path().join("pipe");
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, fifo, 0o600.into(), 0).unwrap();
    let refused = Machines::open(pipe).unwrap_err().with_cause();
    assert!(refused.contains("is a pipe"), "{refused}");
}

#[test]
fn a_journal_that_cannot_be_written_anew_is_not_tried_at_every_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("machines");
    let server = Machines::keep(path.clone()).unwrap();
    server.done(&mac(1)).unwrap();
    let long = fs::read_to_string(&path)
        .unwrap()
        .repeat(journal::LINES_MAX + 1);
    fs::write(&path, &long).unwrap();
    server.catch_up().unwrap();
    assert!(server.journal().is_long(1));
    let mut locked = Locked::at(&path, Instant::now()).unwrap();
    // Its name is gone before the new file can take its place.
    fs::remove_file(&path).unwrap();
    server
        .journal()
        .compact(&mut locked, |_| Vec::new())
        .unwrap_err();
    assert!(!server.journal().is_long(1));
}
